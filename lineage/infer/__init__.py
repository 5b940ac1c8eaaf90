"""Parents and recipes from fingerprints. Knows nothing of storage or of the Hub."""

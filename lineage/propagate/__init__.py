"""Advisories to exposures. Knows nothing of where things are stored."""

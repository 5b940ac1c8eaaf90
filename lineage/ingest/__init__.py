"""The jobs: crawl, add, import, infer. Wires sources, weights, fingerprints and store."""

"""What we keep of an artifact: digests, linear sketches, probes, stats, and the file they lie in.

Knows nothing of other models.
"""

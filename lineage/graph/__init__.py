"""The graph of revisions: the Store interface, its implementations, traversal.

Knows nothing of weights.
"""

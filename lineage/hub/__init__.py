"""Sources of repositories: the Hub and local folders; what they list, claim and let us read.

Knows nothing of what the tensors mean.
"""

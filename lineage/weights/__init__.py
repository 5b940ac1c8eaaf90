"""Readers of weight files: tensors in bounded chunks, and the roles their names tell.

Knows nothing of the Hub beyond `Blob`, nothing of hashing; needs numpy, not torch.
"""

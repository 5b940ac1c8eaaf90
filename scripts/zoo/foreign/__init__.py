"""A zoo unlike the others: other architectures, training, tools and tricks, with known truth."""

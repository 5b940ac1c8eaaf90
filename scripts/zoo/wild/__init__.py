"""A zoo of what the Hub has and the other zoos have not: light hands, lost parents, odd stacks."""

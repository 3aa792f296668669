"""Which channels of a network belong together, followed number by number through one forward pass."""

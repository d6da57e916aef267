"""The recipe of the shipped model: vision and language apart, then both together."""

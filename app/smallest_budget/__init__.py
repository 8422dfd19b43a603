"""The fewest tokens that keep an answer."""

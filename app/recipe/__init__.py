"""A setting, written for other programs."""

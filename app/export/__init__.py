"""Everything that a visitor sees, as one ZIP."""

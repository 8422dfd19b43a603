"""The view for an audience."""

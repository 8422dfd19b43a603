"""The link that restores what a visitor sees."""

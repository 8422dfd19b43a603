"""Compare: up to four settings side by side."""

"""Which models are loaded, for whom, and who makes room."""

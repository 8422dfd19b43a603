"""The plan of a setting that drops tokens between layers: its box, its chart, published schedules."""

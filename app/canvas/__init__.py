"""The live canvas: its data, exact selections, cards, forced patches, overlays."""

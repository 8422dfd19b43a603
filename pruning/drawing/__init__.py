"""Overlays (OpenCV) and figures (matplotlib)."""

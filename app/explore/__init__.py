"""Explore, the first view: where things stand and what their events do."""

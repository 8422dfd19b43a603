"""Prompts, generation and the cache of a conversation; stages between the layers, rows beside their kernel."""

"""Prompts, generation and the cache of a conversation."""

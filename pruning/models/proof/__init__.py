"""Proofs that an adapter answers as the library does."""

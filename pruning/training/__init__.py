"""Trains a model of the drawn worlds and importance scorers, for any model, on CPU or GPU."""

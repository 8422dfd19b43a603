"""How the shipped model and its importance scorer were trained; reproduces both, on CPU or GPU."""

"""The trade-off: the plane and the fidelity curves."""

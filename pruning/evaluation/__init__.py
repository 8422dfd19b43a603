"""What is measured: metrics, cost, the plane, fidelity, inspection, time."""

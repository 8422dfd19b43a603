"""What methods ask of a tower: attention, keys, values, entropy."""

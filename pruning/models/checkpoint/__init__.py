"""From a name to weights on a device: sources, hub, memory, presets."""

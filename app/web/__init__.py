"""What every view stands on: controls, events, markup, looks, limits of requests."""

"""The procedural question set: what the shipped model was trained on and is measured with."""

"""The way out of this project: a setting in somebody's own code, written for other engines, and proved elsewhere."""

"""Many images: one setting over all of them."""

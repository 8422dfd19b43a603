"""One model at work: encoding, selection, cache, device."""

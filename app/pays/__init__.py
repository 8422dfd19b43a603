"""Does it pay here? The present setting against all tokens and other encodings, at several requests at once."""

"""What the model says with all tokens and with the kept ones: streamed, batched, reported."""

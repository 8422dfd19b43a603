"""Training runs under the operator's folder: their curves, and what the module of the last checkpoint keeps."""

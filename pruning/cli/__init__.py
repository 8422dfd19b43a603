"""The same work without a browser, a file per command."""

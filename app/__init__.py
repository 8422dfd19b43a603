"""The web face: the only package that knows Gradio, and there only `ui`, `controls` and `handlers` do."""

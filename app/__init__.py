"""The web face: the only package that knows Gradio, and there only a room's `page`, `explore`, `web` and `ui` do."""

"""The page's HTML: what the library's macros write, safe in the components that show it."""

from __future__ import annotations

from markupsafe import Markup

from pruning import templates

SIGNS = {sign: f"&#{ord(sign)};" for sign in "${}`"}  # of the component's own templates, `${…}` and `{{…}}`


def render(name: str, /, **values: object) -> Markup:
    """As `pruning.templates.render`, without what a component of Gradio would take for its own."""
    written = str(templates.render(name, **values))
    for sign, entity in SIGNS.items():
        written = written.replace(sign, entity)
    return Markup(written)

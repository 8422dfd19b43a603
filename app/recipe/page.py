"""The view "Use this setting": a tab for every program, with a button that copies, and its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.model_pool.pool import Models
from app.recipe import views as recipe_views
from app.recipe.write import written
from app.session import Session
from app.web.controls import Present
from app.web.errors import owner, report_errors
from app.web.events import LIGHT_WORK, QUIET, html
from pruning.handover.recipes import PROGRAMS

TIPS = {
    "tab Use this setting": "The present setting, ready to paste: for this library, plain transformers, other engines",
    "#recipe-write": "Write what Explore shows now for every program",
    **{f"tab {title}": f"The setting for {title[0].lower()}{title[1:]}" for _, title, _ in PROGRAMS[:3]},
    **{f"tab {title}": f"The setting for {title}, or why it cannot be served there" for _, title, _ in PROGRAMS[3:]},
}
LANGUAGES = {"python": "python", "bash": "shell", "yaml": "yaml"}


@dataclass(frozen=True)
class RecipePage:
    """notes, texts: of every program, in their order."""

    tab: gr.Tab
    write: gr.Button
    notes: tuple[gr.HTML, ...]
    texts: tuple[gr.Code, ...]


def place_recipe(views: gr.Tabs) -> RecipePage:
    """The tab with all of it, after those that `views` has."""
    notes, texts = list[gr.HTML](), list[gr.Code]()
    with views, gr.Tab("Use this setting", id="recipe") as tab, gr.Column(elem_id="recipe"):
        with gr.Row(elem_classes="view-tools"):
            write = gr.Button("Write present setting", size="sm", min_width=0, elem_id="recipe-write")
        with gr.Tabs():
            for name, title, language in PROGRAMS:
                with gr.Tab(title, id=f"recipe-{name}"):
                    notes.append(html("", f"recipe-note-{name}"))
                    texts.append(
                        gr.Code(
                            language=LANGUAGES[language],  # type: ignore[arg-type]
                            label=title,
                            interactive=False,
                            wrap_lines=True,
                            elem_id=f"recipe-text-{name}",
                        )
                    )
    return RecipePage(tab, write, tuple(notes), tuple(texts))


def wire_recipe(page: RecipePage, models: Models, present: Present, inputs: list[Any]) -> None:
    """inputs: the components that `present` reads, the session before them."""
    events = RecipeEvents(models, present)
    for chosen in (page.tab.select, page.write.click):
        chosen(events.write, inputs, [*page.notes, *page.texts], **LIGHT_WORK, **QUIET)


class RecipeEvents:
    """Bound to one page's models; `present` gives the setting that its controls say."""

    def __init__(self, models: Models, present: Present) -> None:
        self.models, self.present = models, present

    @report_errors
    def write(self, request: gr.Request, session: Session, *settings: Any) -> list[Any]:
        """The note of every program, then the text of each."""
        with self.models.use(session.model_name, owner(request)) as (engine, capabilities):
            found = written(engine, session, self.present(capabilities, session, settings))
        texts = [gr.update(value=each.text, visible=bool(each.text)) for each in found]
        return [*map(recipe_views.note, found), *texts]

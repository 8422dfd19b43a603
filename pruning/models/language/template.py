"""The chat template of a checkpoint: a program of its maker's. Whatever goes wrong in it becomes a ModelError."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

from pruning.models.values import Kind, ModelError, Turn

NAMES = {"image": "pictures", "video": "clips"}
QUESTION = "What is this?"  # what a template is tried with
QUOTED = 160  # characters of a line that are shown: many templates are one long line
FILMS = "choose a model that was made for clips, such as a Qwen2.5-VL, or ask about a picture"
REMEDY = (
    "put the chat template of the original checkpoint in its place (chat_template.jinja), or choose another model; "
    "those for text alone do not fit"
)


def default(template: Any) -> Any:
    """The template that is meant where there are several by name."""
    return template.get("default", template) if isinstance(template, dict) else template


def check(tokenizer: Any, template: Any, mark: str) -> None:
    """Raise ModelError unless the template writes a picture, as one `mark`, and a question."""
    if not isinstance(template, str):
        found = f"templates by the names {', '.join(map(repr, template))}" if isinstance(template, dict) else template
        raise ModelError(f"the chat template must be one text or named 'default', not {found!s:.200}: {REMEDY}")
    if QUESTION not in render(tokenizer, template, QUESTION, (), [("image", mark)]):
        raise ModelError(f"the chat template leaves out the question: {REMEDY}")


def check_clips(tokenizer: Any, template: str, mark: str) -> None:
    """Raise ModelError unless the template writes a clip, as one `mark`."""
    render(tokenizer, template, QUESTION, (), [("video", mark)])


def render(
    tokenizer: Any,
    template: str,
    question: str,
    history: Sequence[Turn],
    media: Sequence[tuple[Kind, str]],
) -> str:
    """The conversation up to the answer to `question` as text; its media come before the first question, each as its
    mark, in their order.

    media: kind and mark of each. Raises ModelError, with the template's line where it is known.
    """
    messages: list[dict[str, Any]] = []
    for turn in history:
        messages.append({"role": "user", "content": [{"type": "text", "text": turn.question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    messages.append({"role": "user", "content": [{"type": "text", "text": question}]})
    messages[0]["content"] = [*({"type": kind} for kind, _ in media), *messages[0]["content"]]
    try:
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # whatever a stranger's program raises
        reason = (str(error).strip() or "no message").splitlines()[0]
        place = _line(template, error)
        raise ModelError(
            f"the chat template cannot write pictures and questions ({type(error).__name__}: {reason}{place}): {REMEDY}"
        ) from error
    if not isinstance(rendered, str):
        raise ModelError(f"the chat template gives {type(rendered).__name__} in place of text: {REMEDY}")
    for kind, mark in dict.fromkeys(media):
        given = media.count((kind, mark))
        if rendered.count(mark) != given:
            raise ModelError(
                f"the chat template writes {rendered.count(mark)} {kind} tokens {mark!r} for {given} {NAMES[kind]}: "
                f"{FILMS if kind == 'video' else REMEDY}"
            )
    marks = [mark for _, mark in media]
    if marks != re.findall("|".join(map(re.escape, dict.fromkeys(marks))), rendered)[: len(marks)]:
        raise ModelError("the chat template writes clips before pictures: ask about them one by one")
    return rendered


def _line(template: str, error: Exception) -> str:
    """The line at which a template failed, quoted; "" where that is not known."""
    lines = template.splitlines()
    number = getattr(error, "lineno", None)  # of one that does not parse
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<template>":
            number = frame.lineno
    if not isinstance(number, int) or not 1 <= number <= len(lines):
        return ""
    line = lines[number - 1].strip()
    return f"; line {number}: {line[:QUOTED]}" + "…" * (len(line) > QUOTED)

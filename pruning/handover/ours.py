"""Recipes for what this project brings: library, plain transformers with `Pruner`, command line, lmms-eval plug-in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pruning.choosing import name_of
from pruning.grids import SCOPES
from pruning.handover.wanted import Recipe, Wanted, knobs_of, methods_in, python, refused
from pruning.models.checkpoint import sources
from pruning.models.checkpoint.processing import needs_torchvision
from pruning.models.families.gemma3 import Gemma3
from pruning.models.values import POSITIONS
from pruning.params import LAMBDA
from pruning.plan import Plan
from pruning.published import Published

NEW_TOKENS = 64
KNOB = "knob."  # in a link to the page: a knob's name follows
PAGE = "http://127.0.0.1:7860/"  # where idpruner-lab opens by default
FORCED = "Tokens that were forced by hand belong to one picture and are left out."


def library(wanted: Wanted) -> Recipe:
    imports, method = python(wanted.asked)
    opens, opened = _clip(wanted) or ("from pruning.images import open_image", f"open_image({wanted.image!r})")
    imports = sorted([
        *imports,
        "from pruning.choosing import choose, needs_of",
        opens,
        "from pruning.models import load",
    ])  # fmt: skip
    positions = "" if wanted.positions == POSITIONS[0] else f"positions={wanted.positions!r}, "
    retention = None if wanted.fixed else wanted.retention
    lines = [
        *imports,
        "",
        f"vlm = load({wanted.model!r}{_named(wanted)})",
        f"method = {method}",
        f"image, question = {opened}, {wanted.question!r}",
        "encoded = vlm.encode([image], needs_of(method) - {'question'})",
        "tokens = vlm.tokens(encoded, question, needs_of(method))",
        f"kept = choose(method, tokens, vlm.layers, {retention!r}, {wanted.per!r}, "
        "lambda asked: vlm.encode([image], asked=asked))",
        f"print(vlm.answer(encoded, question, kept, {positions}max_new_tokens={NEW_TOKENS}).text)",
    ]
    return _said("library", "This library", "python", lines, "Nothing differs: it is what this program ran.", wanted)


def transformers(wanted: Wanted) -> Recipe:
    name, title = "transformers", "Plain transformers"
    imports, method = python(wanted.asked)
    more = "" if wanted.per == SCOPES[0] else f", per={wanted.per!r}"
    more += "" if wanted.positions == POSITIONS[0] else f", positions={wanted.positions!r}"
    more += _named(wanted)
    retention = None if wanted.fixed else wanted.retention
    shipped, clip = wanted.model in sources.NAMED, _clip(wanted)
    opened = clip[1] if clip else f"Image.open({wanted.image!r})"
    generate = f"output = model.generate(**inputs, do_sample=False, max_new_tokens={NEW_TOKENS})"
    windowed = wanted.model_type in Gemma3.model_types  # whose windows are kept in place there
    lines = [
        *([] if clip else ["from PIL import Image"]),
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        *sorted(
            [
                "from pruning import Pruner",
                *imports,
                *(["from pruning.models import SHIPPED"] if shipped else []),
                *clip[:1],
            ]
        ),
        "",
        f"name = {'SHIPPED' if shipped else repr(wanted.model)}",
        "model = AutoModelForImageTextToText.from_pretrained(name).eval()",
        "processor = AutoProcessor.from_pretrained(name)",
        f"pruner = Pruner(model, processor, {method}, {retention!r}{more})",
        f"inputs = pruner({opened}, {wanted.question!r})",
        *(["with pruner.stages(inputs):", f"    {generate}"] if wanted.staged or windowed else [generate]),
        "print(processor.batch_decode(output[:, inputs.prompt_length :], skip_special_tokens=True)[0])",
    ]
    note = (
        "The processor's own pixel limits hold, where this program scales pictures down to 4,096 tokens; the model is "
        "in the checkpoint's dtype."
    )
    if needs_torchvision(wanted.model_type):
        note += " Its processor takes clips too, for which the library needs torchvision: pip install torchvision."
    return _said(name, title, "python", lines, note, wanted)


def command_line(wanted: Wanted) -> Recipe:
    name, title = "command_line", "Command line"
    told = _one_value_each(wanted)
    if isinstance(told, str):
        return refused(name, title, "bash", told)
    what = "--plan" if wanted.fixed else "--method"
    parts = ["idpruner", "answer", wanted.image, wanted.question, "--model", wanted.model, what, name_of(wanted.asked)]
    parts += [] if wanted.fixed else ["--retention", f"{wanted.retention:g}"]
    parts += [] if wanted.per == SCOPES[0] else ["--per", wanted.per]
    parts += [] if wanted.positions == POSITIONS[0] else ["--positions", wanted.positions]
    if (taken := wanted.sampling) is not None:
        parts += ["--fps", f"{taken.rate:g}", "--max-frames", f"{taken.frames}"]
    parts += [part for option, source in wanted.weights.items() for part in (f"--{option}", source)]
    parts += [part for knob, value in told.items() for part in (f"--{knob.replace('_', '-')}", f"{value}")]
    return _said(name, title, "bash", [shlex.join(parts)], "Nothing differs: it is what this program ran.", wanted)


def lmms_eval(wanted: Wanted) -> Recipe:
    """For the plug-in `pruning.race.harness`, whose arguments lmms-eval parts at commas outside quotes and braces."""
    name, title, told = "lmms_eval", "lmms-eval", _one_value_each(wanted)
    if isinstance(told, str):
        return refused(name, title, "bash", told)
    what = "plan" if wanted.fixed else "method"
    values = {"pretrained": _quoted(wanted.model), what: _quoted(name_of(wanted.asked))}
    values |= {} if wanted.fixed else {"retention": f"{wanted.retention:g}"}
    values |= {"knobs": json.dumps(told, separators=(",", ":"))} if told else {}
    values |= {} if wanted.per == SCOPES[0] else {"per": wanted.per}
    values |= {} if wanted.positions == POSITIONS[0] else {"positions": wanted.positions}
    values |= {option: _quoted(source) for option, source in wanted.weights.items()}
    task, taken = "textvqa_val", wanted.sampling
    if taken is not None:
        task, values = "videomme", values | {"fps": f"{taken.rate:g}", "max_frames": f"{taken.frames}"}
    arguments = ",".join(f"{key}={value}" for key, value in values.items())
    parts = ["lmms_eval", "--model", "idpruner_lab", "--model_args", arguments, "--tasks", task, "--batch_size", "1"]
    note = (
        f"Name your own tasks in the place of {task}; this project has to be installed beside lmms-eval. Prompts are "
        "the task's, decoding is greedy."
    )
    return _said(name, title, "bash", [shlex.join(parts)], note, wanted)


def page(wanted: Wanted) -> str:
    """The address that opens the setting in the app. Its sliders have weights in the place of λ: λ and 1 − λ.

    >>> from pruning.method import make
    >>> page(Wanted(make("idpruner", mmr_lambda=0.7), 0.1, "scenes", "qwen2_5_vl"))[22:]
    '?method=idpruner&retention=0.1&knob.importance=scorer&importance=0.7&diversity=0.3'
    """
    told: dict[str, Any] = {} if wanted.model in sources.NAMED else {"model": wanted.model}
    if isinstance(wanted.asked, Plan | Published):
        told["plan"] = name_of(wanted.asked)
    else:
        told |= {"method": wanted.asked.name, "retention": f"{wanted.retention:g}"}
        told |= {KNOB + knob: value for knob, value in knobs_of(wanted.asked).items()}
    if (value := told.pop(KNOB + LAMBDA, None)) is not None:
        told |= {"importance": f"{value:g}", "diversity": f"{1 - value:g}"}
    told |= {} if wanted.per == SCOPES[0] else {"per": wanted.per}
    told |= {} if wanted.positions == POSITIONS[0] else {"positions": wanted.positions}
    return f"{PAGE}?{urlencode(told)}"


def _one_value_each(wanted: Wanted) -> Mapping[str, Any] | str:
    """The knobs that say something, of all methods in it; where two have other values of one, why a command cannot."""
    told: dict[str, Any] = {}
    for method in methods_in(wanted.asked):
        for knob, value in knobs_of(method).items():
            if told.setdefault(knob, value) != value:
                return f"its methods have other values of {knob}, and one command has one"
    return told


def _named(wanted: Wanted) -> str:
    """Further arguments in Python: where scorer and trained pruner come from."""
    return "".join(f", {option}={source!r}" for option, source in wanted.weights.items())


def _quoted(value: str) -> str:
    return f'"{value}"' if "," in value else value


def _clip(wanted: Wanted) -> tuple[str, ...]:
    """Of a clip the line that imports what opens it, and the expression that does; () of a picture."""
    if (taken := wanted.sampling) is None:
        return ()
    opened = f"open_clip({wanted.image!r}, rate={taken.rate:g}, frames={taken.frames})"
    return "from pruning.video import open_clip", opened


def _said(name: str, title: str, language: str, lines: list[str], note: str, wanted: Wanted) -> Recipe:
    note = f"{note} {FORCED}" if wanted.forced else note
    return Recipe(name, title, language, "\n".join(lines) + "\n", note)

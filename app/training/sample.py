"""What the module of a run's checkpoint keeps of a held-out picture, beside others. Knows no page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from app.canvas.overlays import ALONE, Overlay, view
from app.engine.engine import Engine
from app.engine.resources import PICTURES_ALONE
from app.session import Session, Setting
from app.web.uploads import VARIABLE
from pruning.budget import keep_count
from pruning.importance import signals_for
from pruning.method import make
from pruning.models.scorer import WEIGHTS, Scorer, load_scorer
from pruning.models.trained import load_pruner
from pruning.models.values import ModelError
from pruning.training.objective import new_scorer
from pruning.training.records import held_out
from pruning.training.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.models.trained import Trained
    from pruning.tokens import Selection, VisualTokens

PLACES = 64  # pictures that may be looked at
TITLES = {"scorer": "The model’s scorer", "vision_attention": "Attention in the tower", "feature_norm": "Feature norm"}


@dataclass(frozen=True)
class Side:
    """common: how many of the tokens that are kept here the trained module keeps too."""

    title: str
    overlay: Overlay
    common: int


@dataclass(frozen=True)
class Sample:
    """A held-out question, and what each keeps of its picture: the trained module first, as after `step` steps, 0: of a
    run that kept the last one alone.
    """

    question: str
    answer: str
    step: int
    sides: tuple[Side, ...]


def sample(engine: Engine, run: Run, place: int, retention: float, at: float | None = None) -> Sample:
    """The held-out picture at `place`, from 1: by the module as it was after `at` steps, or at the last checkpoint
    before; by the same one untrained, and by what the model has without either. at None: as it is now.

    Raises ValueError for a place or retention out of range, a run without a module, and one that was trained for
    another model than the engine's, as `load_pruner`.
    """
    if type(place) is not int or not 1 <= place <= PLACES:
        raise ValueError(f"held-out picture {place!r} is not there: choose one from 1 to {PLACES}")
    seed = run.plan["seed"]
    modules = run.modules
    step = max((step for step in modules if at is None or step <= at), default=min(modules, default=0))
    name, module = _module(engine, run, modules.get(step, run.path))
    record, path = held_out(seed).at(place - 1), Path(os.environ[VARIABLE]) / f"training-{seed}-{place}.png"
    if not path.exists():
        record.picture().save(path)
    picture, _ = engine.resources.pictures.open(str(path), no_clips=PICTURES_ALONE)
    session = Session(engine.name, (picture,), (record.question,))
    source = next(each for each in TITLES if each != name and signals_for(each) <= engine.vlm.signals)
    reference = make("greedy_importance", importance=source)
    tokens = engine.tokens(session, frozenset({"question"}))
    method = make("vision_selector" if name == "scorer" else name)
    chosen = {method.title: module, "Untrained": _untrained(module, seed)}
    kept = {
        title: method.select(tokens.with_signals({name: _scores(each, tokens)}), keep_count(tokens.n, retention))
        for title, each in chosen.items()
    }
    kept[TITLES[source]] = engine.selection(session, Setting(reference, retention))
    first = kept[method.title]
    seen = view(engine.encoded(session), 0, engine.images(session)[0], ALONE)

    def side(title: str, selection: Selection) -> Side:
        painted = Overlay(seen.painted(selection, "dimmed", None, None), len(selection.indices), selection.n)
        return Side(title, painted, int((first.mask & selection.mask).sum()))

    return Sample(record.question, record.answer, step, tuple(side(title, each) for title, each in kept.items()))


def _module(engine: Engine, run: Run, folder: Path) -> tuple[str, Trained | Scorer]:
    """The signal that it gives, and the module on the CPU."""
    try:
        if (folder / WEIGHTS).is_file():
            return "scorer", load_scorer(folder, int(engine.vlm.config.get_text_config().hidden_size)).cpu()
        name, module = next(iter(load_pruner(folder, engine.vlm.model).items()))
    except ModelError as error:
        remedy = f"This run is of {run.plan.get('model')!r}: choose that model on the view Explore"
        raise ValueError(f"{error}. {remedy}") from error
    return name, module.cpu()


def _untrained(module: Trained | Scorer, seed: int) -> Trained | Scorer:
    """As the run began."""
    if isinstance(module, Scorer):
        return new_scorer(module.q_proj.in_features, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return type(module)(**module.sizes).eval()


def _scores(module: Trained | Scorer, tokens: VisualTokens) -> Tensor:
    features = tokens.features.cpu()
    with torch.no_grad():
        found: Tensor = module(features) if isinstance(module, Scorer) else module(features, tokens.signal("question"))
    return found

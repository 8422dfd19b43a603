"""What the module of a run's checkpoint keeps of a held-out picture, beside others. Knows no page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from app.canvas.overlays import ALONE, Overlay, view
from app.engine import remote
from app.engine.engine import Engine
from app.engine.resources import PICTURES_ALONE
from app.session import Session, Setting
from app.web.uploads import VARIABLE
from pruning.budget import keep_count
from pruning.evaluation.lives import endurance
from pruning.importance import signals_for
from pruning.method import make
from pruning.models.scorer import WEIGHTS, Scorer, load_scorer
from pruning.models.trained import ATPLLaVA, QTSplus, load_pruner
from pruning.models.values import ModelError
from pruning.models.values import Sample as Request
from pruning.runnable import REGISTERED
from pruning.tokens import Selection
from pruning.training.atp_llava import new_thresholds, plan_within
from pruning.training.objective import new_scorer
from pruning.training.qtsplus import new_selector
from pruning.training.records import held_out
from pruning.training.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.models.trained import Trained
    from pruning.tokens import VisualTokens

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
    trained = REGISTERED["vision_selector" if name == "scorer" else name].title
    kept = {
        title: _kept(engine, session, name, each, tokens, retention)
        for title, each in {trained: module, "Untrained": _untrained(engine, module, seed)}.items()
    }
    kept[TITLES[source]] = engine.selection(session, Setting(reference, retention))
    first = kept[trained]
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


def _untrained(engine: Engine, module: Trained | Scorer, seed: int) -> Trained | Scorer:
    """As the run began."""
    if isinstance(module, Scorer):
        return new_scorer(module.q_proj.in_features, torch.Generator().manual_seed(seed))
    if isinstance(module, ATPLLaVA):
        return new_thresholds(**module.sizes, seed=seed).eval()
    if isinstance(module, QTSplus):
        return new_selector(engine.vlm, seed).eval()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return type(module)(**module.sizes).eval()


def _kept(
    engine: Engine, session: Session, name: str, module: Trained | Scorer, tokens: VisualTokens, retention: float
) -> Selection:
    """What the module keeps of the tokens; between layers those that live longest, where as many are left in the mean
    of the layers behind its first cut.
    """
    k = keep_count(tokens.n, retention)
    if not isinstance(module, ATPLLaVA):
        method = make("vision_selector" if name == "scorer" else name)
        return method.select(tokens.with_signals({name: _scores(module, tokens)}), k)
    plan = plan_within(tokens.n, engine.vlm.layers, retention)
    asked = Request(engine.encoded(session), session.first, plan)
    key = remote.hold(engine.vlm.beside({name: module.to(engine.vlm.device)}))
    try:
        trace = engine.on_device(partial(remote.trace, key, asked))
    finally:
        remote.release(key)
    return Selection(endurance(trace)[:k], tokens.n)


def _scores(module: Trained | Scorer, tokens: VisualTokens) -> Tensor:
    features = tokens.features.cpu()
    with torch.no_grad():
        found: Tensor = module(features) if isinstance(module, Scorer) else module(features, tokens.signal("question"))
    return found

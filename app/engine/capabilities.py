"""What one model can be asked to do: its methods, its importance sources, and in plain words what it cannot and why.

No Gradio: the page's menus and the named endpoints read the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.engine import remote
from app.session import MAX_PLAN
from pruning import runnable
from pruning.choosing import Asked, Fixed, methods_of, needs_of
from pruning.encoding import EncodingMethod
from pruning.evaluation.paying import SAVES
from pruning.importance import best_source, sources_for
from pruning.method import METHODS, Method
from pruning.params import SOURCE
from pruning.plan import FORM
from pruning.runnable import REGISTERED, Started
from pruning.signals import ASKING, FUNCTIONS
from pruning.staged import STAGED, StagedMethod

if TYPE_CHECKING:
    from pruning.models import VLM

FIRST, BEST = "idpruner", "scorer"  # what the menus begin with
REFUSED = "✕"  # begins the menu line of what cannot run; the style sheet greys such lines
INSIDE, ANEW, CLIPS = "inside the LLM", "before the tower", "for clips"
GROUPS = ("importance", "attention", "question", "features", "merging", "baseline", INSIDE, ANEW, CLIPS)


class Capabilities:
    """`methods` can run, in the menu's order; `refused` says of every other why it cannot."""

    def __init__(self, vlm: VLM) -> None:
        self.title, self.signals, self.notes = vlm.title, vlm.signals, vlm.notes
        self.source = best_source(vlm.signals)
        self._no_stages, self._encodings = vlm.no_stages, vlm.encodings
        self.refused = {name: reason for name in REGISTERED if (reason := self._reason(name))}
        self.methods = tuple(sorted((name for name in REGISTERED if name not in self.refused), key=_rank))

    def menu(self, images: int, clips: bool = False) -> list[tuple[str, str]]:
        """(line, key) of every method: IDPruner, group by group, then what needs more than so many images, or clips
        where there are none, and last what this model cannot run.
        """
        waits = {name: why for name in self.methods if (why := _waits(name, images, clips))}
        lines = [(_line(name), name) for name in self.methods if name not in waits]
        lines += [(f"{REFUSED} {_line(name)} · {why}", name) for name, why in waits.items()]
        refused = sorted(self.refused, key=_rank)
        return lines + [(f"{REFUSED} {REGISTERED[name].title} · not with this model", name) for name in refused]

    def sources(self) -> list[str]:
        """The importance sources that this model can serve, best first."""
        return sources_for(self.signals)

    def check(self, name: object) -> str:
        """The method's key. Raises ValueError for one that is unknown or cannot run with this model."""
        if not isinstance(name, str) or name not in REGISTERED:
            raise ValueError(f"unknown method {name!r}: choose one of {', '.join(self.methods)}")
        if name in self.refused:
            raise ValueError(f"{self.refused[name]}. {runnable.REMEDY}")
        return name

    def why_not(self, asked: Asked, images: int | None = None) -> str:
        """Why this model cannot run what is asked for on so many images; "" where it can. None = not known yet."""
        return runnable.why_not(asked, self.title, self.signals | self._encodings, images)

    def plan(self, text: object, knobs: Mapping[str, Any] | None = None) -> Fixed:
        """A plan from its text, or the published schedule of that name. Raises ValueError as `runnable.plan_for`, and
        for a method in it that cannot run with this model.
        """
        if not isinstance(text, str) or len(text) > MAX_PLAN:
            raise ValueError(f"plan is {repr(text)[:60]}: it must be a text of at most {MAX_PLAN} characters; {FORM}")
        plan = runnable.plan_for(self.signals, text.strip(), knobs)
        for name in methods_of(plan):
            self.check(name)
        if reason := self.why_not(plan):
            raise ValueError(f"{reason}. {runnable.REMEDY}")
        return plan

    def about(self, name: str) -> str:
        """What a reader should know of the method here: paper, what is adapted, what stands in for a signal."""
        if name in self.refused:
            return self.refused[name] + "."
        method = self.default(name)
        kinds = {need.partition("@")[0] for need in method.needs} if isinstance(method, Method) else set[str]()
        stand_ins = [self.notes[kind] for kind in sorted(kinds) if kind in self.notes]
        if method.has(SOURCE) and self.source != BEST:
            stand_ins.insert(0, f"{self.title} has no trained scorer: {self.source.replace('_', ' ')} in its place")
        saves = f"Saves: {', '.join(SAVES[method.stage])}"
        return " · ".join(part.rstrip(".") for part in (method.source, method.adaptation, *stand_ins, saves) if part)

    def default(self, name: str) -> Started:
        """The method as the menu starts it: its own defaults, and the best importance source there is."""
        return runnable.started(self.signals, name)

    def _reason(self, name: str) -> str:
        method = self.default(name)
        if isinstance(method, StagedMethod) and self._no_stages:
            return f"{method.title} prunes inside the language model: {self._no_stages}"
        if reason := self.why_not(method):
            return reason
        needs = frozenset() if isinstance(method, EncodingMethod) else needs_of(method)
        return f"{method.title} {remote.REFUSAL}" if remote.is_remote() and needs & FUNCTIONS else ""


def group(name: str) -> str:
    """What the method goes by, in one word: the menu is ordered by it, and found by typing it."""
    cls = REGISTERED[name]
    if name in STAGED:
        return INSIDE
    if issubclass(cls, EncodingMethod):
        return ANEW
    if cls.clips:
        return CLIPS
    needs = {need.partition("@")[0] for need in cls().needs}
    if "tower" in needs:
        return "attention"
    if cls.merges:
        return "merging"
    if cls.has(SOURCE) or "scorer" in needs:
        return "importance"
    if needs & ASKING:
        return "question"
    if needs & {"vision_attention", "vision_attention_map", "vision_keys", "vision_values"}:
        return "attention"
    return "features" if cls.paper else "baseline"


def _line(name: str) -> str:
    title, kind = REGISTERED[name].title, group(name)
    return title if title.endswith(kind) else f"{title} · {kind}"


def _waits(name: str, images: int, clips: bool) -> str:
    """Why the method is of no use for what is uploaded; "" where it is."""
    needed = STAGED[name].images if name in STAGED else 1
    if images < needed:
        return f"{needed} images or more"
    if group(name) in (CLIPS, ANEW) and REGISTERED[name].clips and not clips:
        return "a picture has one frame"
    alone = group(name) == ANEW or (name in METHODS and "patch_entropy" in METHODS[name]().needs)
    return "for pictures alone" if alone and clips and not REGISTERED[name].clips else ""


def _rank(name: str) -> tuple[bool, int, str]:
    return name != FIRST, GROUPS.index(group(name)), REGISTERED[name].title.lower()

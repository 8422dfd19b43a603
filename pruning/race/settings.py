"""What is compared: settings, and what each of them keeps of a sample that is encoded once for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from PIL import Image

from pruning.choosing import Asked, Runs, chooser, needs_of, title_of
from pruning.encoding import Encoding, EncodingMethod
from pruning.grids import Scope
from pruning.method import make
from pruning.params import HasKnobs
from pruning.plan import Plan, parse_plan
from pruning.published import PUBLISHED, Published
from pruning.runnable import REGISTERED, made
from pruning.signals import ASKING
from pruning.staged import make_staged
from pruning.tokens import VisualTokens
from pruning.video import Clip

ALL: Final = "all tokens"


class Encoder(Protocol):
    """What choosing asks of a model; `pruning.models.VLM` has it."""

    @property
    def layers(self) -> int: ...
    def encode(
        self, images: Sequence[Image.Image | Clip], needs: frozenset[str] = ..., asked: Encoding | None = None
    ) -> Any: ...
    def tokens(self, encoded: Any, question: str, needs: frozenset[str] = ...) -> VisualTokens: ...


@dataclass(frozen=True)
class Setting:
    """A method at a retention. method: its label; asked: None for all tokens; retention: equivalent, as asked for, None
    for what comes to one of its own, a published schedule or a plan.
    """

    method: str
    asked: Asked | None
    retention: float | None

    @property
    def name(self) -> str:
        """Unique in a race: "idpruner@0.25", "fastv-published", "all tokens"."""
        return self.method if self.asked is None or self.retention is None else f"{self.method}@{self.retention:g}"


def settings_of(
    methods: Mapping[str, Asked], retentions: Sequence[float], skip: Collection[tuple[str, float | None]] = ()
) -> list[Setting]:
    """All tokens first, then every method at each retention, then what has a retention of its own.

    methods: by label. skip: (label, retention) of those to leave out.
    """
    fixed = [label for label, each in methods.items() if isinstance(each, Published | Plan)]
    swept = [(label, retention) for retention in dict.fromkeys(retentions) for label in methods if label not in fixed]
    chosen = [*swept, *((label, None) for label in fixed)]
    found = [Setting(label, methods[label], at) for label, at in chosen if (label, at) not in skip]
    return [Setting(ALL, None, 1.0), *found]


def told(setting: Setting) -> dict[str, Any]:
    """As a manifest has it: {"method", "retention", "knobs"}; a plan's knobs by method, as its text has none."""
    asked = setting.asked
    knobs: dict[str, Any] = asdict(asked) if isinstance(asked, HasKnobs) else {}
    if isinstance(asked, Plan):
        knobs = {method.name: asdict(method) for method in asked.methods}
    return {"method": setting.method, "retention": setting.retention, "knobs": knobs}


def setting_of(told: Mapping[str, Any]) -> Setting:
    """The setting that a manifest tells of. Raises ValueError for a method or knob that is not here any more."""
    name, knobs = told["method"], told["knobs"]
    if name == ALL:
        asked: Asked | None = None
    elif name in REGISTERED:
        asked = made(name, knobs)
    elif name in PUBLISHED:
        asked = PUBLISHED[name]
    else:
        asked = parse_plan(name, lambda method: make(method, **knobs[method]),
                           lambda method: make_staged(method, **knobs[method]))  # fmt: skip
    return Setting(name, asked, told["retention"])


def rival_of(settings: Sequence[Setting]) -> str | None:
    """The label of the first method that asks for another encoding: it tells difficult questions from simple ones."""
    return next((each.method for each in settings if isinstance(each.asked, EncodingMethod)), None)


def title(method: str) -> str:
    """What a reader calls a method by its label; a plan as it is written."""
    if method in REGISTERED:
        return REGISTERED[method].title
    if method in PUBLISHED:
        return title_of(PUBLISHED[method])
    return "All tokens" if method == ALL else method


class Shown:
    """The pictures of one sample, encoded once. What a setting keeps is chosen once too, unless it depends on the
    question.
    """

    def __init__(
        self, model: Encoder, images: Sequence[Image.Image | Clip], settings: Sequence[Setting], per: Scope = "sample"
    ) -> None:
        self._model, self._images, self._per = model, images, per
        self._by_method: dict[str, list[Setting]] = {}
        for setting in settings:
            if setting.asked is not None:
                self._by_method.setdefault(setting.method, []).append(setting)
        asked = [mine[0].asked for mine in self._by_method.values()]
        self._needs = frozenset[str]().union(*(needs_of(each) for each in asked if each is not None))
        self._kept: dict[str, Runs | ValueError] = {}
        self.encoded = model.encode(images, self._needs - {"question"})

    def choose(self, question: str) -> tuple[int, dict[str, Runs | ValueError]]:
        """N, and by its name what each setting but all tokens runs with; or why it cannot, for these pictures."""
        tokens = self._model.tokens(self.encoded, question, self._needs)
        for mine in self._by_method.values():
            asked = mine[0].asked
            assert asked is not None
            if needs_of(asked) & ASKING or mine[0].name not in self._kept:
                self._kept.update(self._chosen(asked, mine, tokens))
        return tokens.n, self._kept

    def _chosen(self, asked: Asked, mine: Sequence[Setting], tokens: VisualTokens) -> dict[str, Runs | ValueError]:
        wanted = [1.0 if each.retention is None else each.retention for each in mine]
        try:
            choose = chooser(asked, tokens, self._model.layers, wanted, self._per, self._again)
        except ValueError as error:
            return dict.fromkeys((each.name for each in mine), error)
        found: dict[str, Runs | ValueError] = {}
        for each, retention in zip(mine, wanted, strict=True):
            try:
                found[each.name] = choose(retention)
            except ValueError as error:
                found[each.name] = error
        return found

    def _again(self, asked: Encoding) -> Any:
        return self._model.encode(self._images, asked=asked)

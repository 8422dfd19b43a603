"""One loaded model at work for all visitors who chose it: encode once, select often. Knows no visitor and no Gradio.

Whatever it keeps is keyed by content: model, sha256 of the pixels, question, setting. The model itself is called
through `app.engine.remote` alone, one call at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from app.engine import remote
from app.engine.device import Ride, Task
from app.engine.joining import Joint
from app.engine.resources import Resources
from app.session import Session, Setting
from pruning.allocation import select_within
from pruning.budget import keep_count
from pruning.choosing import came_to, choose, needs_of, one_shot, written
from pruning.evaluation import timing
from pruning.evaluation.lives import Lives, lives, survivors
from pruning.evaluation.reencoded import Reencoded, reencoded
from pruning.importance import best_source, heat_scores
from pruning.method import Method
from pruning.models.world import InWorld, in_world, unknown_words
from pruning.overrides import with_overrides
from pruning.plan import Plan
from pruning.signals import ASKING, LATER
from pruning.tokens import Selection

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pruning.choosing import Runs
    from pruning.encoding import Again, Encoding
    from pruning.models import VLM, Encoded
    from pruning.models.language.trace import Trace
    from pruning.tokens import VisualTokens
    from pruning.video import Clip

T = TypeVar("T")
W = TypeVar("W")
R = TypeVar("R")

EARLIER = "which an earlier question of this conversation holds: begin a new one"


class Engine:
    """Every method may be called from any thread; `name` is the model's among all models."""

    def __init__(self, vlm: VLM, resources: Resources, name: str = "") -> None:
        self.vlm, self.resources, self.name = vlm, resources, name
        self.cache, self.handle = resources.cache, remote.hold(vlm)
        self._joints: dict[Callable[..., object], Joint[Any, Any]] = {}
        self._joining = threading.Lock()

    def on_device(self, work: Callable[[], T]) -> T:
        """The result of `work`, alone on the device. Raises DeviceFullError that names this model and the remedy."""
        return self.resources.device.run(work, self._full)

    def joined(self, together: Callable[[Engine, Sequence[tuple[W, Task]]], Sequence[R]], work: W, tokens: int) -> R:
        """The result of `work`, a prompt of so many tokens, alone on the device or with other visitors' that wait for
        `together` too. Raises as `on_device`.
        """
        with self._joining:
            joint = self._joints.setdefault(together, Joint(self.resources.joined))
        result: R = joint.run(work, tokens, partial(together, self), self._turn)
        return result

    def _turn(self, work: Callable[[], None], ride: Ride) -> None:
        self.resources.device.run(work, self._full, ride)

    @property
    def _full(self) -> str:
        """What is said where memory ran out."""
        remedy = "use a smaller image, keep fewer tokens, or choose a smaller model"
        return f"{self.vlm.title} ran out of memory on {self.vlm.device}: {remedy}"

    # Images

    def encoded(self, session: Session, needs: frozenset[str] = frozenset(), asked: Encoding | None = None) -> Encoded:
        """The vision tower's output, with at least the signals in `needs` that the tower gives.

        asked: another encoding of the pictures than the full one. Raises OutOfReachError where there is none such.
        """
        wanted = needs - LATER
        captures = self.key("captures", session, asked)
        captured_sets: tuple[frozenset[str], ...] = self.cache.peek(captures) or ()
        for captured in captured_sets:
            if (
                wanted <= captured
                and (held := self.cache.peek(self.key("encoded", session, asked, captured))) is not None
            ):
                return held

        def make() -> Encoded:
            images = self.images(session)
            if asked is None and self.joins_encodings and self.vlm.encodes_together(images, wanted):
                work = cast("list[Image]", images), wanted
                return self.joined(_encodings, work, self.vlm.expected_tokens(work[0]))
            return self.on_device(lambda: remote.encode(self.handle, images, wanted, asked))

        encoded = self.cache.get(self.key("encoded", session, asked, wanted), make, lambda made: made.nbytes)
        self.cache.put(captures, tuple({*captured_sets, wanted}), 256)
        return encoded

    @property
    def joins_encodings(self) -> bool:
        """Whether pictures of several visitors go through the tower together: a processor takes a tenth longer for it
        than for one after the other.
        """
        return self.vlm.device.type != "cpu"

    def images(self, session: Session) -> list[Image | Clip]:
        return [self.resources.pictures.medium(picture) for picture in session.pictures]

    def again(self, session: Session) -> Again:
        """Encodes the session's pictures as a method asks, once for each number of tokens."""
        return lambda asked: self.encoded(session, asked=asked)

    def tokens(self, session: Session, needs: frozenset[str]) -> VisualTokens:
        """The encoded tokens with every signal that `needs` names; the question is the conversation's first."""
        encoded = self.encoded(session, needs)
        question = session.checked_questions()[0] if needs & ASKING else ""

        def make() -> VisualTokens:
            return self.on_device(lambda: remote.tokens(self.handle, encoded, question, needs))

        # Weighed in full: it keeps the encoded tokens alive when their own entry has left the cache.
        return self.cache.get(self.key("tokens", session, question, needs), make, lambda _: encoded.nbytes)

    # Selections

    def shown(self, session: Session, setting: Setting) -> Encoded:
        """The encoding that the setting's tokens belong to: the full one, or the other one that it asks for."""
        if setting.encoding is None:
            return self.encoded(session, needs_of(setting.asked))
        return cast("Encoded", self.runs(session, setting))

    def tokens_for(self, session: Session, setting: Setting) -> VisualTokens:
        """The tokens that the setting chooses among, with every signal that it reads before the language model; of
        another encoding, those that it has.
        """
        if setting.encoding is not None:
            return self.shown(session, setting).tokens
        return self.tokens(session, needs_of(setting.asked))

    def runs(self, session: Session, setting: Setting) -> Runs:
        """What the model is asked with: what the setting keeps, its plan with the entry made, or another encoding.

        Raises ValueError as `choosing.choose`: among others for a retention out of a schedule's reach, the range named.
        """
        if setting.one_shot:
            return self.selection(session, setting)
        needs, again = needs_of(setting.asked), self.again(session)
        tokens, question = self.tokens(session, needs), session.first if needs & ASKING else ""

        def make() -> Runs:
            return choose(setting.asked, tokens, self.vlm.layers, setting.retention, setting.scope, again)

        key = self.key("runs", session, question, setting.choice)
        return self.cache.get(key, make, lambda made: 1024 + 32 * tokens.n)

    def reencoded(self, session: Session, setting: Setting) -> Reencoded | None:
        """What another encoding is, and what the tower takes for it and for the full one, measured once; None for a
        setting that asks for none.
        """
        if setting.encoding is None:
            return None
        full, kept, images = self.encoded(session), self.shown(session, setting), self.images(session)
        asked = setting.encoding.encoding(full.tokens.n, keep_count(full.tokens.n, setting.retention))

        def again(of: Encoding | None) -> Encoded:
            return self.on_device(lambda: remote.encode(self.handle, images, frozenset(), of))

        key = self.key("reencoded", session, asked)
        return self.cache.get(key, lambda: reencoded(asked, full, kept, again), lambda _: 256 + 256 * kept.tokens.n)

    def trace(self, session: Session, setting: Setting) -> Trace:
        """What became of every token under the setting's plan at the conversation's first question: the prompt goes
        through the language model once. Raises ValueError as `runs`, and what a rule cannot work with.
        """
        question, plan = session.checked_questions()[0], self.runs(session, setting)
        assert isinstance(plan, Plan), "a method of one shot leaves no trace"

        def make() -> Trace:
            from pruning.models import Sample

            sample = Sample(self.encoded(session), question, plan, positions=setting.positions)
            return self.on_device(partial(remote.trace, self.handle, sample))

        key = self.key("trace", session, question, setting.choice, setting.positions)
        return self.cache.get(key, make, lambda made: 16 * len(made.lives) * (2 + len(made.cuts)))

    def selection(self, session: Session, setting: Setting) -> Selection:
        """What the setting keeps; of a plan what is alive after the last cut; of another encoding all its tokens.

        Where the tokens' similarity is there, as it is for whoever sees the canvas, a nested method runs once to the
        last token, and every retention is a prefix of that; else the one that is asked for is chosen alone.
        """
        if setting.encoding is not None:
            n = self.shown(session, setting).tokens.n
            return Selection(torch.arange(n), n)
        if not setting.one_shot:
            return survivors(self.trace(session, setting))
        if setting.forced:
            free = setting.choice
            every = self.selection(session, replace(free, retention=1.0, scope="sample"))
            return with_overrides(self.selection(session, free), every, setting.forced.ins, setting.forced.outs)
        tokens, method = self.tokens_for(session, setting), one_shot(setting.method)
        question = session.first if method.needs & ASKING else ""

        def make(whole: Setting) -> Selection:
            key = self.key("selection", session, question, whole)
            return self.cache.get(key, lambda: self._select(method, tokens, whole), _selection_weight)

        if method.nested and setting.scope == "sample" and tokens.has_similarity:
            return make(replace(setting.choice, retention=1.0)).prefix(keep_count(tokens.n, setting.retention))
        return make(setting.choice)

    def _select(self, method: Method, tokens: VisualTokens, setting: Setting) -> Selection:
        """What the method keeps; one that runs the tower again has the device to itself."""
        select = partial(select_within, method, tokens, setting.retention, setting.scope)
        return self.on_device(select) if "tower" in method.needs else select()

    def lives(self, session: Session, setting: Setting) -> Lives | None:
        """Until which layer every token lives under the setting, at the conversation's first question; None where all
        that leaves does so before the language model. Raises ValueError as `trace`.
        """
        runs = self.runs(session, setting)
        return lives(written(setting.asked, runs), self.trace(session, setting)) if isinstance(runs, Plan) else None

    def equivalent(self, session: Session, setting: Setting) -> float:
        """The equivalent retention that the setting comes to; the language model is not asked. ValueError as `runs`."""
        return came_to(self.runs(session, setting), self.vlm.layers, self.encoded(session).tokens.n)

    def budget(self, session: Session, setting: Setting) -> int:
        """Tokens kept; inside the language model, alive in the mean of its layers. Raises ValueError as `runs`."""
        return keep_count(self.encoded(session).tokens.n, self.equivalent(session, setting))

    def selection_seconds(self, session: Session, setting: Setting) -> float:
        """Seconds of a selection from the features on; measured once per setting."""
        tokens = self.tokens_for(session, setting)
        needs = frozenset[str]() if setting.encoding is not None else needs_of(setting.asked)
        encoded, question = self.encoded(session, needs), session.checked_questions()[0] if needs & ASKING else ""

        def fresh() -> VisualTokens:
            if remote.is_remote():  # another process has the model: the way there is no part of a selection
                return tokens
            return timing.signals_anew(self.vlm, encoded, question, needs)

        def make() -> float:
            return timing.selection_seconds(setting.asked, fresh, setting.retention, setting.scope, self.vlm.layers)

        return self.cache.get(self.key("seconds", session, setting.choice), make, lambda _: 64)

    def heat(self, session: Session, selection: Selection) -> Tensor:
        """(N,) what the heat map shows of a selection."""
        return heat_scores(selection, self.vlm.signals, lambda needs: self.tokens(session, needs))

    @property
    def default_source(self) -> str:
        """The trained scorer where the model has one, else the next source that it can serve."""
        return best_source(self.vlm.signals)

    def unknown_words(self, question: str) -> tuple[str, ...]:
        """Words of the question that the model cannot know."""
        return unknown_words(self.vlm, question)

    def in_world(self, session: Session, question: str | None = None) -> InWorld:
        """Whether the answer to a question about the visitor's images can mean anything; for None to their last one,
        which follows from all that was said before it.
        """
        *earlier, last = (session.questions or ("",)) if question is None else (question,)
        encoded = self.encoded(session)
        found = in_world(self.vlm, encoded, last)
        for before in earlier if found.inside else ():
            if not (told := in_world(self.vlm, encoded, before)).inside:
                return replace(told, reason=f"{told.reason}, {EARLIER}")
        return found

    # What other modules computed about these images, under their own parts of the key

    def memo(self, session: Session, parts: tuple[Hashable, ...], make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Cache what `make` gives."""
        return self.cache.get(self.key("memo", session, *parts), make, size)

    def recall(self, session: Session, parts: tuple[Hashable, ...]) -> Any | None:
        """What `remember` or `memo` kept, else None."""
        return self.cache.peek(self.key("memo", session, *parts))

    def remember(self, session: Session, parts: tuple[Hashable, ...], value: Any, nbytes: int) -> None:
        """Keep a value that was not made in one piece."""
        self.cache.put(self.key("memo", session, *parts), value, nbytes)

    def key(self, kind: str, session: Session, *rest: Hashable) -> tuple[Hashable, ...]:
        return (kind, self.handle, session.keys, *rest)


def _encodings(engine: Engine, pieces: Sequence[tuple[tuple[list[Image], frozenset[str]], Task]]) -> list[Encoded]:
    """Of each piece's pictures, with its signals: those with the same ones in one pass."""
    found: dict[int, Encoded] = {}
    for wanted in dict.fromkeys(needs for (_, needs), _ in pieces):
        places = [place for place, ((_, needs), _) in enumerate(pieces) if needs == wanted]
        samples = [pieces[place][0][0] for place in places]
        if len(samples) == 1:
            found[places[0]] = remote.encode(engine.handle, samples[0], wanted)
        else:
            found.update(zip(places, remote.encode_batch(engine.handle, samples, wanted), strict=True))
    return [found[place] for place in range(len(pieces))]


def _selection_weight(selection: Selection) -> int:
    return 32 * selection.n + (0 if selection.rows is None else selection.rows.numel() * 4)

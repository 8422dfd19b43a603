"""What a question costs the device: streamed answers, time to first token, closeness. Each is cached by content."""

from __future__ import annotations

import contextvars
import hashlib
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.engine import remote
from app.engine.device import TICK, DroppedError, Task, working
from app.engine.engine import Engine
from app.session import Session
from pruning.evaluation import metrics
from pruning.evaluation.timing import MOST
from pruning.evaluation.verdict import check_words
from pruning.plan import Plan
from pruning.tokens import Selection

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.choosing import Runs
    from pruning.models import Answer, ConversationCache, Encoded, Sample, Turn
    from pruning.models.values import Positions

PATIENCE = 120.0  # seconds without a token before a stream is given up
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Asked:
    """A question with what was said before it, and the tokens that stay, or the plan that they leave by; None = all.

    positions: of the tokens that stay.
    """

    session: Session
    question: str
    runs: Runs | None = None
    history: tuple[Turn, ...] = ()
    positions: Positions = "original"

    @property
    def kept(self) -> Hashable:
        """Equal where the model receives the same rows at the same positions: keeping all, unmerged, is the same
        whichever method does it, and leaves no gap to renumber.
        """
        chosen = self.runs
        if isinstance(chosen, Plan):
            entering = replace(self, runs=chosen.entering).kept
            return (repr(chosen.cuts), chosen.evict_early, entering) if chosen.cuts else entering
        if chosen is not None and not isinstance(chosen, Selection):
            return "encoding", chosen.tokens.n
        if chosen is None or (chosen.k == chosen.n and chosen.merged is None):
            return None
        rows = b"" if chosen.merged is None else hashlib.sha256(chosen.merged.numpy().tobytes()).digest()
        return chosen.indices.numpy().tobytes(), rows, self.positions

    @property
    def joins(self) -> bool:
        """Whether it may share a pass with other questions: not where tokens leave between layers, or the pictures are
        encoded otherwise.
        """
        return self.runs is None or isinstance(self.runs, Selection)

    def entering(self, n: int) -> int:
        """How many visual tokens enter the language model, where all would be n."""
        if self.runs is None:
            return n
        if isinstance(self.runs, Plan):
            return self.runs.entered(n)
        return self.runs.k if isinstance(self.runs, Selection) else self.runs.tokens.n

    def prompt_tokens(self, engine: Engine, encoded: Encoded) -> int:
        """Length of the prompt as the language model receives it."""
        if self.runs is not None and not isinstance(self.runs, Selection | Plan):
            other = cast("Encoded", self.runs)  # with marks of its own around each image
            return engine.vlm.prompt(other, self.question, self.history).n
        n = encoded.tokens.n
        return engine.vlm.prompt(encoded, self.question, self.history).n - n + self.entering(n)

    def then(self, question: str, answer: Answer | None) -> Asked:
        """The next turn after `answer`; the first one where there is none yet."""
        from pruning.models import Turn

        history = () if answer is None else (*self.history, Turn(self.question, answer.text))
        return replace(self, question=question, history=history)

    def sample(self, encoded: Encoded) -> Sample:
        """What the model is asked. encoded: the session's pictures with all their tokens."""
        from pruning.models import Sample

        return Sample(encoded, self.question, self.runs, self.history, self.positions)

    def key(self, engine: Engine, kind: str = "answer") -> tuple[Hashable, ...]:
        """Cache key of what is computed about it."""
        return engine.key(kind, self.session, self.question, self.kept, self.history)


def answers(engine: Engine, asked: Asked, task: Task) -> Iterator[str | Answer]:
    """Stream one answer: its growing text, and last the whole `Answer`.

    The model runs in a thread of its own that holds the device lock and never waits for the reader: a reader who
    goes away, or never comes back, cannot hold the device. Closing the iterator or setting `task` stops it.
    """
    from pruning.models import Answer

    held = answered(engine, asked)
    if held is not None:
        yield held
        return
    encoded = engine.encoded(asked.session)
    prefill = asked.prompt_tokens(engine, encoded)
    out: Queue[str | Answer | BaseException] = Queue()

    def work() -> None:
        try:
            with working(task):
                out.put(_generate(engine, encoded, asked, prefill, task, out))
        except BaseException as error:
            out.put(error)

    # In the visitor's context: a ZeroGPU Space looks there for whose GPU time this is.
    local = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="answer", daemon=True)
    local.start()
    done, said, since = False, "", time.monotonic()
    try:
        while not done:
            try:
                item = out.get(timeout=TICK)
            except Empty:
                if task.place:  # others have the device
                    since = time.monotonic()
                if time.monotonic() - since > PATIENCE:
                    raise TimeoutError(f"The model gave no token for {PATIENCE:g} s: try again") from None
                if not task.is_set():
                    continue
                # Stopped while others have the device: the thread will find that out, nobody has to wait for it.
                item = replace(Answer.from_chunks([], prefill), text=said)
            since = time.monotonic()
            if isinstance(item, str):
                said = item
            if isinstance(item, DroppedError):
                item = replace(Answer.from_chunks([], prefill), text=said)
            if isinstance(item, BaseException):
                raise item
            done = not isinstance(item, str)
            if not isinstance(item, str) and not item.cancelled:
                engine.cache.put(asked.key(engine), item, 4096 + 8 * len(item.ids))
            yield item
    finally:
        if not done:
            task.set()


def answered(engine: Engine, asked: Asked) -> Answer | None:
    """The whole answer, where it has been given and is still held."""
    held: Answer | None = engine.cache.peek(asked.key(engine))
    return held


def first_token_seconds(engine: Engine, asked: Asked) -> float:
    """Measured time to the first token, the prompt read from its start: the median of up to five runs, of one while
    others wait for the device. Where tokens stand and what they show changes no time: one of several runs stands for
    all prompts of as many tokens; one of a single run for this question alone.
    """
    encoded, asked, cache = engine.encoded(asked.session), replace(asked, positions="original"), engine.cache
    own = shared = asked.key(engine, "ttft")
    if asked.joins:
        shared = ("ttft", engine.handle, asked.prompt_tokens(engine, encoded), asked.entering(encoded.tokens.n))

    def work() -> tuple[float, bool]:
        hurried = engine.resources.device.awaited
        runs = remote.first_token_seconds(engine.handle, asked.sample(encoded), 1 if hurried else MOST)
        return float(np.median(runs)), hurried

    held: float | None = cache.peek(shared) or cache.peek(own)
    if held is not None:
        return held
    seconds, hurried = engine.on_device(work)
    cache.put(own if hurried else shared, seconds, 64)
    return seconds


@dataclass(frozen=True)
class Closeness:
    """How close a pruned prompt comes to the full one on the T tokens of the full one's answer.

    fidelity: exp(-mean KL). sure: (T,) each token's probability with all visual tokens; lost: how much of it is gone.
    """

    fidelity: float
    sure: tuple[float, ...]
    lost: tuple[float, ...]


def closeness(engine: Engine, full: Asked, answer: Answer, pruned: Asked) -> Closeness:
    """Both prompts are teacher-forced on the full one's `answer`: one pass each, shared by all that is told of it.

    Raises ValueError where that answer has no words: its end token alone would give a number that means nothing.
    """
    check_words(answer)
    encoded = engine.encoded(full.session)

    def forced(asked: Asked) -> Tensor:
        prefill = asked.prompt_tokens(engine, encoded)
        if asked.joins:
            return engine.joined(_forced, (asked.sample(encoded), answer.ids), prefill + len(answer.ids))

        def work() -> list[Tensor]:
            values = (asked.question, answer.ids, [asked.runs], asked.history, asked.positions)
            return remote.logprobs(engine.handle, encoded, *values)

        return engine.on_device(work)[0]

    def make() -> Closeness:
        everything = engine.cache.get(
            full.key(engine, "forced"), lambda: forced(full), lambda logp: logp.numel() * logp.element_size()
        )
        rest = forced(pruned)
        sure, lost = (
            metrics.token_probabilities(everything, answer.ids),
            metrics.token_losses(everything, rest, answer.ids),
        )
        return Closeness(metrics.fidelity(everything, rest), tuple(sure.tolist()), tuple(lost.tolist()))

    key = ("closeness", full.key(engine), pruned.key(engine))
    return engine.cache.get(key, make, lambda made: 128 + 64 * len(made.sure))


@dataclass(eq=False)
class Streamed:
    """An answer under way, of a prompt that begins with nothing held: where its text goes, and how long it is."""

    asked: Asked
    encoded: Encoded
    prefill: int
    out: Queue[Any]


def _generate(engine: Engine, encoded: Encoded, asked: Asked, prefill: int, task: Task, out: Queue[Any]) -> Answer:
    """From the conversation's keys and values where they are still held; else with other visitors' answers."""
    memories, key = engine.resources.memories, engine.key("memory", asked.session, asked.kept)
    # Taken out while in use: a memory serves one generation at a time.
    memory = None if remote.is_remote() else memories.take(key)
    streamed = Streamed(asked, encoded, prefill, out)
    if memory is None and asked.joins and not remote.is_remote():
        return engine.joined(_stream, streamed, prefill)
    spare = [] if memory is None else [memory]

    def work() -> Answer:
        # A second try, after memory ran out, begins with an empty one: who knows what the first left in it.
        return _alone(engine, streamed, task, spare.pop() if spare else None)

    return engine.on_device(work)


def _stream(engine: Engine, pieces: Sequence[tuple[Streamed, Task]]) -> list[Answer]:
    """All of them in one padded pass, each told as its tokens come. No keys and values of it are kept."""
    from pruning.models import Answer, Chunk

    if len(pieces) == 1:
        ((streamed, task),) = pieces
        return [_alone(engine, streamed, task, None)]
    found = [list[Chunk]() for _ in pieces]
    samples, tasks = [each.asked.sample(each.encoded) for each, _ in pieces], [task for _, task in pieces]
    for place, chunk in remote.generate_batch(engine.handle, samples, tasks, MAX_NEW_TOKENS):
        each = pieces[place][0]
        found[place].append(chunk)
        each.out.put(Answer.from_chunks(found[place], each.prefill) if chunk.finish else chunk.text_so_far)
    return [Answer.from_chunks(own, each.prefill) for own, (each, _) in zip(found, pieces, strict=True)]


def _alone(engine: Engine, streamed: Streamed, task: Task, memory: ConversationCache | None) -> Answer:
    """One answer, whose keys and values are kept for the turns that follow."""
    from pruning.models import Answer, ConversationCache

    if not remote.is_remote():
        memory = memory or ConversationCache()
    chunks = []
    sample = streamed.asked.sample(streamed.encoded)
    with closing(remote.generate(engine.handle, sample, memory, MAX_NEW_TOKENS)) as stream:  # type: ignore[type-var]
        while not task.is_set() and (chunk := next(stream, None)) is not None:
            chunks.append(chunk)
            streamed.out.put(chunk.text_so_far)
    if memory is not None:
        key = engine.key("memory", streamed.asked.session, streamed.asked.kept)
        engine.resources.memories.put(key, memory, memory.nbytes + 4096)
    return Answer.from_chunks(chunks, streamed.prefill)


def _forced(engine: Engine, pieces: Sequence[tuple[tuple[Sample, Sequence[int]], Task]]) -> list[Tensor]:
    """What the answers' tokens are likely to be, of all in one padded pass."""
    samples, answers = zip(*(work for work, _ in pieces), strict=True)
    return remote.logprobs_batch(engine.handle, samples, answers)

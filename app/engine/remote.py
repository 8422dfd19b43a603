"""Every use of a loaded model, as module-level functions that a ZeroGPU Space can run in a process of their own.

There, `spaces.GPU` forks a process that holds the GPU for one call, and takes arguments and results through a pickle
queue. So whatever crosses here is plain data on the CPU: a model goes by its key, an exception comes back as a value
(the queue would keep no more than its name), and what cannot cross, the cache of a conversation and signals that
are functions, does not. Everywhere else the same functions are called as they are.
"""

from __future__ import annotations

import importlib
import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pruning.evaluation import pays as measure
from pruning.evaluation import timing
from pruning.handover import parity

if TYPE_CHECKING:
    from threading import Event

    from PIL.Image import Image
    from torch import Tensor

    from pruning.choosing import Asked
    from pruning.encoding import Encoding
    from pruning.evaluation.pays import Report
    from pruning.grids import Scope
    from pruning.handover.certificate import Certificate
    from pruning.handover.parity import Wanted
    from pruning.models import VLM, Answer, Chunk, ConversationCache, Encoded, Sample, Turn
    from pruning.models.language.modality import Attended
    from pruning.models.language.trace import Trace
    from pruning.models.values import Kept, Positions
    from pruning.plan import Plan
    from pruning.tokens import VisualTokens
    from pruning.video import Clip, Sampling

T = TypeVar("T")

REFUSAL = "needs a part of the model as a function, which cannot leave the process that holds a ZeroGPU"
SECONDS = 60  # of GPU that one call may take

_held: dict[str, VLM] = {}
_numbers = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """What a call came to: its value, or the exception it ended with."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def hold(vlm: VLM) -> str:
    """Make a model callable here; returns its key, a new one each time: two of one name are not mixed up."""
    key = f"{vlm.model_id} {next(_numbers)}"
    _held[key] = vlm
    return key


def release(key: str) -> None:
    """Let go of a model, so that its memory can be freed."""
    _held.pop(key, None)


def once(work: Callable[..., Any], key: str, values: tuple[Any, ...]) -> Outcome:
    """`work(model, *values)`; `work` is a module-level function."""
    try:
        return Outcome(work(_model(key), *values))
    except Exception as error:
        return Outcome(error=_portable(error))


def stream(work: Callable[..., Iterator[Any]], key: str, values: tuple[Any, ...]) -> Iterator[Outcome]:
    """The items of `work(model, *values)` one by one. Closing the iterator ends the work before its next item."""
    try:
        with closing(work(_model(key), *values)) as items:  # type: ignore[type-var]
            for item in items:
                yield Outcome(item)
    except Exception as error:
        yield Outcome(error=_portable(error))


def on_gpu(function: Callable[..., T]) -> Callable[..., T]:
    """`function` in a process that is given a GPU, where this is a ZeroGPU Space; else `function` itself."""
    try:
        spaces = importlib.import_module("spaces")
    except ImportError:
        return function
    granted: Callable[..., T] = spaces.GPU(duration=SECONDS)(function)
    return granted


_once, _stream = on_gpu(once), on_gpu(stream)


def is_remote() -> bool:
    """Whether the calls leave this process."""
    return _once is not once


def encode(key: str, images: Sequence[Image | Clip], needs: frozenset[str], asked: Encoding | None = None) -> Encoded:
    """asked: another encoding than the full one."""
    return _once(_encode, key, (list(images), needs, asked)).get()


def encode_batch(key: str, samples: Sequence[Sequence[Image]], needs: frozenset[str]) -> list[Encoded]:
    """Of the pictures of several samples."""
    return _once(_encode_batch, key, ([list(images) for images in samples], needs)).get()


def tokens(key: str, encoded: Encoded, question: str, needs: frozenset[str]) -> VisualTokens:
    return _once(_tokens, key, (encoded, question, needs)).get()


def generate(key: str, sample: Sample, memory: ConversationCache | None, max_new_tokens: int) -> Iterator[Chunk]:
    """The chunks of an answer. Close the iterator to stop. `memory` must be None where calls leave the process."""
    with closing(_stream(_generate, key, (sample, memory, max_new_tokens))) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            yield outcome.get()


def answer_batch(key: str, samples: Sequence[Sample], max_new_tokens: int, cancel: Event) -> list[Answer]:
    """The answers to several samples together. `cancel` does not leave the process: a remote call runs to its end."""
    return _once(_answer_batch, key, (list(samples), max_new_tokens, None if is_remote() else cancel)).get()


def generate_batch(
    key: str, samples: Sequence[Sample], cancels: Sequence[Event], max_new_tokens: int
) -> Iterator[tuple[int, Chunk]]:
    """The tokens of several answers, each with the place of its sample, as they come. Only where calls stay here."""
    return _model(key).generate_batch(samples, cancels, max_new_tokens=max_new_tokens)


def logprobs_batch(key: str, samples: Sequence[Sample], answers: Sequence[Sequence[int]]) -> list[Tensor]:
    """(T, V) float32 on the CPU for each sample's answer."""
    return _once(_logprobs_batch, key, (list(samples), [list(answer) for answer in answers])).get()


def logprobs(
    key: str,
    encoded: Encoded,
    question: str,
    answer_ids: Sequence[int],
    selections: Sequence[Kept],
    history: Sequence[Turn],
    positions: Positions,
) -> list[Tensor]:
    """(T, V) float32 on the CPU for each selection."""
    return _once(_logprobs, key, (encoded, question, list(answer_ids), list(selections), history, positions)).get()


def trace(key: str, sample: Sample) -> Trace:
    """What a sample's plan comes to: the prompt goes through once, and nothing is answered."""
    return _once(_trace, key, (sample,)).get()


def attended(key: str, sample: Sample, answer_ids: Sequence[int]) -> list[Attended]:
    """How much an answer's tokens attend to text and picture, for each layer that has attention."""
    return _once(_attended, key, (sample, list(answer_ids))).get()


def certificate(
    key: str,
    images: Sequence[Image | Clip],
    names: Sequence[str],
    question: str,
    wanted: Wanted,
    samplings: Sequence[Sampling | None],
) -> Certificate:
    """What a sample comes to, measured from its pictures and clips on."""
    return _once(parity.certificate, key, (list(images), list(names), question, wanted, list(samplings))).get()


def pays(
    key: str,
    images: Sequence[Image | Clip],
    question: str,
    asked: Asked,
    retention: float,
    per: Scope,
    positions: Positions,
    concurrency: Sequence[int],
) -> Iterator[Report]:
    """What is known of whether a setting pays, after every batch. Close the iterator to stop."""
    values = (list(images), question, asked, retention, per, positions, concurrency)
    with closing(_stream(_pays, key, values)) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            yield outcome.get()


def first_token_seconds(key: str, sample: Sample, most: int) -> tuple[float, ...]:
    """Seconds to the first token of up to `most` runs, the prompt read from its start each time; the same wherever its
    tokens stand.
    """
    return _once(_first_token_seconds, key, (sample, most)).get()


def _model(key: str) -> VLM:
    if key not in _held:
        raise ValueError("The model was unloaded while this ran: choose it again in the model menu")
    return _held[key]


def _encode(vlm: VLM, images: list[Image | Clip], needs: frozenset[str], asked: Encoding | None) -> Encoded:
    return vlm.encode(images, needs, asked)


def _encode_batch(vlm: VLM, samples: list[list[Image]], needs: frozenset[str]) -> list[Encoded]:
    return vlm.encode_batch(samples, needs)


def _tokens(vlm: VLM, encoded: Encoded, question: str, needs: frozenset[str]) -> VisualTokens:
    return vlm.tokens(encoded, question, needs)


def _generate(vlm: VLM, s: Sample, memory: ConversationCache | None, max_new_tokens: int) -> Iterator[Chunk]:
    return vlm.generate(
        s.encoded,
        s.question,
        s.kept,
        history=s.history,
        positions=s.positions,
        memory=memory,
        max_new_tokens=max_new_tokens,
    )


def _answer_batch(vlm: VLM, samples: list[Sample], max_new_tokens: int, cancel: Event | None) -> list[Answer]:
    return vlm.answer_batch(samples, max_new_tokens=max_new_tokens, cancel=cancel)


def _logprobs(
    vlm: VLM,
    encoded: Encoded,
    question: str,
    answer_ids: list[int],
    selections: list[Kept],
    history: Sequence[Turn],
    positions: Positions,
) -> list[Tensor]:
    found = vlm.logprobs(encoded, question, answer_ids, selections, history, positions)
    return [logp.float().cpu() for logp in found]


def _logprobs_batch(vlm: VLM, samples: list[Sample], answers: list[list[int]]) -> list[Tensor]:
    return [logp.float().cpu() for logp in vlm.logprobs_batch(samples, answers)]


def _trace(vlm: VLM, s: Sample) -> Trace:
    return vlm.trace(s.encoded, s.question, cast("Plan", s.kept), positions=s.positions)


def _attended(vlm: VLM, s: Sample, answer_ids: list[int]) -> list[Attended]:
    return vlm.attended(s.encoded, s.question, answer_ids, s.kept, s.history, s.positions)


def _first_token_seconds(vlm: VLM, s: Sample, most: int) -> tuple[float, ...]:
    return timing.first_token_seconds(vlm, s.encoded, s.question, s.kept, s.history, most)


def _pays(
    vlm: VLM,
    images: list[Image | Clip],
    question: str,
    asked: Asked,
    retention: float,
    per: Scope,
    positions: Positions,
    concurrency: Sequence[int],
) -> Iterator[Report]:
    return measure.pays(vlm, images, question, asked, retention, per=per, positions=positions, concurrency=concurrency)


def _portable(error: Exception) -> Exception:
    """The exception, or where pickle cannot carry it one that says the same."""
    if not is_remote():
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

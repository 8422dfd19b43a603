"""The decode loop: prefill with precomputed visual rows, then one token at a time. Nothing is kept on the model.

Owning this loop (instead of `model.generate` in a thread with a streamer) makes streaming, batching, cancelling, timing
and exceptions plain control flow. Positions are always passed, so the model's own `rope_deltas` is never read or
written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pruning.models.language import finite
from pruning.models.language.forward import Visual, forward
from pruning.models.language.kv_cache import ConversationCache
from pruning.models.language.passes import StoppedError
from pruning.models.language.stages import Stages
from pruning.models.language.trace import Trace
from pruning.models.values import Chunk, Finish, ModelError, Prompt

BROKEN = -1  # stands for a token that was picked among NaN or infinite logits


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock read now tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def stop_ids(model: Any) -> frozenset[int]:
    """Token ids that end an answer, from the checkpoint's generation settings; without those that it can never say."""
    known = range(len(model.get_input_embeddings().weight))
    return frozenset(end for end in named_ends(model) if end in known)


def named_ends(model: Any) -> frozenset[int]:
    """The same ids as the settings have them, be they the model's or not. A negative one says that there is none."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = model.config.get_text_config().eos_token_id
    return frozenset(end for end in ([ids] if isinstance(ids, int) else ids or []) if end >= 0)


def stream(
    model: Any,
    prompt: Prompt,
    visual: Visual,
    decode: Callable[[list[int]], str],
    max_new_tokens: int,
    cancel: threading.Event | None,
    memory: ConversationCache | None,
    stages: Stages | None = None,
) -> Iterator[Chunk]:
    """Greedy decoding, one Chunk per token, after the last of which `finish` is set. A set `cancel` ends it without.

    Of the checkpoint's generation settings the end tokens and the repetition penalty apply, as in
    `model.generate(do_sample=False)`; sampling settings do not.

    Args:
        prompt: pruned prompt; decoding goes on from its largest position. decode: token ids -> text.
        memory: what of the prompt it holds already is not computed again; holds the whole of it afterwards.
        stages: what leaves between layers; where the memory holds the pictures, what has left in its first turn.

    Raises:
        ModelError: NaN or infinite logits, before the token that would follow from them.
        ValueError: what a rule between layers cannot work with.
    """
    synchronize(model.device)
    start = time.perf_counter()
    memory = ConversationCache() if memory is None else memory
    ends, ids, trace = stop_ids(model), list[int](), None
    for step in _steps(model, [prompt], visual, memory, cancel, stages):
        token_id = int(step)  # waits for the device
        if token_id == BROKEN:
            memory.forget()  # its keys and values may be as broken
            raise _broken(model, len(ids))
        ids.append(token_id)
        finish: Finish | None = "stop" if token_id in ends else "length" if len(ids) == max_new_tokens else None
        trace = memory.stages.courses[0].trace() if memory.stages and trace is None else trace
        yield Chunk(token_id, decode(ids), time.perf_counter() - start, finish, trace)
        if finish:
            return


def streams(
    model: Any,
    prompts: Sequence[Prompt],
    visual: Visual,
    decode: Callable[[list[int]], str],
    max_new_tokens: int,
    cancels: Sequence[threading.Event | None],
    stages: Stages | None = None,
) -> Iterator[tuple[int, Chunk]]:
    """`stream` for several prompts in one padded pass: each chunk with the place of its prompt, as they come.

    Args:
        visual: rows, one prompt after the other. cancels: of each prompt; a set one ends its answer, the others go on.
        stages: what leaves between layers, with a course for each prompt.

    Raises:
        As `stream`, whichever prompt it is of.
    """
    synchronize(model.device)
    start = time.perf_counter()
    ends, found = stop_ids(model), [list[int]() for _ in prompts]
    open_rows = dict(enumerate(cancels))
    traces: list[Trace | None] = [None] * len(prompts)
    for step in _steps(model, prompts, visual, ConversationCache(), _All(open_rows), stages):
        if stages is not None and traces[0] is None:
            traces = [course.trace() for course in stages.courses]
        tokens = step.flatten().tolist()  # waits for the device
        seconds = time.perf_counter() - start
        for row, cancel in enumerate(cancels):
            if cancel is not None and cancel.is_set():
                open_rows.pop(row, None)
        for row, token_id in enumerate(tokens):
            if row not in open_rows:
                continue
            ids = found[row]
            if token_id == BROKEN:
                raise _broken(model, len(ids))
            ids.append(token_id)
            finish: Finish | None = "stop" if token_id in ends else "length" if len(ids) == max_new_tokens else None
            if finish:
                del open_rows[row]
            yield row, Chunk(token_id, decode(ids), seconds, finish, traces[row])
        if not open_rows:
            return


class _All(threading.Event):
    """Set once each of those that are left is."""

    def __init__(self, events: Mapping[int, threading.Event | None]) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        return all(event is not None and event.is_set() for event in self._events.values())


def paced(
    model: Any,
    prompts: Sequence[Prompt],
    visual: Visual,
    steps: int,
    cancel: threading.Event | None = None,
    stages: Stages | None = None,
) -> list[float]:
    """Seconds from the start to each of `steps` tokens of a batch, whatever they are: no end counts. As `streams`."""
    synchronize(model.device)
    start, seconds = time.perf_counter(), list[float]()
    for step in _steps(model, prompts, visual, ConversationCache(), cancel, stages):
        step.tolist()  # waits for the device
        seconds.append(time.perf_counter() - start)
        if len(seconds) == steps:
            break
    return seconds


def forced_logprobs(
    model: Any, prompts: Sequence[Prompt], visual: Visual, answers: Sequence[Tensor], stages: Stages | None = None
) -> list[Tensor]:
    """Log-probabilities of every vocabulary entry at each step of a given answer to each prompt.

    The prompts are prefilled together, padded on the left; then the answers follow in one pass over their cache, padded
    on the right, which nothing before it sees. Not in the same pass: an answer may contain the placeholder token itself
    (untrained models say anything).

    Args:
        prompts: B prompts. visual: their rows, one prompt after the other. answers: of each (T,) int64.
        stages: what leaves between layers, with a course for each prompt.

    Returns:
        Of each prompt (T, V) float32 on the model's device.

    Raises:
        ModelError: NaN or infinite logits.
    """
    device, steps = model.device, max(map(len, answers))
    ids, positions, mask = (x.to(device) for x in _padded(prompts))
    length = ids.shape[1]
    with _through(stages, 0):
        logits, cache = forward(model, ids, positions, mask, None, visual)
    if steps > 1:
        following = positions.amax(-1, keepdim=True) + 1 + torch.arange(steps - 1, device=device)
        given = torch.nn.utils.rnn.pad_sequence([answer[:-1] for answer in answers], batch_first=True).to(device)
        mask = torch.cat([mask, mask.new_ones(len(prompts), steps - 1)], dim=1)
        with _through(stages, length):
            more, _ = forward(model, given, following, mask, cache, None, keep=0)
        logits = torch.cat([logits, more], dim=1)
    found = [torch.log_softmax(own[: len(answer)], dim=-1) for own, answer in zip(logits, answers, strict=True)]
    if any(bool(own[:, 0].isnan().any()) for own in found):  # one such number makes all of a step NaN
        raise finite.refusal("The language model, asked how likely an answer is,", model)
    return found


def _broken(model: Any, told: int) -> ModelError:
    """The refusal of logits after `told` tokens of an answer."""
    place = f"after {told} tokens of its answer" if told else "on the prompt"
    return finite.refusal(f"The language model, {place},", model)


def _steps(
    model: Any,
    prompts: Sequence[Prompt],
    visual: Visual,
    memory: ConversationCache,
    cancel: threading.Event | None,
    stages: Stages | None = None,
) -> Iterator[Tensor]:
    """(B, 1) next token ids, without end. Prompts of a batch are padded on the left, where nothing attends to them.

    BROKEN where the logits hold NaN or +inf, or nothing else than -inf: so that whoever reads the id, which waits for
    the device anyway, knows it without waiting again.
    """
    device, penalty = model.device, _repetition_penalty(model)
    ids, positions, mask = (x.to(device) for x in _padded(prompts))
    known = memory.reuse(prompts[0], visual.mark) if len(prompts) == 1 else 0
    image = visual if known == 0 else None
    if known == 0:
        memory.stages = stages
    following = positions.amax(-1, keepdim=True) + 1  # (3, B, 1) or (B, 1)
    feed, at = ids[:, known:], positions[..., known:]
    broken = torch.tensor(BROKEN, device=device)
    while not (cancel is not None and cancel.is_set()):
        try:
            with _through(memory.stages, len(memory), cancel):
                logits, memory.cache = forward(model, feed, at, mask, memory.cache, image)
        except BaseException as error:
            memory.forget()  # some layers may hold more than others
            if isinstance(error, StoppedError):
                return
            raise
        memory.add(feed, at)
        scores = logits[:, -1]  # (B, V)
        if penalty is not None:
            scores = penalty(ids, scores)
        feed, at, image = scores.argmax(-1, keepdim=True), following, None
        # NaN counts as the largest, so what was picked tells of all of them.
        yield torch.where(scores.gather(-1, feed).isfinite(), feed, broken)
        ids, following = torch.cat([ids, feed], dim=1), following + 1
        mask = torch.cat([mask, mask[:, -1:]], dim=1)


def _through(stages: Stages | None, past: int, cancel: threading.Event | None = None) -> AbstractContextManager[None]:
    """While open, a pass over what follows `past` tokens goes through the stages, if there are any."""
    return nullcontext() if stages is None else stages.attached(past, cancel)


def _padded(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (B, n), positions (3, B, n) or (B, n), attention mask (B, n), padded on the left.

    Padding repeats a prompt's first token: like no other it leaves the repetition penalty as it is.
    """
    longest = max(prompt.n for prompt in prompts)
    ids, positions, masks = [], [], []
    for prompt in prompts:
        gap = longest - prompt.n
        ids.append(torch.cat([prompt.input_ids[:, :1].expand(1, gap), prompt.input_ids], dim=1))
        positions.append(torch.nn.functional.pad(prompt.positions, (gap, 0)))
        masks.append(torch.tensor([[0] * gap + [1] * prompt.n]))
    return torch.cat(ids), torch.cat(positions, dim=-2), torch.cat(masks)


def _repetition_penalty(model: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    penalty = model.generation_config.repetition_penalty
    if penalty in (None, 1.0):
        return None
    from transformers import RepetitionPenaltyLogitsProcessor

    processor: Callable[[Tensor, Tensor], Tensor] = RepetitionPenaltyLogitsProcessor(penalty)
    return processor

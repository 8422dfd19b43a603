"""The decode loop: prefill with precomputed visual rows, then one token at a time. Nothing is kept on the model.

Owning this loop (instead of `model.generate` in a thread with a streamer) makes streaming, cancelling, timing and
exceptions plain control flow. Positions are always passed, so the model's own `rope_deltas` is never read or written.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pruning.models.values import Chunk, Finish, Prompt


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock read now tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def stop_ids(model: Any) -> frozenset[int]:
    """Token ids that end an answer, from the checkpoint's generation settings."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = model.config.get_text_config().eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or [])


def stream(
    model: Any,
    prompt: Prompt,
    image_output: Any,
    decode: Callable[[list[int]], str],
    max_new_tokens: int,
    cancel: threading.Event | None,
) -> Iterator[Chunk]:
    """Greedy decoding, one Chunk per token, after the last of which `finish` is set. A set `cancel` ends it without.

    Of the checkpoint's generation settings the end tokens and the repetition penalty apply, as in
    `model.generate(do_sample=False)`; sampling settings do not.

    Args:
        prompt: pruned prompt; decoding goes on from its largest position. image_output: rows for its placeholders.
        decode: token ids -> text.
    """
    synchronize(model.device)
    start = time.perf_counter()
    ends, ids, cache = stop_ids(model), [], None
    input_ids, position_ids = prompt.input_ids.to(model.device), prompt.positions.to(model.device)
    penalty, history = _repetition_penalty(model), input_ids
    following = int(position_ids.max()) + 1
    length = prompt.n
    while not (cancel is not None and cancel.is_set()):
        logits, cache = _forward(model, input_ids, position_ids, image_output if cache is None else None, cache, length)
        scores = logits[:, -1]  # (1, V)
        if penalty is not None:
            scores = penalty(history, scores)
        input_ids = scores.argmax(-1, keepdim=True)
        token_id = int(input_ids)  # waits for the device
        ids.append(token_id)
        finish: Finish | None = "stop" if token_id in ends else "length" if len(ids) == max_new_tokens else None
        yield Chunk(token_id, decode(ids), time.perf_counter() - start, finish)
        if finish:
            return
        history = torch.cat([history, input_ids], dim=1)
        position_ids = torch.full((*position_ids.shape[:-1], 1), following, device=model.device)
        following, length = following + 1, length + 1


@torch.no_grad()
def forced_logprobs(model: Any, prompts: list[Prompt], image_output: Any, answer: Tensor) -> Tensor:
    """Log-probabilities of every vocabulary entry at each step of a given answer, for prompts of equal length.

    The prompts are prefilled together; then the answer follows in one pass over their cache. Not in the same pass: an
    answer may contain the placeholder token itself (untrained models say anything).

    Args:
        prompts: B prompts of equal length. image_output: their visual rows, one prompt after the other.
        answer: (T,) int64.

    Returns:
        (B, T, V) float32 on the model's device.
    """
    batch, steps, length, device = len(prompts), len(answer), prompts[0].n, model.device
    ids = torch.cat([p.input_ids for p in prompts]).to(device)
    positions = torch.cat([p.positions for p in prompts], dim=-2).to(device)  # (3, B, n) or (B, n)
    following = positions.flatten(0, -2).amax() + 1 + torch.arange(steps - 1, device=device)
    logits, cache = _forward(model, ids, positions, image_output, None, length)
    if steps > 1:
        given, positions = answer[:-1].to(device).expand(batch, -1), following.expand(*positions.shape[:-1], -1)
        more, _ = _forward(model, given, positions, None, cache, length + steps - 1, keep=0)
        logits = torch.cat([logits, more], dim=1)
    return torch.log_softmax(logits, dim=-1)


@torch.no_grad()
def _forward(
    model: Any, input_ids: Tensor, position_ids: Tensor, image: Any, cache: Any, length: int, keep: int = 1
) -> tuple[Tensor, Any]:
    """One pass: (B, keep, V) float32 logits of the last `keep` places (0 = all), and the KV cache.

    `length` counts what the cache holds and the new tokens together.
    """
    output = model(
        input_ids=input_ids,
        position_ids=position_ids,
        # Without a mask, gaps in the positions would be taken for borders between packed sequences.
        attention_mask=torch.ones((len(input_ids), length), dtype=torch.long, device=model.device),
        mm_encoder_outputs=None if image is None else {"image": image},
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return output.logits.float(), output.past_key_values


def _repetition_penalty(model: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    penalty = model.generation_config.repetition_penalty
    if penalty in (None, 1.0):
        return None
    from transformers import RepetitionPenaltyLogitsProcessor

    processor: Callable[[Tensor, Tensor], Tensor] = RepetitionPenaltyLogitsProcessor(penalty)
    return processor

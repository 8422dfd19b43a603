"""What a question costs the device: streamed answers, time to first token, fidelity. Each is cached by content."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import closing
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from app.device import Task
from app.engine import Engine, checked_question
from app.session import Session
from pruning import metrics

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.models import Answer, Encoded
    from pruning.tokens import Selection

PATIENCE = 120.0  # seconds without a token before a stream is given up


def answers(
    engine: Engine, session: Session, question: str, selection: Selection | None, task: Task, max_new_tokens: int = 64
) -> Iterator[str | Answer]:
    """Stream one answer: its growing text, and last the whole `Answer`. All tokens where `selection` is None.

    The model runs in a thread of its own that holds the device lock and never waits for the reader: a reader who
    goes away, or never comes back, cannot hold the device. Closing the iterator or setting `task` stops it.
    """
    question = checked_question(question)
    key = answer_key(engine, session, question, selection)
    held: Answer | None = engine.cache.peek(key)
    if held is not None:
        yield held
        return
    encoded = engine.encoded(session)
    indices = None if selection is None else selection.indices
    out: Queue[str | Answer | BaseException] = Queue()

    def work() -> None:
        try:
            out.put(engine.device.run(lambda: _generate(engine, encoded, question, indices, max_new_tokens, task, out)))
        except BaseException as error:
            out.put(error)

    local = threading.Thread(target=work, name="answer", daemon=True)
    local.start()
    done = False
    try:
        while not done:
            try:
                item = out.get(timeout=PATIENCE)
            except Empty:
                raise TimeoutError(f"The model gave no token for {PATIENCE:g} s: try again") from None
            if isinstance(item, BaseException):
                raise item
            done = not isinstance(item, str)
            if not isinstance(item, str) and not item.cancelled:
                engine.cache.put(key, item, 4096 + 8 * len(item.ids))
            yield item
    finally:
        if not done:
            task.set()


def first_token_seconds(engine: Engine, session: Session, question: str, selection: Selection | None) -> float:
    """Measured time to the first token: the median of up to five runs within about a quarter of a second."""
    encoded = engine.encoded(session)
    indices = None if selection is None else selection.indices

    def once() -> float:
        with closing(engine.vlm.generate(encoded, question, indices, max_new_tokens=1)) as chunks:  # type: ignore[type-var]
            return next(chunks).seconds

    def make() -> float:
        runs = [engine.device.run(once)]
        while len(runs) < 5 and sum(runs) < 0.25:
            runs.append(engine.device.run(once))
        return float(np.median(runs))

    return engine.cache.get(("ttft", *answer_key(engine, session, question, selection)), make, lambda _: 64)


def fidelity(engine: Engine, session: Session, question: str, full: Answer, selection: Selection) -> float:
    """exp(-mean KL) of the kept tokens against all tokens, over the tokens of the full answer."""
    encoded = engine.encoded(session)

    def forced(indices: Tensor | None) -> Tensor:
        return engine.device.run(lambda: engine.vlm.logprobs(encoded, question, full.ids, [indices])[0].float().cpu())

    def reference() -> Tensor:
        return forced(None)

    everything = engine.cache.get(
        ("forced", *answer_key(engine, session, question, None)), reference, lambda logp: logp.numel() * 4
    )

    def make() -> float:
        return float(metrics.fidelity(everything, forced(selection.indices)))

    return engine.cache.get(("fidelity", *answer_key(engine, session, question, selection)), make, lambda _: 64)


def _generate(
    engine: Engine, encoded: Encoded, question: str, indices: Tensor | None, limit: int, task: Task, out: Queue[Any]
) -> Answer:
    from pruning.models import Answer

    prompt = engine.vlm.prompt(encoded, question).n - encoded.tokens.n
    kept = encoded.tokens.n if indices is None else len(indices)
    chunks = []
    for chunk in engine.vlm.generate(encoded, question, indices, max_new_tokens=limit, cancel=task):
        chunks.append(chunk)
        out.put(chunk.text_so_far)
    last = chunks[-1] if chunks else None
    return Answer(
        text=last.text_so_far if last else "",
        ids=tuple(chunk.token_id for chunk in chunks),
        ttft_s=chunks[0].seconds if chunks else 0.0,
        total_s=last.seconds if last else 0.0,
        prefill_tokens=prompt + kept,
        finished=last is not None and last.finish == "stop",
        cancelled=last is None or last.finish is None,
    )


def answer_key(engine: Engine, session: Session, question: str, selection: Selection | None) -> tuple[Hashable, ...]:
    """Cache key of an answer: keeping all tokens is the same whichever method does it."""
    kept = None if selection is None or selection.k == selection.n else selection.indices.numpy().tobytes()
    return engine.key("answer", session, question, kept)

"""The process-wide half of the app: one model, one device lock, one cache. Knows no visitor and no Gradio.

Whatever it keeps is keyed by content: model id, sha256 of the pixels, question, method instance. Lock order: a cache flight
may wait for the device, never the other way round, so `_on_device` is only wrapped around leaf calls of the model.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from app.cache import ByteCache
from app.session import Session
from pruning import draw
from pruning.budget import keep_count
from pruning.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pruning.method import Method
    from pruning.models import VLM, Answer, Encoded
    from pruning.tokens import Selection, VisualTokens

T = TypeVar("T")

MAX_QUESTION = 1000  # characters
DISPLAY = 768  # longest side of the overlay, pixels
PATIENCE = 120.0  # seconds without a token before a stream is given up


class DeviceFullError(RuntimeError):
    """The device ran out of memory, even after every cached value was dropped. The message says what to do."""


class Task(threading.Event):
    """Set to stop one visitor's work; a class of its own because an Event's owner is looked up weakly."""


@dataclass(frozen=True)
class View:
    """What the overlay is painted on: the image at display size (H, W, 3) uint8, and the token rectangles on it (N, 4)."""

    image: NDArray[np.uint8]
    rects: NDArray[np.float32]


class Engine:
    """Encode once, select often, answer one at a time. Every method may be called from any thread.

    `cache_bytes` bounds all that is kept; `upload_bytes` is the largest image file that `open` reads.
    """

    def __init__(self, vlm: VLM, cache_bytes: int = 1 << 30, upload_bytes: int = 20 << 20) -> None:
        self.vlm = vlm
        self.cache = ByteCache(cache_bytes)
        self.upload_bytes = upload_bytes
        self._device = threading.Lock()
        self._tasks: WeakValueDictionary[tuple[str, str], Task] = WeakValueDictionary()
        self._tasks_lock = threading.Lock()

    # Tasks: what one visitor may stop

    def begin(self, owner: str, kind: str) -> Task:
        """A new task of `owner`; an earlier one of the same kind is stopped. Forgotten with its last reference."""
        task = Task()
        with self._tasks_lock:
            earlier = self._tasks.get((owner, kind))
            self._tasks[owner, kind] = task
        if earlier is not None:
            earlier.set()
        return task

    def stop(self, owner: str, *kinds: str) -> None:
        """Stop the owner's tasks of these kinds; of all kinds where none is named."""
        with self._tasks_lock:
            tasks = [t for (who, kind), t in self._tasks.items() if who == owner and (not kinds or kind in kinds)]
        for task in tasks:
            task.set()

    # Images

    def open(self, path: str) -> tuple[Session, tuple[str, ...]]:
        """Read an uploaded file; returns the page's handle and notes on what was changed (first frame taken, …).

        Raises ImageError (a ValueError) that says what is wrong with the file and what to do.
        """
        image = open_image(path, max_bytes=self.upload_bytes)
        digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
        digest.update(image.tobytes())
        session = Session(digest.hexdigest(), path, image.width, image.height)
        self.cache.put(("image", session.image_key), image, image.width * image.height * 3)
        return session, tuple(image.info.get("notes", ()))

    def image(self, session: Session) -> Image:
        """The RGB image of a session, read again from its file where the cache has let it go."""

        def read() -> Image:
            if not os.path.exists(session.path):
                raise ValueError(
                    "The image is no longer on the server, which keeps uploads for an hour: upload it again"
                )
            reopened, _ = self.open(session.path)
            if reopened.image_key != session.image_key:
                raise ValueError("The image's file has changed since it was uploaded: upload it again")
            held = self.cache.peek(("image", session.image_key))
            return held if held is not None else open_image(session.path, max_bytes=self.upload_bytes)

        held: Image | None = self.cache.peek(("image", session.image_key))
        return held if held is not None else read()

    def encoded(self, session: Session, needs: frozenset[str] = frozenset()) -> Encoded:
        """The vision tower's output, with the attention maps in `needs`; similarity is computed with it."""
        maps = frozenset(need for need in needs if need.startswith("vision_"))

        def make() -> Encoded:
            image = self.image(session)
            encoded = self._on_device(lambda: self.vlm.encode([image], maps))
            _ = encoded.tokens.similarity
            return encoded

        return self.cache.get(self._key("encoded", session, maps), make, _weight)

    def tokens(self, session: Session, question: str, needs: frozenset[str]) -> VisualTokens:
        """The encoded tokens with every signal that `needs` names."""
        encoded = self.encoded(session, needs)
        asked = question if "question" in needs else ""

        def make() -> VisualTokens:
            return self._on_device(lambda: self.vlm.tokens(encoded, asked, needs))

        return self.cache.get(self._key("tokens", session, asked, needs), make, lambda tokens: 64 * tokens.n)

    def view(self, session: Session) -> View:
        """The image at display size with its token rectangles."""
        encoded = self.encoded(session)

        def make() -> View:
            small, factor = draw.fit(np.asarray(self.image(session)), DISPLAY)
            stretch = np.array([small.shape[1] / session.width, small.shape[0] / session.height] * 2)
            return View(small, (encoded.rects * stretch).astype(np.float32))

        return self.cache.get(self._key("view", session), make, lambda view: view.image.nbytes + view.rects.nbytes)

    # Selections

    def budget(self, session: Session, retention: float) -> int:
        """Tokens kept at this retention ratio. Raises ValueError for one outside (0, 1]."""
        return keep_count(self.encoded(session).tokens.n, retention)

    def selection(self, session: Session, question: str, method: Method, retention: float) -> Selection:
        """What `method` keeps. A nested method runs once to the last token; every retention is a prefix of that."""
        budget = self.budget(session, retention)
        tokens = self.tokens(session, question, method.needs)
        asked = question if "question" in method.needs else ""
        count = tokens.n if method.nested else budget
        key = self._key("selection", session, asked, method, count)
        whole = self.cache.get(key, lambda: method.select(tokens, count), lambda _: 32 * tokens.n)
        return whole.prefix(budget) if method.nested else whole

    def selection_seconds(self, session: Session, question: str, method: Method, retention: float) -> float:
        """Median of three selections from scratch, the similarity matrix included; measured once per setting."""
        budget = self.budget(session, retention)
        tokens = self.tokens(session, question, method.needs)

        def once() -> float:
            fresh = replace(tokens)  # a copy without the computed similarity
            start = time.perf_counter()
            method.select(fresh, budget)
            return time.perf_counter() - start

        def make() -> float:
            return float(np.median([once() for _ in range(3)]))

        return self.cache.get(self._key("seconds", session, method, budget), make, lambda _: 64)

    def importance(self, session: Session, question: str, method: Method) -> Tensor | None:
        """(N,) what the heat map shows for a method that scores nothing itself: the best importance source there is."""
        from pruning.importance import raw_importance, signals_for

        source = self.default_source
        tokens = self.tokens(session, question, signals_for(source))
        return raw_importance(tokens, source, method.name)

    @property
    def default_source(self) -> str:
        """The trained scorer where the model has one, else attention in the last vision layer."""
        return "scorer" if "scorer" in self.vlm.signals else "vision_attention"

    def overlay(
        self, session: Session, question: str, method: Method, retention: float, style: str
    ) -> NDArray[np.uint8]:
        """The overlay at display size, (H, W, 3) uint8 RGB."""
        selection = self.selection(session, question, method, retention)
        scores = None
        if style == "heat" and selection.scores is None:
            scores = self.importance(session, question, method)
        view = self.view(session)
        shown = None if scores is None else scores.float().cpu().numpy()
        return draw.overlay(view.image, view.rects, selection, style, shown)

    # Answers

    def answers(
        self, session: Session, question: str, selection: Selection | None, task: Task, max_new_tokens: int = 64
    ) -> Iterator[str | Answer]:
        """Stream one answer: its growing text, and last the whole `Answer`. All tokens where `selection` is None.

        The model runs in a thread of its own that holds the device lock and never waits for the reader: a reader who
        goes away, or never comes back, cannot hold the device. Closing the iterator or setting `task` stops it.
        """
        question = checked_question(question)
        key = self._answer_key(session, question, selection)
        held: Answer | None = self.cache.peek(key)
        if held is not None:
            yield held
            return
        encoded = self.encoded(session)
        indices = None if selection is None else selection.indices
        out: Queue[str | Answer | BaseException] = Queue()

        def work() -> None:
            try:
                out.put(self._on_device(lambda: self._generate(encoded, question, indices, max_new_tokens, task, out)))
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
                    self.cache.put(key, item, 4096 + 8 * len(item.ids))
                yield item
        finally:
            if not done:
                task.set()

    def first_token_seconds(self, session: Session, question: str, selection: Selection | None) -> float:
        """Measured time to the first token: the median of up to five runs within about a quarter of a second."""
        encoded = self.encoded(session)
        indices = None if selection is None else selection.indices

        def once() -> float:
            with closing(self.vlm.generate(encoded, question, indices, max_new_tokens=1)) as chunks:  # type: ignore[type-var]
                return next(chunks).seconds

        def make() -> float:
            runs = [self._on_device(once)]
            while len(runs) < 5 and sum(runs) < 0.25:
                runs.append(self._on_device(once))
            return float(np.median(runs))

        return self.cache.get(("ttft", *self._answer_key(session, question, selection)), make, lambda _: 64)

    def fidelity(self, session: Session, question: str, full: Answer, selection: Selection) -> float:
        """exp(-mean KL) of the kept tokens against all tokens, over the tokens of the full answer."""
        from pruning.metrics import fidelity

        encoded = self.encoded(session)

        def forced(indices: Tensor | None) -> Tensor:
            return self._on_device(lambda: self.vlm.logprobs(encoded, question, full.ids, [indices])[0].float().cpu())

        def reference() -> Tensor:
            return forced(None)

        everything = self.cache.get(
            ("forced", *self._answer_key(session, question, None)), reference, lambda logp: logp.numel() * 4
        )

        def make() -> float:
            return float(fidelity(everything, forced(selection.indices)))

        return self.cache.get(("fidelity", *self._answer_key(session, question, selection)), make, lambda _: 64)

    def unknown_words(self, question: str) -> list[str]:
        """Words of the question that the model's vocabulary lacks; empty for vocabularies that spell everything."""
        tokenizer = self.vlm.tokenizer
        unknown = getattr(tokenizer, "unk_token_id", None)
        if unknown is None:
            return []
        words = dict.fromkeys(word.strip("?!.,:;\"'()") for word in question.split())
        return [w for w in words if w and unknown in tokenizer(w, add_special_tokens=False).input_ids]

    def memo(self, session: Session, parts: tuple[Hashable, ...], make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Cache what another module computed about this image under its own `parts` of the key."""
        return self.cache.get(self._key("memo", session, *parts), make, size)

    def recall(self, session: Session, parts: tuple[Hashable, ...]) -> Any | None:
        """What `remember` or `memo` kept, else None."""
        return self.cache.peek(self._key("memo", session, *parts))

    def remember(self, session: Session, parts: tuple[Hashable, ...], value: Any, nbytes: int) -> None:
        """Keep a value that was not made in one piece."""
        self.cache.put(self._key("memo", session, *parts), value, nbytes)

    def on_device(self, work: Callable[[], T]) -> T:
        """Run one short piece of model work alone on the device. It must not call the engine back."""
        return self._on_device(work)

    def _generate(
        self, encoded: Encoded, question: str, indices: Tensor | None, limit: int, task: Task, out: Queue[Any]
    ) -> Answer:
        from pruning.models import Answer

        prompt = self.vlm.prompt(encoded, question).n - encoded.tokens.n
        kept = encoded.tokens.n if indices is None else len(indices)
        chunks = []
        for chunk in self.vlm.generate(encoded, question, indices, max_new_tokens=limit, cancel=task):
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

    def _on_device(self, work: Callable[[], T]) -> T:
        with self._device:
            for attempt in (1, 2):
                try:
                    return work()
                except Exception as error:
                    if not _out_of_memory(error):
                        raise
                    self.cache.clear()
                    _release()
                    if attempt == 2:
                        raise DeviceFullError(
                            f"{self.vlm.title} ran out of memory on {self.vlm.device}: use a smaller image, keep fewer "
                            "tokens, or start the app with a smaller model or --device cpu"
                        ) from None
        raise AssertionError("unreachable")

    def _key(self, kind: str, session: Session, *rest: Hashable) -> tuple[Hashable, ...]:
        return (kind, self.vlm.model_id, session.image_key, *rest)

    def _answer_key(self, session: Session, question: str, selection: Selection | None) -> tuple[Hashable, ...]:
        kept = None if selection is None or selection.k == selection.n else selection.indices.numpy().tobytes()
        return self._key("answer", session, question, kept)


def checked_question(question: object) -> str:
    """The question without surrounding blanks. Raises ValueError when it is empty or too long; never repeats it."""
    text = question.strip() if isinstance(question, str) else ""
    if not text:
        raise ValueError("The question is empty: type one, for example “what color is the star?”")
    if len(text) > MAX_QUESTION:
        raise ValueError(f"The question has {len(text):,} characters, at most {MAX_QUESTION:,} are allowed: shorten it")
    return text


def _weight(encoded: Encoded) -> int:
    return encoded.nbytes + 4 * encoded.tokens.n**2  # with the similarity that is kept beside the features


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _release() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""The process-wide half of the app: one model, one device lock, one cache. Knows no visitor and no Gradio.

Whatever it keeps is keyed by content: model id, sha256 of the pixels, question, method instance. Lock order: a cache
flight may wait for the device, never the other way round, so `device.run` is only wrapped around leaf calls of the
model.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.cache import ByteCache
from app.device import Device, Tasks
from app.session import Session
from pruning import draw
from pruning.budget import keep_count
from pruning.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pruning.method import Method
    from pruning.models import VLM, Encoded
    from pruning.tokens import Selection, VisualTokens

T = TypeVar("T")

MAX_QUESTION = 1000  # characters
DISPLAY = 768  # longest side of the overlay, pixels


@dataclass(frozen=True)
class View:
    """What the overlay is painted on: the image (H, W, 3) uint8 at display size, and its token rectangles (N, 4)."""

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
        self.tasks = Tasks()
        remedy = "use a smaller image, keep fewer tokens, or start the app with a smaller model or --device cpu"
        self.device = Device(self.cache.clear, f"{vlm.title} ran out of memory on {vlm.device}: {remedy}")

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
            encoded = self.device.run(lambda: self.vlm.encode([image], maps))
            _ = encoded.tokens.similarity
            return encoded

        return self.cache.get(self.key("encoded", session, maps), make, _weight)

    def tokens(self, session: Session, question: str, needs: frozenset[str]) -> VisualTokens:
        """The encoded tokens with every signal that `needs` names."""
        encoded = self.encoded(session, needs)
        asked = question if "question" in needs else ""

        def make() -> VisualTokens:
            return self.device.run(lambda: self.vlm.tokens(encoded, asked, needs))

        return self.cache.get(self.key("tokens", session, asked, needs), make, lambda tokens: 64 * tokens.n)

    def view(self, session: Session) -> View:
        """The image at display size with its token rectangles."""
        encoded = self.encoded(session)

        def make() -> View:
            small, _ = draw.fit(np.asarray(self.image(session)), DISPLAY)
            stretch = np.array([small.shape[1] / session.width, small.shape[0] / session.height] * 2)
            return View(small, (encoded.rects * stretch).astype(np.float32))

        return self.cache.get(self.key("view", session), make, lambda view: view.image.nbytes + view.rects.nbytes)

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
        key = self.key("selection", session, asked, method, count)
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

        return self.cache.get(self.key("seconds", session, method, budget), make, lambda _: 64)

    def importance(self, session: Session, question: str, method: Method) -> Tensor | None:
        """(N,) what the heat map shows for a method that scores nothing itself: the best importance source there is."""
        from pruning.importance import raw_importance, signals_for

        source = self.default_source
        tokens = self.tokens(session, question, signals_for(source))
        return raw_importance(tokens, source, method.name)

    @property
    def default_source(self) -> str:
        """The trained scorer where the model has one, else the next source that it can serve."""
        from pruning.importance import best_source

        return best_source(self.vlm.signals)

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
        return self.cache.get(self.key("memo", session, *parts), make, size)

    def recall(self, session: Session, parts: tuple[Hashable, ...]) -> Any | None:
        """What `remember` or `memo` kept, else None."""
        return self.cache.peek(self.key("memo", session, *parts))

    def remember(self, session: Session, parts: tuple[Hashable, ...], value: Any, nbytes: int) -> None:
        """Keep a value that was not made in one piece."""
        self.cache.put(self.key("memo", session, *parts), value, nbytes)

    def key(self, kind: str, session: Session, *rest: Hashable) -> tuple[Hashable, ...]:
        return (kind, self.vlm.model_id, session.image_key, *rest)


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

"""Pruner: pruning for a model that somebody has loaded already, beside its own library."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pruning.budget import check_retention
from pruning.choosing import Asked, choose, needs_of
from pruning.grids import SCOPES, Scope
from pruning.handover.inputs import PrunedInputs
from pruning.importance import best_source
from pruning.method import METHODS
from pruning.models.adopting import adopt, check
from pruning.models.batches import Ready
from pruning.models.language.library_loop import LibraryLoop
from pruning.models.values import POSITIONS, Encoded, ModelError, Positions, Sample, Turn
from pruning.models.vlm import VLM
from pruning.params import SOURCE
from pruning.plan import Plan
from pruning.published import Published
from pruning.runnable import REMEDY, asked_for, why_not
from pruning.video import Clip

Media = Image.Image | Clip
Pictures = Media | Sequence[Media]


class Pruner:
    """Prunes what a model sees, and leaves generating to the model's own library.

    pruner = Pruner(model, processor, method="idpruner", retention=0.25)
    inputs = pruner(images, question)
    output = model.generate(**inputs, max_new_tokens=64)

    Nothing is wrapped and nothing stays on the model; one Pruner serves any number of threads, and so does the model.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        method: str | Asked = "idpruner",
        retention: float | None = 0.25,
        *,
        per: Scope = "sample",
        positions: Positions = "original",
        scorer: str | Path = "",
        pruner: str | Path = "",
        max_visual_tokens: int | None = None,
    ) -> None:
        """
        Args:
            model, processor: as AutoModelForImageTextToText and AutoProcessor load them; the model in eval mode.
            method: of any registry or a published schedule by name, or one that was made: `make("idpruner",
                mmr_lambda=0.7)`, `parse_plan("pre:idpruner:0.4,3:fastv:0.5")`.
            retention: share of the visual tokens alive, in the mean over the layers; what has a schedule of its own
                needs none.
            per: what a budget is for. positions: of kept tokens, "compact" renumbers them.
            scorer: folder or hub id of importance scorer weights; "" takes those beside the checkpoint, if any.
            pruner: folder of modules that were trained to prune the model; "" takes those beside the checkpoint.
            max_visual_tokens: larger images are scaled down to this many; None leaves it to the processor.

        Raises:
            ValueError: an unknown method or option, a retention outside (0, 1], or a method that needs what the model
                lacks. ModelError: a model or processor that cannot be taken as it is, see `adopting.adopt`.
        """
        if positions not in POSITIONS:
            raise ValueError(f"positions {positions!r} are not known: they must be one of {', '.join(POSITIONS)}")
        if per not in SCOPES:
            raise ValueError(f"per {per!r} is not known: it must be one of {', '.join(SCOPES)}")
        if not isinstance(method, Plan | Published):
            check_retention(retention)  # type: ignore[arg-type]
        self.vlm: VLM = adopt(model, processor, scorer, pruner, max_visual_tokens)
        self.method: Asked = asked_for(self.vlm.signals, method) if isinstance(method, str) else method
        self.retention, self.per, self.positions = retention, per, positions
        if reason := why_not(self.method, self.vlm.title, self.vlm.signals | self.vlm.encodings):
            raise ValueError(f"{reason}. {REMEDY}")
        source = best_source(self.vlm.signals)
        if isinstance(method, str) and method in METHODS and METHODS[method].has(SOURCE) and source != "scorer":
            warnings.warn(
                f"{self.vlm.title} has no trained importance scorer: {method} takes importance from {source}. Name one "
                "with scorer=, or another source in the method",
                stacklevel=2,
            )

    def __call__(
        self,
        images: Pictures | Sequence[Pictures],
        question: str | Sequence[str],
        history: Sequence[Turn] | Sequence[Sequence[Turn]] = (),
    ) -> PrunedInputs:
        """Encode, choose and build the prompt: what `model.generate` takes.

        Args:
            images: one or several of Pillow for a question, of any mode, and clips behind them, as
                `pruning.video.open_clip` reads them. For several questions, those of each.
            question: one, or B of them for a batch. history: earlier turns about the same images, `Turn(question,
                answer)`, the first one first; for several questions, those of each.

        Raises:
            ValueError: no image, something that is no image, a question that is empty or holds a control token of the
                model, other numbers of images than questions, tokens beyond the context, and what methods raise.
            ModelError: a model that was changed since the Pruner was made, or NaN in what it computes.
        """
        check(self.vlm.model)
        if isinstance(question, str):
            return self._inputs([self._ready(images, question, history)])
        if not question:
            raise ValueError("no question: give one, or a list of at least one")
        given = [images] if isinstance(images, Media) else list(images)
        turns: list[Any] = list(history) or [()] * len(question)
        if len(given) != len(question) or len(turns) != len(question):
            raise ValueError(
                f"{len(question)} questions need as many entries of images and of history: there are {len(given)} and "
                f"{len(turns)}. For several images of one question, put them into a list of their own"
            )
        samples = zip(given, question, turns, strict=True)
        return self._inputs([self._ready(*sample) for sample in samples])

    def _inputs(self, ready: Sequence[Ready]) -> PrunedInputs:
        return PrunedInputs(self.vlm.family, ready, self.vlm.stages(ready) is not None)

    @contextmanager
    def stages(self, inputs: PrunedInputs) -> Iterator[LibraryLoop | None]:
        """While open, `model.generate(**inputs)` lets tokens leave between layers, as the plan says, in any thread; and
        the windows of a model that has some (Gemma 3) stay where they were, once tokens are left out.

        Gives what tells of it: `traces`, of each prompt until which layer each token lived, once it was generated. For
        inputs that need neither it gives None and does nothing. Whatever happens inside, no hook stays.
        """
        stages = self.vlm.stages(inputs.ready)
        loop = None if stages is None else LibraryLoop(stages, inputs.prompt_length, inputs.ticket)
        if not inputs.staging.acquire(blocking=False):
            raise ModelError("these inputs are in a `stages` block already: make inputs for each generation at a time")
        try:
            with nullcontext() if loop is None else loop.attached():
                yield loop
        finally:
            inputs.staging.release()

    @torch.no_grad()
    def _ready(self, images: Any, question: str, history: Any) -> Ready:
        """One prompt, pruned."""
        pictures = [images] if isinstance(images, Media) else list(images)
        for number, picture in enumerate(pictures, 1):
            if not isinstance(picture, Media):
                raise ValueError(
                    f"image {number} is a {type(picture).__name__}: open it with Pillow, PIL.Image.open(path), or a "
                    "clip with pruning.video.open_clip(path)"
                )
        needs = needs_of(self.method)
        encoded = self.vlm.encode(pictures, needs - {"question"})
        tokens = self.vlm.tokens(encoded, question, needs)
        again = partial(self._encoded, pictures)
        kept = choose(self.method, tokens, self.vlm.layers, self.retention, self.per, again)
        return self.vlm.prepare(Sample(encoded, question, kept, tuple(history), self.positions), 1)

    def _encoded(self, pictures: Sequence[Media], asked: Any) -> Encoded:
        return self.vlm.encode(pictures, asked=asked)

"""VLM: one loaded model. Encode images once; then prompt, prune and generate as often as wanted.

It holds no image, no question and no conversation, so several visitors can share it. It is not a queue: whoever shares
one device decides who computes when.
"""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pruning.models import generation
from pruning.models.family import Family
from pruning.models.question import content_token_ids
from pruning.models.scorer import Scorer
from pruning.models.values import Answer, Chunk, Encoded, ModelError, Prompt, checked_indices
from pruning.tokens import VisualTokens

ATTENTION = re.compile(r"vision_attention@(-?\d+)")
BATCH_ELEMENTS = 1 << 26  # logits formed at once by `logprobs`: 256 MB of float32


class VLM:
    """A vision-language model whose visual tokens can be pruned. Build it with `pruning.models.load`."""

    def __init__(
        self,
        family: Family,
        tokenizer: Any,
        scorer: Scorer | None = None,
        *,
        model_id: str,
        title: str,
        max_visual_tokens: int,
    ) -> None:
        self.family, self.tokenizer, self.scorer = family, tokenizer, scorer
        self.model: Any = family.model
        self.model_id, self.title, self.max_visual_tokens = model_id, title, max_visual_tokens
        self._tower = threading.Lock()  # capturing attention hooks the tower for the length of one call

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def image_processor(self) -> Any:
        return self.family.image_processor

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def signals(self) -> frozenset[str]:
        """Names of all signals that this model can provide."""
        layers = range(-self.family.vision_layers, self.family.vision_layers)
        learned = ["scorer"] if self.scorer else []
        return frozenset(["question", *learned, *(f"vision_attention@{layer}" for layer in layers)])

    def encode(self, images: Sequence[Image.Image], needs: frozenset[str] = frozenset()) -> Encoded:
        """Run the vision tower once over the images of one sample.

        `needs` are the signals to capture (`vision_attention@L`; `scorer` and `question` can also be added later, by
        `tokens`). Larger images are scaled down to `max_visual_tokens` each, as the model's own settings demand.

        Raises:
            ValueError: no image, an unknown signal, or an aspect ratio over 200. ModelError: non-finite features.
        """
        if not images:
            raise ValueError("encode needs at least one image")
        self._check_needs(needs)
        layers = [int(m[1]) for need in sorted(needs) if (m := ATTENTION.fullmatch(need))]
        generation.synchronize(self.device)
        start = time.perf_counter()
        pixels = self.family.preprocess([image.convert("RGB") for image in images], self.max_visual_tokens)
        with self._tower:
            rows, maps = self.family.encode(pixels, layers)
        features = rows.float().cpu()
        seconds = time.perf_counter() - start
        if not bool(torch.isfinite(features).all()):
            raise ModelError(f"{self.title} gave NaN or infinite features in {self.dtype}: load it with dtype float32")
        signals = {f"vision_attention@{layer}": values.float().cpu() for layer, values in maps.items()}
        sizes = tuple(image.size for image in images)
        tokens = VisualTokens(features, pixels.grids, self._with_scorer(features, needs, signals))
        return Encoded(tokens, self.family.rects(pixels.grids, sizes), sizes, seconds)

    def tokens(self, encoded: Encoded, question: str, needs: frozenset[str] = frozenset()) -> VisualTokens:
        """The encoded tokens with every signal in `needs`: `question` becomes (M, D) embeddings of its content words.

        Raises:
            ValueError: a signal that the model lacks, or an attention map that `encode` was not asked for.
        """
        self._check_needs(needs)
        signals = self._with_scorer(encoded.tokens.features, needs, dict(encoded.tokens.signals))
        if "question" in needs:
            ids = torch.tensor(content_token_ids(self.tokenizer, _checked_question(question)), device=self.device)
            with torch.no_grad():
                signals["question"] = self.model.get_input_embeddings()(ids).float().cpu()
        missing = sorted(needs - signals.keys())
        if missing:
            raise ValueError(
                f"signal {missing[0]!r} was not captured: encode the image again with needs={{{missing[0]!r}}}"
            )
        return encoded.tokens.with_signals(signals)

    def prompt(self, encoded: Encoded, question: str) -> Prompt:
        """The unpruned prompt: chat template with one placeholder per visual token, on the CPU.

        Raises:
            ValueError: an empty question, or one that contains a control token of the model.
        """
        question = _checked_question(question)
        added = self.tokenizer.added_tokens_decoder.values()
        control = [str(token) for token in added if token.special and str(token) in question]
        if control:
            raise ValueError(f"The question contains {control[0]!r}, a control token of the model: remove it")
        grids = encoded.tokens.grids
        content = [*({"type": "image"} for _ in grids), {"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        image_id, counts = self.config.image_token_id, iter(grids)
        ids: list[int] = []
        for token_id in self.tokenizer(text, add_special_tokens=False).input_ids:
            ids += [token_id] * (next(counts).count if token_id == image_id else 1)
        input_ids = torch.tensor([ids])
        return Prompt(input_ids, self.family.positions(input_ids, grids), input_ids[0] == image_id)

    def generate(
        self,
        encoded: Encoded,
        question: str,
        indices: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        cancel: threading.Event | None = None,
    ) -> Iterator[Chunk]:
        """Answer with the visual tokens `indices` (K,), None = all of them; greedy, one Chunk per token.

        Kept tokens stay at their original positions and in their original order. Setting `cancel` ends the stream
        before the next token; the cache goes with the iterator.

        Raises (at once, not at the first token):
            ValueError: bad question or indices, max_new_tokens below 1, or more tokens than the context holds.
        """
        prompt, visual = self._prepare(encoded, question, indices, max_new_tokens)
        return generation.stream(self.model, prompt, visual, self._decode, max_new_tokens, cancel)

    def answer(
        self,
        encoded: Encoded,
        question: str,
        indices: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """`generate` to its end. Same arguments, same errors."""
        prompt, visual = self._prepare(encoded, question, indices, max_new_tokens)
        chunks = list(generation.stream(self.model, prompt, visual, self._decode, max_new_tokens, cancel))
        last = chunks[-1] if chunks else Chunk(-1, "", 0.0)
        return Answer(
            text=last.text_so_far,
            ids=tuple(chunk.token_id for chunk in chunks),
            ttft_s=chunks[0].seconds if chunks else 0.0,
            total_s=last.seconds,
            prefill_tokens=prompt.n,
            finished=last.finish == "stop",
            cancelled=last.finish is None,
        )

    def logprobs(
        self, encoded: Encoded, question: str, answer_ids: Sequence[int], selections: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Teacher-forced log-probabilities of an answer under each selection, in the order given.

        One language-model pass per budget: selections with equal K go through it together.

        Args:
            answer_ids: T >= 1 token ids, e.g. those of the full-token answer. selections: kept indices; None = all.

        Returns:
            For each selection (T, V) float32 on the model's device.
        """
        if not answer_ids:
            raise ValueError("logprobs needs at least one answer token")
        full = self.prompt(encoded, question)
        answer = torch.tensor(answer_ids)
        self._check_length(full, len(answer_ids))
        by_budget: defaultdict[int, list[int]] = defaultdict(list)
        kept = [checked_indices(selection, encoded.tokens.n) for selection in selections]
        for i, indices in enumerate(kept):
            by_budget[len(indices)].append(i)
        features = encoded.tokens.features.to(self.device, self.dtype)
        found: dict[int, Tensor] = {}
        for group in by_budget.values():
            size = max(1, BATCH_ELEMENTS // (len(answer_ids) * self.config.get_text_config().vocab_size))
            for start in range(0, len(group), size):
                part = group[start : start + size]
                rows = features[torch.cat([kept[i] for i in part]).to(self.device)]
                prompts = [full.keep(kept[i]) for i in part]
                values = generation.forced_logprobs(self.model, prompts, self.family.encoder_output(rows), answer)
                found.update(zip(part, values, strict=True))
        return [found[i] for i in range(len(kept))]

    def warmup(self) -> None:
        """Run the whole path once on a blank image, so that the first measured time is not the first call's."""
        encoded = self.encode([Image.new("RGB", (112, 112), "white")])
        answer = self.answer(encoded, "?", max_new_tokens=2)
        self.logprobs(encoded, "?", answer.ids, [None])

    def _prepare(
        self, encoded: Encoded, question: str, indices: Tensor | None, max_new_tokens: int
    ) -> tuple[Prompt, Any]:
        """The pruned prompt and the rows for its placeholders, after every check of the arguments."""
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be a whole number of at least 1, not {max_new_tokens!r}")
        kept = checked_indices(indices, encoded.tokens.n)
        prompt = self.prompt(encoded, question).keep(kept)
        self._check_length(prompt, max_new_tokens)
        rows = encoded.tokens.features[kept].to(self.device, self.dtype)
        return prompt, self.family.encoder_output(rows)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.rstrip("\N{REPLACEMENT CHARACTER}").strip()  # half a character is shown once it is whole

    def _with_scorer(self, features: Tensor, needs: frozenset[str], signals: dict[str, Any]) -> dict[str, Any]:
        if "scorer" in needs and "scorer" not in signals and self.scorer is not None:
            with torch.no_grad():
                signals["scorer"] = self.scorer(features.to(self.device)).cpu()
        return signals

    def _check_needs(self, needs: frozenset[str]) -> None:
        unknown = sorted(needs - self.signals)
        if unknown == ["scorer"]:
            raise ValueError(
                f"{self.title} has no trained importance scorer: choose another importance source, or train one with "
                "`python -m pruning.training scorer`"
            )
        if unknown:
            raise ValueError(
                f"{self.title} cannot provide the signal {unknown[0]!r}; it has question, "
                f"{'scorer, ' if self.scorer else ''}vision_attention@L with L from {-self.family.vision_layers} to "
                f"{self.family.vision_layers - 1}"
            )

    def _check_length(self, prompt: Prompt, new_tokens: int) -> None:
        limit = self.config.get_text_config().max_position_embeddings
        needed = max(prompt.n, int(prompt.positions.max()) + 1) + new_tokens
        if needed > limit:
            raise ValueError(
                f"The question, the visual tokens and {new_tokens} tokens of answer need {needed} places; {self.title} "
                f"holds {limit}. Shorten the question or keep fewer visual tokens."
            )


def _checked_question(question: str) -> str:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("The question is empty: type one, for example “What color is the star?”")
    return question.strip()

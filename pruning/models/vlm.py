"""VLM: one loaded model. Encode images once; then prompt, prune and generate as often as wanted.

It holds no image, no question and no conversation, so several visitors can share it. It is not a queue: whoever shares
one device decides who computes when.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pruning.encoding import FRAMES, RESOLUTION, Encoding, OutOfReachError
from pruning.models import resolution, sparser
from pruning.models.batches import Ready, alike_batches, apart, joined, together
from pruning.models.families.base import Family
from pruning.models.families.geometry import token_rects
from pruning.models.language import finite, generation, modality, prompting, vocabulary
from pruning.models.language.forward import Visual
from pruning.models.language.kv_cache import ConversationCache
from pruning.models.language.modality import Attended
from pruning.models.language.prompting import content_token_ids
from pruning.models.language.stages import Course, Stages, check_layers
from pruning.models.language.trace import Trace
from pruning.models.language.windows import takes_masks, window_of
from pruning.models.scorer import Scorer
from pruning.models.signals import available
from pruning.models.signals import tower as tower_signals
from pruning.models.signals.entropy import patch_entropy
from pruning.models.trained import INSIDE, Trained
from pruning.models.values import (
    Answer,
    Chunk,
    Encoded,
    Entering,
    Kept,
    ModelError,
    Positions,
    Prompt,
    Rows,
    Sample,
    Turn,
    check_positions,
    kept_indices,
    standing,
)
from pruning.models.world import World
from pruning.ops.scaling import all_finite
from pruning.plan import Plan
from pruning.rgb import as_rgb
from pruning.signals import ASKING, FUNCTIONS
from pruning.text import checked_question
from pruning.tokens import VisualTokens
from pruning.video import Clip, Sampling

BATCH_ELEMENTS = 1 << 26  # logits formed at once by `logprobs`: 256 MB of float32


class VLM:
    """A vision-language model whose visual tokens can be pruned. Build it with `pruning.models.load`."""

    def __init__(
        self,
        family: Family,
        scorer: Scorer | None = None,
        *,
        model_id: str,
        title: str,
        max_visual_tokens: int,
        world: World | None = None,
        pruners: Mapping[str, Trained] | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        """weights: where scorer and trained pruner come from, by option of `load`; those beside the checkpoint are not
        named.
        """
        self.family, self.scorer, self.world, self.pruners = family, scorer, world, dict(pruners or {})
        self.model: Any = family.model
        self.tokenizer: Any = family.processing.tokenizer
        self.model_id, self.title, self.max_visual_tokens = model_id, title, max_visual_tokens
        self.weights = {option: source for option, source in (weights or {}).items() if source}
        self._tower = threading.Lock()  # capturing signals hooks the tower for the length of one call

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def image_processor(self) -> Any:
        return self.family.processing.image_processor

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def memory(self) -> int:
        """Bytes of weights held, on whichever device."""
        return int(self.model.get_memory_footprint())

    @property
    def layers(self) -> int:
        """Layers of the language model, between which a plan's cuts lie."""
        return int(self.config.get_text_config().num_hidden_layers)

    @cached_property
    def signals(self) -> frozenset[str]:
        """Names of all signals that this model can provide."""
        return available.signals(self.family, self.scorer, self.pruners.keys())

    def beside(self, pruners: Mapping[str, Trained]) -> VLM:
        """The same loaded model with these trained modules in place of its own of the same names."""
        found = copy(self)  # it shares the tower's lock
        found.pruners = {**self.pruners, **pruners}
        found.__dict__.pop("signals", None)
        return found

    @cached_property
    def no_stages(self) -> str:
        """Why tokens cannot leave between this model's layers; "" where they can."""
        try:
            check_layers(self.model, list(self.model.get_decoder().layers))
        except ModelError as error:
            return str(error)
        return ""

    @cached_property
    def no_clips(self) -> str:
        """Why this model takes no clips; "" where it does."""
        try:
            self.family.check_clips()
        except ModelError as error:
            return f"{self.title}: {error}"
        return ""

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip are taken where nothing else is asked for, as the checkpoint says."""
        return self.family.processing.clips.sampling

    @property
    def encodings(self) -> frozenset[str]:
        """What of other encodings the model offers, as `EncodingMethod.needs` names it."""
        offered = {RESOLUTION: self.family.scales, FRAMES: not self.no_clips}
        return frozenset(axis for axis, there in offered.items() if there)

    @property
    def notes(self) -> Mapping[str, str]:
        """Kind of signal -> what stands in for it in this model, where something does."""
        return available.stand_ins(self.family)

    def encode(
        self, images: Sequence[Image.Image | Clip], needs: frozenset[str] = frozenset(), asked: Encoding | None = None
    ) -> Encoded:
        """Run the vision tower once over the images of one sample.

        images: of any kind, as Pillow opens them: the model sees `as_rgb` of each, and sizes and rectangles are those
        of that image. `needs` are the signals to capture (`scorer` and `question` can also be added later, by
        `tokens`). Larger images are scaled down to `max_visual_tokens` each, as the model's own settings demand.
        asked: another encoding of them than this one, as a method asks for it: smaller pictures, or fewer frames of
        clips, which `taken` names. Clips stand behind pictures, or by themselves; sizes and rectangles are those of a
        frame, and each grid has the steps of time of its clip.

        Raises:
            ValueError: no image, a damaged one, an unknown signal, an image that the family cannot take, another
            encoding that is out of its reach; of clips, one before a picture, of more frames than the checkpoint takes,
            or a signal that clips have not. ModelError: NaN or infinite numbers, a family whose tokens cannot be placed
            on the image, or a model that takes no clips.
        """
        if not images:
            raise ValueError("encode needs at least one image")
        available.check(needs, self.signals, self.family, self.title)
        clips = [image for image in images if isinstance(image, Clip)]
        stills = [as_rgb(image)[0] for image in images if isinstance(image, Image.Image)]
        frames = asked is not None and asked.axis == FRAMES
        if clips:
            self._check_clips(images, clips, needs, asked)
        elif frames:
            raise OutOfReachError("fewer frames is for clips alone: a picture has one")
        parts = [self._encoded(stills, [], needs, None if frames else asked)] if stills else []
        return together([*parts, self._filmed(clips, needs, asked, parts)] if clips else parts)

    def encode_batch(
        self, samples: Sequence[Sequence[Image.Image]], needs: frozenset[str] = frozenset()
    ) -> list[Encoded]:
        """`encode` of the pictures of several samples: one pass of the tower where `encodes_together`, else one each.

        Each has its share of the seconds. Raises as `encode`.
        """
        if len(samples) < 2 or not all(self.encodes_together(images, needs) for images in samples):
            return [self.encode(images, needs) for images in samples]
        available.check(needs, self.signals, self.family, self.title)
        # The scorer may look at all tokens of a sample: it is asked about each by itself.
        whole = self.encode([image for images in samples for image in images], needs - {"scorer"})
        found = []
        for images, part in zip(samples, apart(whole, [len(images) for images in samples]), strict=True):
            strangeness = 0.0 if self.world is None else self.world.strangeness([as_rgb(image)[0] for image in images])
            signals = self._with_scorer(part.tokens.features, needs, dict(part.tokens.signals))
            tokens = VisualTokens(part.tokens.features, part.tokens.grids, signals)
            found.append(replace(part, tokens=tokens, strangeness=strangeness))
        return found

    def encodes_together(self, images: Sequence[Image.Image | Clip], needs: frozenset[str]) -> bool:
        """Whether one pass of the tower serves a sample with others: pictures of some families, and signals other than
        attention maps, which grow with the square of all pictures, and functions of a pass.
        """
        kinds = {need.partition("@")[0] for need in needs}
        pictures = bool(images) and not any(isinstance(image, Clip) for image in images)
        return self.family.packed and pictures and not kinds & {"vision_attention_map", *FUNCTIONS}

    def expected_tokens(self, images: Sequence[Image.Image]) -> int:
        """Visual tokens that pictures come to, without the tower; the most they can where that is not told."""
        if not self.family.scales:
            return int(self.max_visual_tokens) * len(images)
        return sum(self.family.count(image.size, len(images), self.max_visual_tokens) for image in images)

    def _check_clips(
        self, media: Sequence[object], clips: Sequence[Clip], needs: frozenset[str], asked: Encoding | None
    ) -> None:
        if self.no_clips:
            raise ModelError(self.no_clips)
        if asked is not None and asked.axis != FRAMES:
            raise OutOfReachError("lower resolution is for pictures alone: take fewer frames of a clip")
        if "patch_entropy" in needs:
            raise ValueError("the entropy of patches is known of pictures alone: choose another method for clips")
        if any(isinstance(medium, Clip) for medium in media[: -len(clips)]):
            raise ValueError("a clip stands before a picture: give the pictures first")
        most = self.family.processing.clips.frames
        longest = max(len(clip.frames) for clip in clips)
        if most is not None and longest > most:
            raise ValueError(f"the clip has {longest} frames, and {self.title} takes at most {most}: take fewer of it")

    def _filmed(
        self, clips: Sequence[Clip], needs: frozenset[str], asked: Encoding | None, beside: Sequence[Encoded]
    ) -> Encoded:
        """Of clips, and those of their frames that are asked for. beside: what else is part of the question."""
        if asked is None:
            return self._encoded([], clips, needs)
        others = sum(part.tokens.n for part in beside)
        taken = sparser.taken(self.family, self.title, clips, self.max_visual_tokens, asked, others)
        fewer = [sparser.some(clip, frames) for clip, frames in zip(clips, taken, strict=True)]
        return replace(self._encoded([], fewer, needs, among=[len(clip.frames) for clip in clips]), taken=taken)

    def _encoded(
        self,
        stills: Sequence[Image.Image],
        clips: Sequence[Clip],
        needs: frozenset[str],
        asked: Encoding | None = None,
        among: Sequence[int] = (),
    ) -> Encoded:
        """Of RGB pictures, or of clips; among: as `Family.film` takes it."""
        pictures = stills or [frame for clip in clips for frame in clip.frames]
        most = self.max_visual_tokens
        limit = most if asked is None else resolution.limit(self.family, self.title, pictures, most, asked)
        generation.synchronize(self.device)
        start = time.perf_counter()
        pixels = self.family.film(clips, limit, among) if clips else self.family.preprocess(pictures, limit)
        grids, places = self.family.film_layout(pixels) if clips else self.family.layout(pixels)
        with self._tower:
            rows, signals = tower_signals.run(self.family, pixels, needs, places)
        seconds = time.perf_counter() - start
        told = [value for value in signals.values() if isinstance(value, Tensor)]
        finite.check([rows.features, *rows.deepstack, *told], f"The vision tower of {self.title}", self.model)
        rects = token_rects(grids, pixels.sizes)
        if "patch_entropy" in needs:
            signals["patch_entropy"] = patch_entropy(pictures, grids, rects)
        features, marks = rows.features, None
        if places is not None:
            others = torch.ones(len(features), dtype=torch.bool).index_fill(0, places, False)
            features, marks = rows.features[places], rows.features[others]
        tokens = VisualTokens(features, grids, self._with_scorer(features, needs, signals))
        return Encoded(
            tokens,
            rects,
            pixels.sizes,
            seconds,
            pixels.texts,
            self.family.side(pixels),
            places,
            marks,
            rows.deepstack,
            rows.stacked,
            self.family.patches(pixels),
            0.0 if self.world is None or (clips and not self.world.clips) else self.world.strangeness(pictures),
            tuple("video" for _ in clips),
            rows.video,
        )

    def tokens(self, encoded: Encoded, question: str, needs: frozenset[str] = frozenset()) -> VisualTokens:
        """The encoded tokens with every signal in `needs`: `question` becomes (M, D) embeddings of its content words.

        Raises:
            ValueError: a signal that the model lacks, or one that `encode` was not asked for; a question as `prompt`
            refuses it. ModelError: NaN or infinite scores or embeddings.
        """
        available.check(needs, self.signals, self.family, self.title)
        signals = self._with_scorer(encoded.tokens.features, needs, dict(encoded.tokens.signals))
        words: Tensor | None = None
        if needs & ASKING:
            ids = torch.tensor(content_token_ids(self.tokenizer, checked_question(question)))
            vocabulary.check_ids(self.family, ids)
            with torch.no_grad():
                words = self.model.get_input_embeddings()(ids.to(self.device)).float().cpu()
            finite.check([words], f"The word embeddings of {self.title}", self.model)
            signals |= {"question": words} if "question" in needs else {}
        for name in sorted(needs & self.pruners.keys() - INSIDE):
            signals[name] = self._by_pruner(name, encoded.tokens.features, words)
        missing = sorted(needs - signals.keys())
        if missing:
            raise ValueError(
                f"signal {missing[0]!r} was not captured: encode the image again with needs={{{missing[0]!r}}}"
            )
        return encoded.tokens.with_signals(signals)

    def prompt(self, encoded: Encoded, question: str, history: Sequence[Turn] = ()) -> Prompt:
        """The unpruned prompt: the chat template with one placeholder per visual row, on the CPU.

        history: earlier turns about the same images, the first one first.

        Raises:
            ValueError: an empty question, or one that contains a control token of the model, half a character, or a
            word that the tokenizer knows and the model does not. ModelError: a chat template that fails on it.
        """
        return prompting.build(self.family, encoded, question, history)

    def generate(
        self,
        encoded: Encoded,
        question: str,
        kept: Kept = None,
        *,
        history: Sequence[Turn] = (),
        positions: Positions = "original",
        memory: ConversationCache | None = None,
        max_new_tokens: int = 64,
        cancel: threading.Event | None = None,
    ) -> Iterator[Chunk]:
        """Answer with the kept visual tokens, None = all of them; greedy, one Chunk per token.

        Kept tokens stay in their original order, and at their original positions, unless `positions` is "compact":
        renumbered without gaps. Another encoding of the same pictures has positions of its own. Setting `cancel` ends
        the stream before the next token. `memory` carries keys and values from one turn to the next.

        A plan says what enters the language model and what leaves between its layers; `Chunk.trace` tells what that
        came to. Its entry's method needs its signals in `encoded`. In later turns with the same memory, what has left
        stays away.

        Raises (at once, not at the first token):
            ValueError: bad question or selection, max_new_tokens below 1, more tokens than the context holds, a plan
            that does not fit the model. ModelError: a plan for a family whose layers cannot be shortened.
        Raises (from the stream):
            ModelError: NaN or infinite logits, before the token that would follow from them. ValueError: what a rule
            between layers cannot work with.
        """
        return self._stream(Sample(encoded, question, kept, history, positions), max_new_tokens, cancel, memory)[0]

    def answer(
        self,
        encoded: Encoded,
        question: str,
        kept: Kept = None,
        *,
        history: Sequence[Turn] = (),
        positions: Positions = "original",
        memory: ConversationCache | None = None,
        max_new_tokens: int = 64,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """`generate` to its end. Same arguments, same errors."""
        sample = Sample(encoded, question, kept, history, positions)
        chunks, length = self._stream(sample, max_new_tokens, cancel, memory)
        return Answer.from_chunks(list(chunks), length)

    def trace(self, encoded: Encoded, question: str, plan: Plan, *, positions: Positions = "original") -> Trace:
        """What a plan comes to for this question: the prompt goes through once. Raises as `generate`."""
        found = self.answer(encoded, question, plan, positions=positions, max_new_tokens=1).trace
        assert found is not None
        return found

    def answer_batch(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, cancel: threading.Event | None = None
    ) -> list[Answer]:
        """The answers to several samples in one padded pass, the same as one by one; budgets and images may differ.

        Times are those of the whole batch. Setting `cancel` ends those that are not at their end yet. Raises as
        `generate` does.
        """
        found = [list[Chunk]() for _ in samples]
        chunks, lengths = self._streams(samples, max_new_tokens, [cancel] * len(samples))
        for place, chunk in chunks:
            found[place].append(chunk)
        return [Answer.from_chunks(own, length) for own, length in zip(found, lengths, strict=True)]

    def generate_batch(
        self, samples: Sequence[Sample], cancels: Sequence[threading.Event | None], *, max_new_tokens: int = 64
    ) -> Iterator[tuple[int, Chunk]]:
        """`answer_batch` as a stream: each token with the place of its sample, as they come. cancels: of each sample;
        a set one ends its answer before the next token, and the others go on. Raises as `generate`.
        """
        return self._streams(samples, max_new_tokens, cancels)[0]

    def _streams(
        self, samples: Sequence[Sample], max_new_tokens: int, cancels: Sequence[threading.Event | None]
    ) -> tuple[Iterator[tuple[int, Chunk]], list[int]]:
        """The chunks of a batch, and the lengths of its prompts."""
        prepared = [self.prepare(sample, max_new_tokens) for sample in samples]
        if not prepared:
            return iter(()), []
        prompts = [each.prompt for each in prepared]
        visual, stages = self._visual(joined([each.rows for each in prepared])), self.stages(prepared)
        values = (self.model, prompts, visual, self._decode, max_new_tokens, cancels, stages)
        return generation.streams(*values), [prompt.n for prompt in prompts]

    def rehearse(self, samples: Sequence[Sample], steps: int, cancel: threading.Event | None = None) -> list[float]:
        """`answer_batch` for its times alone: seconds to each of `steps` tokens, which end nothing. Fewer where
        `cancel` was set. Raises as `generate` does.
        """
        prepared = [self.prepare(sample, steps) for sample in samples]
        prompts = [each.prompt for each in prepared]
        visual, stages = self._visual(joined([each.rows for each in prepared])), self.stages(prepared)
        return generation.paced(self.model, prompts, visual, steps, cancel, stages)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds to an answer, T strings whose sum is the text; "" for control tokens.

        A character of several tokens belongs to its last one.
        """
        texts = [self._decode(list(ids[:i])) for i in range(1, len(ids) + 1)]
        return [text[len(before) :] for before, text in zip(["", *texts], texts, strict=False)]

    def logprobs(
        self,
        encoded: Encoded,
        question: str,
        answer_ids: Sequence[int],
        selections: Sequence[Kept],
        history: Sequence[Turn] = (),
        positions: Positions = "original",
    ) -> list[Tensor]:
        """Teacher-forced log-probabilities of an answer under each selection, in the order given.

        What is about as long goes through the language model together: selections of equal K, and plans that leave
        about as many tokens in each layer; other encodings by themselves, as their positions differ.

        Args:
            answer_ids: T >= 1 token ids, e.g. those of the full-token answer. selections: as for `generate`.

        Returns:
            For each selection (T, V) float32 on the model's device.

        Raises:
            ValueError: as `generate`, or ids that the model has no embedding for. ModelError: NaN or infinite logits.
        """
        if not answer_ids:
            raise ValueError("logprobs needs at least one answer token")
        vocabulary.check_answer(self.family, answer_ids)
        answer = torch.tensor(answer_ids)
        alike: defaultdict[tuple[int, bool, int], list[int]] = defaultdict(list)
        pairs = [self._entered(encoded, question, kept) for kept in selections]
        entered = {id(on): on for on in (encoded, *(on for on, _ in pairs))}  # nearly always one for all of them
        full = {key: self.prompt(on, question, history) for key, on in entered.items()}
        prompting.check_length(self.family, self.title, full[id(encoded)], len(answer_ids))
        prepared = [self._ready(on, kept, full[id(on)], positions) for on, kept in pairs]
        for i, each in enumerate(prepared):
            alike[each.prompt.n, isinstance(each.kept, Plan), id(each.encoded)].append(i)
        found: dict[int, Tensor] = {}
        size = max(1, BATCH_ELEMENTS // (len(answer_ids) * self.config.get_text_config().vocab_size))
        for group in alike.values():
            for part in alike_batches([prepared[i].alive(self.layers) for i in group], size):
                batch = [prepared[group[i]] for i in part]
                visual, stages = self._visual(joined([each.rows for each in batch])), self.stages(batch)
                prompts = [each.prompt for each in batch]
                said = generation.forced_logprobs(self.model, prompts, visual, [answer] * len(batch), stages)
                found.update(zip([group[i] for i in part], said, strict=True))
        return [found[i] for i in range(len(prepared))]

    def logprobs_batch(self, samples: Sequence[Sample], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """`logprobs` of an answer to each of several samples in padded passes, the same as one by one.

        Returns:
            For each sample (T, V) float32 on the model's device.

        Raises as `logprobs`, whichever sample it is of.
        """
        if not all(answers):
            raise ValueError("logprobs needs at least one answer token")
        for answer in answers:
            vocabulary.check_answer(self.family, answer)
        prepared = [self.prepare(sample, len(answer)) for sample, answer in zip(samples, answers, strict=True)]
        if not prepared:
            return []
        found = list[Tensor]()
        size = max(1, BATCH_ELEMENTS // (max(map(len, answers)) * self.config.get_text_config().vocab_size))
        for start in range(0, len(prepared), size):
            batch = prepared[start : start + size]
            given = [torch.tensor(answer) for answer in answers[start : start + size]]
            visual, stages = self._visual(joined([each.rows for each in batch])), self.stages(batch)
            prompts = [each.prompt for each in batch]
            found += generation.forced_logprobs(self.model, prompts, visual, given, stages)
        return found

    def attended(
        self,
        encoded: Encoded,
        question: str,
        answer_ids: Sequence[int],
        kept: Kept = None,
        history: Sequence[Turn] = (),
        positions: Positions = "original",
    ) -> list[Attended]:
        """How much an answer's tokens attend to the prompt's text and to its visual tokens, for each layer that has
        attention; a token that ends the answer is left out.

        Raises:
            ValueError: as `logprobs`, or an answer of nothing but its end. ModelError: attention that cannot be read.
        """
        ids = [token for token in answer_ids if token not in generation.stop_ids(self.model)]
        if not ids:
            raise ValueError("the answer has no tokens but its end, so nothing attends to the picture")
        vocabulary.check_answer(self.family, ids)
        on, entered = self._entered(encoded, question, kept)
        full = self.prompt(on, question, history)
        prompting.check_length(self.family, self.title, full, len(ids))
        ready = self._ready(on, entered, full, positions)
        stages = self.stages([ready])
        return modality.attended(self.model, ready.prompt, self._visual(ready.rows), torch.tensor(ids), stages)

    def warmup(self) -> None:
        """Run the whole path once on a blank image, so that the first measured time is not the first call's."""
        encoded = self.encode([Image.new("RGB", (112, 112), "white")])
        answer = self.answer(encoded, "?", max_new_tokens=2)
        self.logprobs(encoded, "?", answer.ids, [None])

    def _stream(
        self,
        sample: Sample,
        max_new_tokens: int,
        cancel: threading.Event | None,
        memory: ConversationCache | None = None,
    ) -> tuple[Iterator[Chunk], int]:
        """The chunks of an answer, and the length of its prompt."""
        ready = self.prepare(sample, max_new_tokens)
        visual, stages = self._visual(ready.rows, memory, sample.kept), self.stages([ready])
        values = (self.model, ready.prompt, visual, self._decode, max_new_tokens, cancel, memory, stages)
        return generation.stream(*values), ready.prompt.n

    def prepare(self, sample: Sample, max_new_tokens: int) -> Ready:
        """The pruned prompt and the rows for its placeholders, after all checks. Raises as `generate`."""
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be a whole number of at least 1, not {max_new_tokens!r}")
        encoded, kept = self._entered(sample.encoded, sample.question, sample.kept)
        ready = self._ready(encoded, kept, self.prompt(encoded, sample.question, sample.history), sample.positions)
        prompting.check_length(self.family, self.title, ready.prompt, max_new_tokens)
        return ready

    def _entered(self, encoded: Encoded, question: str, kept: Kept) -> tuple[Encoded, Entering | Plan]:
        """`standing`, a plan with its entry made."""
        encoded, kept = standing(encoded, kept)
        if isinstance(kept, Plan) and kept.entry is not None:
            kept = kept.on(self.tokens(encoded, question, kept.entry.method.needs))
        return encoded, kept

    def _ready(self, encoded: Encoded, kept: Entering | Plan, full: Prompt, positions: Positions = "original") -> Ready:
        positions = check_positions(positions)
        indices = kept_indices(kept, encoded.tokens.n)
        prompt = full.keep(indices)
        if positions == "compact":
            images = [torch.full((grid.count,), grid.image) for grid in encoded.tokens.grids]
            prompt = prompt.compact(torch.cat(images)[indices])
        return Ready(encoded, kept, indices, prompt, encoded.rows(kept))

    def stages(self, ready: Sequence[Ready]) -> Stages | None:
        """What leaves between layers, where any of them has a plan; and what keeps the windows of layers that have one
        where they were, once tokens are left out. Raises ValueError for a rule whose trained module is not there.
        """
        if not any(isinstance(each.kept, Plan) for each in ready) and not self.windowed:
            return None
        courses = [
            Course(
                each.kept if isinstance(each.kept, Plan) else None,
                each.prompt,
                each.indices,
                each.encoded.tokens,
                self.layers,
                self.family.placeholders,
                self.pruners,
            )
            for each in ready
        ]
        for rule in {cut.rule for course in courses for cut in course.cuts.values()}:
            available.check(rule.modules, self.signals, self.family, self.title)
        if not any(course.staged or course.gaps for course in courses):
            return None
        return Stages(self.model, courses, len(ready[0].encoded.deepstack))

    @cached_property
    def windowed(self) -> bool:
        """Whether layers see a window of the last tokens, and each can be told which these were. Where layers share
        keys or inputs they cannot: there windows count what is left.
        """
        if self.no_stages or not takes_masks(self.model):
            return False
        return any(window_of(each) is not None for each in self.model.get_decoder().layers)

    def _visual(self, rows: Rows, memory: ConversationCache | None = None, kept: Kept = None) -> Visual:
        cuts = (kept.cuts, kept.evict_early) if isinstance(kept, Plan) else ()
        mark = 0 if memory is None else hash((rows.features.numpy().tobytes(), cuts))
        output = {kind: self.family.encoder_output(own, kind) for kind, own in rows.by_kind().items()}
        return Visual(output, mark, self.family.marked, self.family.image_marks)

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.rstrip("\N{REPLACEMENT CHARACTER}").strip()  # half a character is shown once it is whole

    def _by_pruner(self, name: str, features: Tensor, words: Tensor | None) -> Tensor:
        with torch.no_grad():
            said = None if words is None else words.to(self.device)
            scores: Tensor = self.pruners[name](features.to(self.device), said).cpu()
        if not all_finite(scores):
            raise ModelError(f"The trained pruner {name} of {self.title} gave NaN or infinite scores: train it again")
        return scores

    def _with_scorer(self, features: Tensor, needs: frozenset[str], signals: dict[str, Any]) -> dict[str, Any]:
        if "scorer" in needs and "scorer" not in signals and self.scorer is not None:
            with torch.no_grad():
                signals["scorer"] = self.scorer(features.to(self.device)).cpu()
            if not all_finite(signals["scorer"]):
                raise ModelError(
                    f"The importance scorer of {self.title} gave NaN or infinite scores in dtype float32: its weights "
                    "are damaged or for another model; train it again, or choose another importance source"
                )
        return signals

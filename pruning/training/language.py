"""Stage 2: the language model on cached visual tokens of the frozen tower, many questions a picture.

Stage 3 (`sparse`): the same, most of the time with few of the visual tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.budget import keep_count
from pruning.scenes.questions import FAMILIES, Question, ask, rephrase
from pruning.scenes.render import HELD_OUT, Scene, render
from pruning.training import decoder, loop, tower
from pruning.training.data import HEADS, stream
from pruning.training.shipped import CELL, WORDS, new_model
from pruning.training.vision import new_heads

log = logging.getLogger(__name__)

IDS: Final = {word: i for i, word in enumerate(WORDS)}
BEFORE: Final = tuple(IDS[w] for w in ("<|im_start|>", "user", "<|vision_start|>"))
AFTER: Final = tuple(IDS[w] for w in ("<|im_end|>", "<|im_start|>", "assistant"))
END: Final = IDS["<|im_end|>"]
PER_PICTURE: Final = 12
"""Questions asked about a picture in one step."""
PICTURES: Final = 24
"""Pictures of one step."""
LONGEST: Final = 20
"""Tokens of the longest question with its frame and answer; shorter ones are padded on the left."""
ROUND: Final = 700
"""Steps on one set of cached pictures."""
CACHED: Final = ((224, 224, 1440), (336, 224, 720), (224, 336, 720), (336, 336, 1920), (448, 448, 360))
"""Height, width and number of the pictures of a round."""

VALIDATION: Final = ((224, 224, 48), (336, 336, 96), (448, 448, 48))
"""Height, width and number of the held-out pictures that progress is measured on."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions of a batch of pictures, tokenised: `ids` (B, Q, L) int64, `real` (B, Q, L) bool, `family` (B, Q)."""

    ids: Tensor
    real: Tensor
    family: Tensor


def tokenise(question: Question) -> list[int]:
    """Ids of everything after the visual tokens, the answer included."""
    words = question.text.replace("?", " ?").replace(":", " :").split()
    unknown = IDS["<unk>"]
    return [IDS["<|vision_end|>"], *(IDS.get(w, unknown) for w in words), *AFTER, IDS[question.answer]]


def ask_all(scenes: Sequence[Scene], rng: np.random.Generator, per_picture: int, reworded: float = 0.2) -> Asked:
    """`per_picture` questions about each scene, families in turn; where one has none the next one asks."""
    ids = np.zeros((len(scenes), per_picture, LONGEST), np.int64)
    real = np.zeros(ids.shape, bool)
    family = np.zeros(ids.shape[:2], np.int64)
    for b, scene in enumerate(scenes):
        start = int(rng.integers(len(FAMILIES)))
        for q in range(per_picture):
            turn = start + q
            while (question := ask(scene, rng, FAMILIES[turn % len(FAMILIES)])) is None:
                turn += 1
            if rng.random() < reworded:
                question = rephrase(question, rng)
            tokens = tokenise(question)
            ids[b, q, -len(tokens) :], real[b, q, -len(tokens) :] = tokens, True
            family[b, q] = turn % len(FAMILIES)
    return Asked(torch.from_numpy(ids), torch.from_numpy(real), torch.from_numpy(family))


def prompt_positions(gh: int, gw: int) -> Tensor:
    """M-RoPE positions (3, P) int64 of start and visual tokens, as the library's `get_rope_index` gives them."""
    start = len(BEFORE)
    n = torch.arange(gh * gw)
    place = torch.stack([torch.zeros_like(n), n // gw, n % gw]) + start
    return torch.cat([torch.arange(start).expand(3, -1), place], 1)


def answer(model: Any, visual: Tensor, asked: Asked, gh: int, gw: int, kept: Tensor | None = None) -> Tensor:
    """Logits (B, Q, 2, vocabulary) at the places that say the answer and the end.

    visual: (B, N, D). kept: (B, K) int64 ascending, the tokens of each picture that are there, at their own positions.
    """
    embed = model.get_input_embeddings()
    b = len(visual)
    start = embed(torch.tensor(BEFORE, device=visual.device)).expand(b, -1, -1)
    first = len(BEFORE) + max(gh, gw)
    at = first + (asked.real.cumsum(-1) - 1).clamp(min=0)
    head_at = prompt_positions(gh, gw).to(visual.device)
    if kept is not None:
        visual = visual.gather(1, kept[..., None].expand(-1, -1, visual.shape[-1]))
        before, place = head_at[:, None, : len(BEFORE)].expand(-1, b, -1), head_at[:, len(BEFORE) :]
        head_at = torch.cat([before, place[:, kept]], -1)  # (3, B, P)
    prompt = torch.cat([start, visual.to(start.dtype)], 1)
    ask_at = at.expand(3, -1, -1, -1)
    return decoder.answer_logits(model.model.language_model, prompt, head_at, embed(asked.ids), ask_at, asked.real)


def place_loss(model: Any, place: nn.Linear, visual: Tensor, gh: int, gw: int) -> Tensor:
    """Squared error of row and column read off the visual tokens after the first layer; `place` is thrown away.

    The tower's positions are relative, so a feature does not know where it is; the language model can tell from the
    distance to the prompt's start. Without this loss it found that out last, and "left of" with it.
    """
    embed = model.get_input_embeddings()
    start = embed(torch.tensor(BEFORE, device=visual.device)).expand(len(visual), -1, -1)
    head_at = prompt_positions(gh, gw).to(visual.device)
    seen = decoder.first_layer(model.model.language_model, torch.cat([start, visual.to(start.dtype)], 1), head_at)
    where = (head_at[1:, len(BEFORE) :].T.float() - len(BEFORE)) / 8 - 1  # (N, 2)
    return F.mse_loss(place(seen[:, len(BEFORE) :]).float(), where.expand(len(visual), -1, -1))


def answer_loss(logits: Tensor, asked: Asked) -> tuple[Tensor, Tensor]:
    """Mean cross entropy of answer and end, and whether each answer is right (B, Q) bool."""
    said = asked.ids[..., -1]
    loss = F.cross_entropy(logits[:, :, 0].flatten(0, 1), said.flatten())
    end = F.cross_entropy(logits[:, :, 1].flatten(0, 1), torch.full_like(said, END).flatten())
    return loss + 0.1 * end, logits[:, :, 0].argmax(-1) == said


def by_family(right: Tensor, family: Tensor) -> dict[str, float]:
    """Accuracy of each family; NaN for one that was not asked."""
    return {name: right[family == i].float().mean().item() for i, name in enumerate(FAMILIES)}


def without_pixels(scene: Scene) -> Scene:
    """The scene as the questions need it: its size stays, its pixels go."""
    height, width = scene.image.shape[:2]
    nothing = np.empty((height, width, 0), np.uint8)
    return Scene(scene.seed, nothing, scene.objects, nothing, nothing)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Encoded pictures of one size: `visual` (n, N, D) bfloat16 and their scenes."""

    visual: Tensor
    scenes: tuple[Scene, ...]
    gh: int
    gw: int


def _pixels(job: tuple[int, int, int, int]) -> tuple[Tensor, list[Scene]]:
    first, count, height, width = job
    scenes = [render(first + i, height, width) for i in range(count)]
    return torch.from_numpy(np.stack([s.image for s in scenes])), [without_pixels(s) for s in scenes]


class _Jobs:
    """Picklable: job number -> pixels of PICTURES pictures."""

    def __init__(self, jobs: list[tuple[int, int, int, int]]) -> None:
        self.jobs = jobs

    def __call__(self, i: int) -> tuple[Tensor, list[Scene]]:
        return _pixels(self.jobs[i])


def encode_pictures(
    visual: Any, first: int, sizes: Sequence[tuple[int, int, int]], device: torch.device
) -> list[Pictures]:
    """Pictures of each size from seed `first` on, through the tower, without gradients."""
    found: list[Pictures] = []
    for height, width, count in sizes:
        gh, gw = height // CELL, width // CELL
        jobs = [(first + i, PICTURES, height, width) for i in range(0, count, PICTURES)]
        tokens = torch.empty(len(jobs) * PICTURES, gh * gw, 192, dtype=torch.bfloat16, device=device)
        scenes: list[Scene] = []
        for images, shown in stream(_Jobs(jobs), 0, len(jobs)):
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                tokens[len(scenes) : len(scenes) + PICTURES] = tower.encode(
                    visual, tower.windows(images.to(device)), gh, gw
                )
            scenes += shown
        found.append(Pictures(tokens, tuple(scenes), gh, gw))
    return found


def pick_group(pictures: Sequence[Pictures], rng: np.random.Generator) -> tuple[Pictures, NDArray[np.int64]]:
    """PICTURES of one size, sizes as often as there are pictures of them."""
    counts = np.array([len(p.scenes) for p in pictures], float)
    group = pictures[rng.choice(len(pictures), p=counts / counts.sum())]
    return group, rng.choice(len(group.scenes), PICTURES, replace=False)


def evaluate(model: Any, pictures: Sequence[Pictures]) -> dict[str, float]:
    """Accuracy by family on encoded held-out pictures, fixed questions."""
    rights, families = [], []
    rng = np.random.default_rng(1)
    with torch.no_grad(), torch.autocast(pictures[0].visual.device.type, torch.bfloat16):
        for group in pictures:
            for i in range(0, len(group.scenes) - PICTURES + 1, PICTURES):
                asked = ask_all(group.scenes[i : i + PICTURES], rng, PER_PICTURE)
                _, right = answer_loss(
                    answer(model, group.visual[i : i + PICTURES], asked, group.gh, group.gw),
                    asked,
                )
                rights.append(right)
                families.append(asked.family)
    right, family = torch.cat(rights), torch.cat(families)
    return {"all": right.float().mean().item(), **by_family(right, family)}


def train(folder: Path, steps: int, device: torch.device, rate: float = 2e-3) -> None:
    """Train the language model for `steps` steps on the tower in `folder`/vision.pt; resumes from language.pt."""
    model = new_model().to(device)
    visual, language = model.model.visual, model.model.language_model
    loop.restore(folder / "vision.pt", {"visual": visual})
    place = nn.Linear(192, 2).to(device)
    parts: dict[str, nn.Module] = {"language": language, "place": place}
    opts = loop.optimizers([language, nn.ModuleDict({"head": place})], rate)
    file = folder / "language.pt"
    start = loop.restore(file, parts, opts)
    held_out = encode_pictures(visual, HELD_OUT, VALIDATION, device)
    progress = loop.Progress("language", start, steps)
    pictures: list[Pictures] = []
    for step in range(start, steps):
        if step % ROUND == 0 or not pictures:
            pictures = encode_pictures(visual, step // ROUND * 100_000, CACHED, device)
        rng = np.random.default_rng([2, step])
        group, picks = pick_group(pictures, rng)
        asked = ask_all([group.scenes[i] for i in picks], rng, PER_PICTURE)
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        with torch.autocast(device.type, torch.bfloat16):
            seen = group.visual[torch.from_numpy(picks)]
            logits = answer(model, seen, asked, group.gh, group.gw)
            placed = place_loss(model, place, seen[:8], group.gh, group.gw)
        loss, right = answer_loss(logits, asked)
        (loss + placed).backward()
        nn.utils.clip_grad_norm_([p for part in parts.values() for p in part.parameters()], 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, loss=loss.item(), place=placed.item(), **by_family(right, asked.family))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            loop.save(file, step + 1, parts, opts)
        if (step + 1) % ROUND == 0 or step + 1 == steps:
            log.info("held out %s", evaluate(model, held_out))


def sparse(folder: Path, steps: int, device: torch.device, rate: float = 6e-4) -> None:
    """Go on for `steps` steps, two thirds of them with few visual tokens; resumes from sparse.pt in `folder`.

    A language model that always saw all ground counts objects by their share of it, and miscounts once ground is
    pruned. Kept are mostly tokens of objects, as the tower's dense read-outs tell them, with noise.
    """
    model, heads = trained(folder).to(device), new_heads().to(device)
    loop.restore(folder / "vision.pt", {"heads": heads})
    visual, language = model.model.visual, model.model.language_model
    opts = loop.optimizers([language], rate)
    file = folder / "sparse.pt"
    start = loop.restore(file, {"language": language}, opts)
    held_out = encode_pictures(visual, HELD_OUT, VALIDATION, device)
    pictures = encode_pictures(visual, 300_000_000, CACHED, device)
    progress = loop.Progress("sparse", start, steps)
    for step in range(start, steps):
        rng = np.random.default_rng([5, step])
        group, picks = pick_group(pictures, rng)
        asked = ask_all([group.scenes[i] for i in picks], rng, PER_PICTURE)
        seen = group.visual[torch.from_numpy(picks)]
        kept = None if step % 3 == 0 else _mostly_objects(heads, seen, 0.25 if step % 3 == 1 else 0.1, step)
        loop.set_rate(opts, loop.one_cycle(step, steps, rate))
        with torch.autocast(device.type, torch.bfloat16):
            logits = answer(model, seen, asked, group.gh, group.gw, kept)
        loss, right = answer_loss(logits, asked)
        loss.backward()
        nn.utils.clip_grad_norm_(language.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, loss=loss.item(), **by_family(right, asked.family))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            loop.save(file, step + 1, {"language": language}, opts)
    log.info("held out %s", evaluate(model, held_out))


def _mostly_objects(heads: nn.Module, visual: Tensor, share: float, seed: int) -> Tensor:
    """(B, K) int64 ascending: a `share` of the tokens, objects, their centres and digits first, with noise."""
    with torch.no_grad():
        shape, _, digit, center = (part.softmax(-1) for part in heads(visual.float()).split(list(HEADS.values()), -1))
    noise = torch.rand(shape.shape[:2], generator=torch.Generator().manual_seed(seed)).to(visual.device)
    score = (1 - shape[..., 0]) + (1 - digit[..., 0]) + 2 * center[..., 1] + 0.8 * noise
    return score.topk(keep_count(visual.shape[1], share), dim=1).indices.sort(1).values


def trained(folder: Path) -> Any:
    """The model of the latest stage in `folder`, float32. Raises FileNotFoundError when a stage is missing."""
    model = new_model()
    language = model.model.language_model
    done = loop.restore(folder / "vision.pt", {"visual": model.model.visual})
    if not (done and loop.restore(folder / "language.pt", {"language": language})):
        raise FileNotFoundError(f"{folder} has no trained model: run `python -m pruning.training model` first")
    loop.restore(folder / "sparse.pt", {"language": language})
    return model

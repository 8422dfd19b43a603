"""What works, measured: a tiny random checkpoint of every family is built, loaded as any other and asked.

    python -m tests.checkpoints.support

writes the table of docs/models.md from what it finds.
"""

import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig

from pruning.models import VLM, Encoded, ModelError, Sample, Turn, load
from pruning.models.checkpoint.footprint import readable
from pruning.models.checkpoint.presets import PRESETS
from pruning.models.families import family_of
from tests.checkpoints import FAMILIES, others
from tests.checkpoints.kinds import BARE, KINDS, bare, tiny
from tests.checkpoints.qwen3_vl import tiny_qwen3_5
from tests.helpers import library

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
KNOWN, KNOWN_END = "<!-- known: begin -->", "<!-- known: end -->"
QUESTION, STEPS = "What color is the star?", 4
OLDER = {
    "qwen2-vl": "qwen2_vl",
    "qwen2.5-vl": "qwen2_5_vl",
    "qwen3-vl": "qwen3_vl",
    "llava-next": "llava_next",
    "llava-next-video": "llava_next_video",
    "llava-onevision": "llava_onevision",
}
BUILDERS: dict[str, Callable[[Path], Path]] = {
    **{OLDER.get(name, name): build for name, build in FAMILIES.items()},
    "aya_vision": others.tiny_aya_vision,
    "deepseek_vl": others.tiny_deepseek_vl,
    "gemma4": others.tiny_gemma4,
    "glm4v": others.tiny_glm4v,
    "qwen3_5": tiny_qwen3_5,
    **{kind: partial(tiny, kind) for kind in KINDS},
    **{kind: partial(bare, kind) for kind in BARE},
}
"""Type of model -> what saves its tiny checkpoint."""


@dataclass(frozen=True)
class Row:
    """What came of a family. refused: why it cannot be loaded, "" where it can; fails: which proofs do not hold."""

    kind: str
    refused: str = ""
    fails: tuple[str, ...] = ()
    places: str = ""
    signals: str = ""
    stages: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        if self.refused:
            return (f"`{self.kind}`", "refused", self.refused, "", "")
        verdict = "works" + (f" but for {', '.join(self.fails)}" if self.fails else "")
        return (f"`{self.kind}`", verdict, self.places, self.signals, self.stages)


def measured(kind: str) -> Row:
    """Builds, loads and proves one family."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            vlm = load(BUILDERS[kind](Path(folder) / "model"))
        except ModelError as error:
            return Row(kind, _sentence(str(error), folder))
        fails = [name for name, proof in PROOFS.items() if not _holds(proof, vlm)]
        inside = any(name.startswith("vision_") for name in vlm.signals)
        own = "its attention, keys and values" if inside else ""
        around = "features before the projector" if "pre_projector" in vlm.signals else ""
        grids = vlm.encode([_noise(150, 90)]).tokens.grids
        cut = "tiles" if any(grid.role == "tile" for grid in grids) else "one grid"
        return Row(
            kind,
            fails=tuple(fails),
            places=cut if vlm.family.placed else "not on a grid",
            signals=", ".join(filter(None, (own, around))) or "the question alone" * (not vlm.family.placed),
            stages="no" if vlm.no_stages else "yes",
        )


def _holds(proof: Callable[[VLM], bool], vlm: VLM) -> bool:
    try:
        return proof(vlm)
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        logging.getLogger(__name__).info("%s: %s", proof.__name__, error)
        return False


def _all_tokens(vlm: VLM) -> bool:
    """All tokens give the library's own `generate()`, token for token."""
    images = [_noise(150, 90)]
    answer = vlm.answer(vlm.encode(images), QUESTION, max_new_tokens=STEPS)
    return list(answer.ids) == library.generate(vlm, images, QUESTION, len(answer.ids))


def _two_pictures(vlm: VLM) -> bool:
    images = [_noise(150, 90), _noise(60, 80, seed=1)]
    answer = vlm.answer(vlm.encode(images), QUESTION, max_new_tokens=STEPS)
    return list(answer.ids) == library.generate(vlm, images, QUESTION, len(answer.ids))


def _two_turns(vlm: VLM) -> bool:
    images, turns = [_noise(150, 90)], [Turn(QUESTION, "red circle")]
    answer = vlm.answer(vlm.encode(images), "how many", history=turns, max_new_tokens=STEPS)
    return list(answer.ids) == library.generate(vlm, images, "how many", len(answer.ids), turns)


def _quarter(vlm: VLM) -> bool:
    """A quarter of the tokens gives what a pass without a cache over what is left gives."""
    encoded = vlm.encode([_noise(150, 90)])
    kept = _every_fourth(encoded)
    words = vlm.prompt(encoded, QUESTION).input_ids[0, -3:].tolist()  # any answer that has no image token
    (found,) = vlm.logprobs(encoded, QUESTION, words, [kept])
    images = [_noise(150, 90)]
    if vlm.windowed:  # windows stay where they were, which no plain pass over what is left knows
        given = library.inputs(vlm, images, QUESTION)
        left = library.stays(encoded.places, encoded.tokens.n, encoded.rows_count, kept)
        return torch.allclose(found, library.cache_free(vlm, given, left, words), rtol=1e-3, atol=1e-3)
    prompt = vlm.prompt(encoded, QUESTION).keep(kept)
    ids = torch.cat([prompt.input_ids[0], torch.tensor(words[:-1])])
    following = prompt.positions.max() + torch.arange(1, len(words))
    positions = torch.cat([prompt.positions, following.expand(*prompt.positions.shape[:-1], -1)], dim=-1)
    marked = torch.isin(ids, torch.tensor(vlm.family.marked))[None].long()
    with torch.no_grad():
        output = vlm.model(
            input_ids=ids[None],
            position_ids=positions,
            attention_mask=torch.ones(1, len(ids)),
            mm_encoder_outputs={"image": vlm.family.encoder_output(encoded.rows(kept))},
            use_cache=False,
            **({vlm.family.image_marks: marked} if vlm.family.image_marks else {}),
        )
    expected = output.logits[0, prompt.n - 1 :].log_softmax(-1)
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


def _batch(vlm: VLM) -> bool:
    """Two samples of unequal length together answer as one by one."""
    encoded = vlm.encode([_noise(150, 90)])
    samples = [Sample(encoded, QUESTION), Sample(encoded, "how many", _every_fourth(encoded))]
    alone = [vlm.answer(each.encoded, each.question, each.kept, max_new_tokens=STEPS).ids for each in samples]
    return [answer.ids for answer in vlm.answer_batch(samples, max_new_tokens=STEPS)] == alone


def _tiled(vlm: VLM) -> bool:
    """Rectangles of what is placed cover the picture, each part of it once for every grid that shows it."""
    encoded = vlm.encode([_noise(150, 90)])
    if not vlm.family.placed:
        return not encoded.rects.any()
    grids = encoded.tokens.grids
    shown = [grid for grid in grids if grid.role != "thumbnail"] or list(grids)
    rects = np.concatenate([encoded.rects[grid.start : grid.stop] for grid in shown])
    area = float((rects[:, 2:] - rects[:, :2]).prod(1).sum()) / (150 * 90)
    seen = [
        max(0.0, min(1, g.box[2]) - max(0, g.box[0])) * max(0.0, min(1, g.box[3]) - max(0, g.box[1])) for g in shown
    ]
    return abs(area - sum(seen)) < 0.02 and 0.5 < area < 1.01


PROOFS: dict[str, Callable[[VLM], bool]] = {
    "all tokens": _all_tokens,
    "a quarter": _quarter,
    "places": _tiled,
    "two pictures": _two_pictures,
    "two turns": _two_turns,
    "batches": _batch,
}
"""What is proven of every family, by the words of the table where it does not hold."""


def _every_fourth(encoded: Encoded) -> torch.Tensor:
    return torch.arange(min(1, encoded.tokens.n - 1), encoded.tokens.n, 4)


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _sentence(text: str, folder: str) -> str:
    """The reason, without the checkpoint's folder, versions and what to do instead."""
    text = text.replace(f"{Path(folder) / 'model'}", "").lstrip(": ")
    text = re.sub(r"^models of type \S+ are not supported because ", "", text)
    text = re.split(r": choose a model|, or choose a model|\. Choose a model|: use the instruction", text)[0]
    text = text.replace(" but it was not found in your environment", "")
    text = re.sub(r"\. Install it for the PyTorch that is here: (pip install torch)==\S+ ", r"; `\1==… ", text)
    text = re.sub(
        r" You can install it with pip:\)$|\. You can install it with pip:\)\. Install it\.?$",
        "): `pip install timm`",
        text,
    )
    text = text + "`" * ("`" in text and text.count("`") % 2)
    return " ".join(text.split()).replace("|", "\\|")


def table(rows: list[Row]) -> str:
    """Markdown, those that work first, and a line that counts them."""
    works = [row for row in rows if not row.refused]
    refused = [row for row in rows if row.refused]
    whole = sum(not row.fails for row in works)
    lines = [
        f"{len(works)} of {len(rows)} types work, {whole} of them in everything that is proven; {len(refused)} are "
        "refused.",
        "",
        "| type | | tokens lie | of the tower | stages |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(row.cells) + " |" for row in sorted(works, key=lambda row: row.kind)),
        "",
        "| type | refused, as loading says, because |",
        "|---|---|",
        *(f"| `{row.kind}` | {row.refused} |" for row in sorted(refused, key=lambda row: row.kind)),
    ]
    return "\n".join(lines)


def presets() -> str:
    """Markdown of the models of the hub that are known by name, smallest first."""
    lines = ["| model | parameters | download | licence | says it reads documents | clips | sizes are from |"]
    lines.append("|---|---|---|---|---|---|---|")
    for preset in sorted(PRESETS[1:], key=lambda each: each.parameters):
        films = family_of(AutoConfig.for_model(preset.family, vision_config={})).films
        cells = (
            f"`{preset.model_id}`",
            f"{preset.parameters / 1e9:.3g} B",
            readable(preset.download),
            preset.licence,
            "yes" if preset.documents else "not known",
            "yes" if films else "no",
            preset.source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures all of them and writes the table into the page."""
    from transformers.utils import logging as theirs

    theirs.disable_progress_bar()
    theirs.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for kind in BUILDERS:
        rows.append(measured(kind))
        sys.stderr.write(f"{' | '.join(rows[-1].cells)}\n")
    text = _between(PAGE.read_text("utf-8"), BEGIN, END, table(rows))
    PAGE.write_text(_between(text, KNOWN, KNOWN_END, presets()), "utf-8")


def _between(text: str, begin: str, end: str, inside: str) -> str:
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{inside}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    main()

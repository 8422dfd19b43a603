"""`pays`: whether a setting pays on this machine, at several requests at once, and from how many visual tokens on."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pruning.choosing import Asked
from pruning.cli.files import write_picture
from pruning.cli.media import opened
from pruning.drawing.bars import Bar, bars
from pruning.evaluation.paying import PHASES, Paying
from pruning.evaluation.pays import pays
from pruning.evaluation.timing import Timing, machine
from pruning.grids import Scope
from pruning.models import VLM
from pruning.models.values import Positions


def measured(
    vlm: VLM,
    source: str,
    question: str,
    asked: Asked,
    retention: float,
    per: Scope,
    positions: Positions,
    concurrency: Sequence[int],
    rounds: int,
    new_tokens: int,
    progress: Callable[[float, float, float | None], None],
    fps: float | None = None,
    max_frames: int | None = None,
) -> tuple[Paying, bool]:
    """The result, and whether it is the whole one: an interruption ends it with what is known by then.

    source: a picture or a clip, of which `opened` takes frames by fps and max_frames.

    progress: called with (done, total, seconds to come) after every batch. Raises as `pays` does, and KeyboardInterrupt
    where nothing is known yet.
    """
    image = opened(source, vlm, fps, max_frames)
    vlm.warmup()
    steps = pays(
        vlm,
        [image],
        question,
        asked,
        retention,
        per=per,
        positions=positions,
        concurrency=concurrency,
        rounds=rounds,
        new_tokens=new_tokens,
    )
    result: Paying | None = None
    try:
        for report in steps:
            result = report.result
            progress(report.done, report.total, report.remaining_s)
    except KeyboardInterrupt:
        if result is None or not result.rows:
            raise
        return result, False
    assert result is not None, "the first report comes before anything is measured"
    return result, True


def draw(result: Paying, path: Path) -> None:
    """Stacked bars of where the time goes, for each number of requests at once; PNG or JPEG."""
    given = [
        Bar(f"{row.concurrency} at once", row.setting, {phase: getattr(row, phase).median_ms for phase in PHASES})
        for row in result.rows
    ]
    with Image.open(BytesIO(bars(given).png())) as picture:
        write_picture(path, np.asarray(picture.convert("RGB")))


def told(result: Paying) -> str:
    """What a reader wants of it, in lines."""
    said = dict.fromkeys([result.verdict, *(ruling.sentence for ruling in result.rulings)])
    lines = [*(f"{sentence}." for sentence in said), *result.left_out, ""]
    head = ("setting", "at once", "tokens", *(f"{phase} ms" for phase in PHASES), "first token ms", "tokens/s",
            "requests/s", "KV MB", "peak MB")  # fmt: skip
    rows = [
        (row.setting, str(row.concurrency), str(row.n), *(_times(getattr(row, phase)) for phase in PHASES),
         _times(row.ttft), f"{row.tokens_per_s:.1f}", f"{row.requests_per_s:.2f}", f"{row.kv_bytes / 1e6:.1f}",
         "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}")
        for row in result.rows
    ]  # fmt: skip
    lines += _aligned([head, *rows])
    sizes = [
        (str(size.n), str(size.kept), _times(size.all_tokens), _times(size.setting), PAYS[size.pays])
        for size in result.sizes
    ]
    lines += ["", *_aligned([("tokens", "kept", "all tokens ms", f"{result.setting} ms", "pays"), *sizes])]
    for setting, stages in result.saves.items():
        lines.append(f"{setting} saves: {', '.join(stages)}")
    return "\n".join([*lines, f"{result.rounds} rounds in turn, answers of {result.new_tokens} tokens; {machine()}"])


PAYS = {True: "yes", False: "no", None: "no difference"}


def _times(time: Timing) -> str:
    """ "12.3 (11.9-13.0)", "-" for what is not done."""
    return "-" if time.high_ms == 0 else f"{time.median_ms:.1f} ({time.low_ms:.1f}-{time.high_ms:.1f})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

"""`pruning pays` on a model of true shape with random weights: whether IDPruner pays at several requests at once.

`python -m benchmarks.pays --tokens 1296 --vision-depth 2 --scales 0.0625 0.25 1 --dtype float32` takes minutes on two
CPU cores. What the model says means nothing; what it costs does, as answers are equally long. `--vision-depth` tells
what the tower is cut to, `--scales` at which sizes of the picture the break-even is looked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.shapes import SHAPES, build_model, picture
from pruning.cli import console
from pruning.cli.pays import told
from pruning.evaluation.paying import Paying
from pruning.evaluation.pays import SCALES, pays
from pruning.method import make
from pruning.models import VLM
from pruning.models.checkpoint.devices import DTYPES, choose_device

QUESTION = "What is in this picture?"


def measure(
    vlm: VLM, tokens: int, retention: float, concurrency: Sequence[int], rounds: int, scales: Sequence[float]
) -> Paying:
    """The whole result for a picture of so many visual tokens."""
    *_, last = pays(
        vlm,
        [picture(tokens)],
        QUESTION,
        make("idpruner"),
        retention,
        concurrency=concurrency,
        rounds=rounds,
        scales=scales,
    )
    return last.result


@console.command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-vl-0.5b")
    parser.add_argument("--tokens", type=int, default=256, help="visual tokens, default: %(default)s")
    parser.add_argument("--retention", type=float, default=0.25)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--scales", type=float, nargs="+", default=list(SCALES), help="of the picture's area")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vision-depth", type=int, help="layers of the tower, default: the shape's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    most = int(options.tokens * max(1.0, *options.scales))
    vlm = build_model(options.shape, device, DTYPES[options.dtype], options.vision_depth, most)
    found = measure(vlm, options.tokens, options.retention, options.concurrency, options.rounds, options.scales)
    if options.json:
        print(console.as_json(asdict(found), indent=1))
    else:
        print(f"{options.shape} in {options.dtype}, vision depth {vlm.config.vision_config.depth}\n{told(found)}")


if __name__ == "__main__":
    main()

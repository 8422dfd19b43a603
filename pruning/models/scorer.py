"""The learned importance scorer (VisionSelector's architecture), and its strict loading. Soft top-k lives in training.

arXiv 2510.16598: A = q kᵀ / √d without softmax, sᵢ = meanⱼ Aᵢⱼ. As the mean runs over the keys alone, this is
sᵢ = qᵢ · k̄ / √d with k̄ the mean key, and k̄ the key of the mean feature: O(N·d), no N × N matrix.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning.debris import is_debris
from pruning.models.checkpoint import hub, sources
from pruning.models.checkpoint.damage import unreadable
from pruning.models.values import ModelError

WEIGHTS, SETTINGS = "scorer.safetensors", "scorer.json"
INDEX = f"{sources.WEIGHTS}.index.json"
INSIDE = "importance_scorer."  # how a VisionSelector checkpoint names the scorer among the model's own tensors
WRAPPERS = ("module.", "_orig_mod.")  # put before every name by distributed training and by the compiler


class Scorer(nn.Module):
    """Two linear maps with bias, dim -> hidden: `q_proj` and `k_proj` (hidden = dim / 2 in the paper).

    `forward`: (..., N, dim) -> (..., N) raw, unbounded importance.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, hidden)
        self.k_proj = nn.Linear(dim, hidden)

    def forward(self, features: Tensor) -> Tensor:
        mean_key = self.k_proj(features.mean(-2, keepdim=True))  # (..., 1, hidden)
        return (self.q_proj(features) * mean_key).sum(-1) * self.q_proj.out_features**-0.5

    def save(self, folder: Path) -> None:
        """Write `scorer.safetensors` and `scorer.json` into the folder of a checkpoint, or into one of their own."""
        from safetensors.torch import save_file

        weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        (folder / SETTINGS).write_text(json.dumps({"dim": self.q_proj.in_features, "hidden": self.q_proj.out_features}))


def beside(folder: Path, dim: int) -> Scorer | None:
    """The scorer that comes with a checkpoint: in a file of its own, or among the model's tensors. None: it has none.

    Raises:
        ModelError: as `load_scorer`.
    """
    if (folder / WEIGHTS).is_file():
        return _read(folder, [folder / WEIGHTS], dim)
    if (folder / INDEX).is_file():
        files = [folder / name for name in _holding(folder / INDEX)]
    else:
        files = [file for file in sources.weight_files(folder) if any(INSIDE in name for name in _names(file))]
    return _read(folder, files, dim) if files else None


def load_scorer(source: str | Path, dim: int) -> Scorer:
    """The scorer in a folder or on the hub, in float32, for features of width `dim`.

    Read is `scorer.safetensors`; else what a whole VisionSelector checkpoint calls `…importance_scorer.…`, and from the
    hub only the files that hold it; else the one safetensors file there is (the published "Selector" weights). Nothing
    but tensors is read, and no code is ever run.

    Raises:
        ModelError: nothing there, unreadable, missing or unexpected tensors (which are named), wrong shapes, NaN or
            infinite, or made for another width.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        names, get = [file.name for file in folder.iterdir() if not is_debris(file.name)], folder.joinpath
    elif isinstance(source, Path) or not hub.is_id(source):
        raise ModelError(f"scorer {source} is neither a folder here nor a hub id such as {hub.EXAMPLE}")
    else:
        names, get = hub.names(source, (WEIGHTS, INDEX, sources.WEIGHTS)), partial(hub.fetch, source)
    if WEIGHTS in names:
        chosen = [WEIGHTS]
    elif INDEX in names:
        chosen = _holding(get(INDEX))
    else:
        chosen = [name for name in names if name.endswith(".safetensors")]
    if len(chosen) != 1 and INDEX not in names:
        found = f"{len(chosen)} safetensors files, none of them {WEIGHTS}" if chosen else "no safetensors file"
        raise ModelError(f"{source} holds no scorer: it has {found}. Name the folder or hub id of scorer weights.")
    return _read(source, [get(name) for name in chosen], dim)


def _holding(index: Path) -> list[str]:
    return sorted({file for name, file in sources.weight_map(index).items() if INSIDE in name})


def _names(file: Path) -> list[str]:
    return [name for name, _, _ in sources.headers(file)]


def _read(source: Path | str, files: list[Path], dim: int) -> Scorer:
    """The scorer from its tensors, names and shapes checked before any of them is read."""
    from safetensors import SafetensorError, safe_open

    held = [(file, name, shape) for file in files for name, _, shape in sources.headers(file)]
    held = [one for one in held if INSIDE in one[1]] or held
    found = {_bare(name): shape for _, name, shape in held}
    hidden = next(iter(found.get("q_proj.weight", ())), 0)
    shapes = {f"{part}_proj.{kind}": size for part in "qk" for kind, size in
              (("weight", (hidden, dim)), ("bias", (hidden,)))}  # fmt: skip
    if not hidden or found != shapes or len(held) != len(found):
        shown = ", ".join(f"{name} {shape}" for _, name, shape in sorted(held)[:6]) or "none of its tensors"
        raise ModelError(
            f"{source} is no scorer for this model: needed are q_proj and k_proj with weights (hidden, {dim}) and "
            f"biases (hidden,), and nothing else; it has {shown}{' …' if len(held) > 6 else ''}. Take the scorer that "
            "was trained for this checkpoint, or none."
        )
    weights: dict[str, Tensor] = {}
    for file, name, _ in held:
        try:
            with safe_open(file, "pt") as opened:
                weights[_bare(name)] = opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise unreadable(source, file.name, error) from error
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise ModelError(f"{source}: the scorer's weights are NaN or infinite: train it again, or use none")
    scorer = Scorer(dim, hidden)
    scorer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return scorer.eval().requires_grad_(False)


def _bare(name: str) -> str:
    """The name without what training code puts before it."""
    name = name.rpartition(INSIDE)[2]
    while wrapper := next((w for w in WRAPPERS if name.startswith(w)), ""):
        name = name.removeprefix(wrapper)
    return name

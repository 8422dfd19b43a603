"""The learned importance scorer (VisionSelector's architecture), and its strict loading. Soft top-k lives in training.

arXiv 2510.16598: A = q kᵀ / √d without softmax, sᵢ = meanⱼ Aᵢⱼ. As the mean runs over the keys alone, this is
sᵢ = qᵢ · k̄ / √d with k̄ the mean key, and k̄ the key of the mean feature: O(N·d), no N × N matrix.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning.models.values import ModelError

WEIGHTS, SETTINGS = "scorer.safetensors", "scorer.json"


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
        """Write `scorer.safetensors` and `scorer.json` into the folder of a checkpoint."""
        from safetensors.torch import save_file

        weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        (folder / SETTINGS).write_text(json.dumps({"dim": self.q_proj.in_features, "hidden": self.q_proj.out_features}))


def load_scorer(folder: Path, dim: int) -> Scorer | None:
    """The scorer of a checkpoint folder in float32, or None where it has none.

    Only tensors are read; nothing beside them is ever executed.

    Raises:
        ModelError: unreadable file, missing or unexpected tensors, wrong shapes, not finite, or made for another width.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}): copy it again or delete it") from error
    hidden = len(weights["q_proj.weight"]) if "q_proj.weight" in weights else 0
    wanted = {f"{p}_proj.{n}": s for p in "qk" for n, s in (("weight", (hidden, dim)), ("bias", (hidden,)))}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if not hidden or found != wanted:
        raise ModelError(
            f"{path} is no scorer for this model: it needs q_proj and k_proj with weights (hidden, {dim}) and biases "
            f"(hidden,), the file has {found}. Take the scorer trained for this checkpoint, or delete the file."
        )
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise ModelError(f"{path} contains NaN or infinite weights: train it again or delete it")
    scorer = Scorer(dim, hidden)
    scorer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return scorer.eval().requires_grad_(False)

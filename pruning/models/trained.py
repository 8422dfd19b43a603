"""Modules that were trained to prune one model, and their strict loading: those of CoViPAL, DToP, ATP-LLaVA and
QTSplus.

A folder holds NAME.safetensors and NAME.json of each: nothing but tensors and numbers is read. The settings name the
model by `fingerprint`, so that weights of another one are refused, whatever their width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.models.values import ModelError

ROWS, LEAST = 64, 1e-3  # of the word embeddings, in a fingerprint; weights that are smaller count as 0 there
HEADS: Final = 4
REMEDY = "Train one for this checkpoint with `python -m pruning.training pruner --model …`, or leave --pruner out"


class CoViPAL(nn.Module):
    """One transformer block over visual tokens and words, and one score for each visual token.

    arXiv 2508.17243 leaves the layers of its module open; this is a guess: maps of both kinds of input to `width` after
    a normalisation without weights, one pre-norm block of four heads in which all attend to all, a linear read-out.
    No positions: the order of the tokens changes nothing.

    `forward`: features (N, dim) and words (M, dim), float32 -> (N,) raw scores, higher = kept first.
    """

    name: Final = "covipal"
    SIZES: Final = ("dim", "width")

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.visual, self.words = nn.Linear(dim, width), nn.Linear(dim, width)
        self.block = nn.TransformerEncoderLayer(
            width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.score = nn.Linear(width, 1)

    @property
    def sizes(self) -> dict[str, int]:
        """What it is built from anew."""
        return {"dim": self.visual.in_features, "width": self.visual.out_features}

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        said = [
            part(F.layer_norm(rows, rows.shape[-1:])) for part, rows in ((self.visual, features), (self.words, words))
        ]
        scores: Tensor = self.score(self._mixed(torch.cat(said), len(features)))[:, 0]
        return scores

    def _mixed(self, rows: Tensor, n: int) -> Tensor:
        """(n, width): the first n rows of what the block makes of `rows` (N + M, width), as `self.block` computes it.

        Written out, since its own path for inference makes a map of all pairs, and nothing of the words is read behind
        it: a fifth less time with 256 tokens on one core.
        """
        block, attention = self.block, self.block.self_attn
        inputs = F.linear(block.norm1(rows), attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = inputs.view(len(rows), 3, HEADS, -1).permute(1, 2, 0, 3)  # (heads, N + M, width / heads)
        heads = F.scaled_dot_product_attention(query[None, :, :n], key[None], value[None])[0]
        rows = rows[:n] + attention.out_proj(heads.transpose(0, 1).reshape(n, -1))
        mixed: Tensor = rows + block.linear2(F.gelu(block.linear1(block.norm2(rows))))
        return mixed


class DToP(nn.Module):
    """A linear head on every visual token: which of its classes the token shows.

    `forward`: features (N, dim) float32 and words, which it does not read -> (N, classes) logits.
    """

    name: Final = "dtop"
    SIZES: Final = ("dim", "classes")

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, classes)

    @property
    def sizes(self) -> dict[str, int]:
        """What it is built from anew."""
        return {"dim": self.head.in_features, "classes": self.head.out_features}

    def forward(self, features: Tensor, words: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(F.layer_norm(features, features.shape[-1:]))
        return logits


class ATPLLaVA(nn.Module):
    """Of every cut between layers, a net that turns what a sample looks like there into the thresholds of its tokens.

    arXiv 2412.00447: z = Linear(2 -> width)[mean S_self, mean S_cross]; θ_r, θ_s = σ(Linear(width -> 1) z) each. The
    width is a guess. dim: of the model's features, which it does not read.

    `forward`: cut from 0 and the two means (2,) float32 -> (θ_r, θ_s) (2,) float32 in 0..1. A cut beyond the last one
    has the last one's net.
    """

    name: Final = "atp_llava"
    SIZES: Final = ("dim", "cuts", "width")

    def __init__(self, dim: int, cuts: int, width: int) -> None:
        super().__init__()
        self.dim, self.width = dim, width
        self.read = nn.ModuleList(nn.Linear(2, width) for _ in range(cuts))
        self.redundant = nn.ModuleList(nn.Linear(width, 1) for _ in range(cuts))
        self.spatial = nn.ModuleList(nn.Linear(width, 1) for _ in range(cuts))

    @property
    def sizes(self) -> dict[str, int]:
        """What it is built from anew."""
        return {"dim": self.dim, "cuts": len(self.read), "width": self.width}

    def forward(self, cut: int, means: Tensor) -> Tensor:
        cut = min(cut, len(self.read) - 1)
        z = self.read[cut](means)
        return torch.cat([self.redundant[cut](z), self.spatial[cut](z)]).sigmoid()


class QTSplus(nn.Module):
    """How relevant each visual token is to the question, and the share of the tokens that it takes.

    arXiv 2511.11910, the layer that scores and the budget head: query = norm(words), key = norm(features), heads that
    share keys as in a layer of the language model, no positions; r_j = max over words and heads of the softmax weight
    of token j; ρ = 0.05 + 0.45·σ(MLP[mean word, log N, max r, entropy of r/Σr]). With one scoring layer, as released,
    nothing else of that layer reaches r. One norm for both inputs is a guess. The layers that encode what is kept anew
    are left out: the language model stays as it is, and has never seen such rows.

    `forward`: features (N, dim) and words (M, dim), float32 -> (N, 2): r, and ρ in every row.
    """

    name: Final = "qtsplus"
    SIZES: Final = ("dim", "heads", "groups", "width")
    LEAST: Final = 0.05
    MOST: Final = 0.5

    def __init__(self, dim: int, heads: int, groups: int, width: int) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.query, self.key = nn.Linear(dim, heads * width), nn.Linear(dim, groups * width)
        self.budget = nn.Sequential(nn.Linear(dim + 3, 256), nn.GELU(), nn.Linear(256, 1))
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor((self.LEAST + self.MOST) / 2))  # of ρ, as training goes on

    @property
    def sizes(self) -> dict[str, int]:
        """What it is built from anew."""
        return {
            "dim": self.query.in_features,
            "heads": self.heads,
            "groups": self.groups,
            "width": self.query.out_features // self.heads,
        }

    def relevance(self, features: Tensor, words: Tensor) -> Tensor:
        """(N,) log r."""
        query = self.query(self.norm(words)).unflatten(1, (self.groups, self.heads // self.groups, -1))
        key = self.key(self.norm(features)).unflatten(1, (self.groups, -1))
        logits = torch.einsum("mgsw,ngw->mgsn", query, key) / key.shape[-1] ** 0.5
        return logits.log_softmax(-1).amax((0, 1, 2))

    def share(self, relevance: Tensor, words: Tensor) -> Tensor:
        """() ρ, of log r (N,)."""
        r = relevance.exp()
        odds = r / r.sum()
        told = torch.stack([r.new_tensor(len(r)).log(), r.max(), torch.special.entr(odds).sum()])
        raw: Tensor = self.budget(torch.cat([words.mean(0), told]))[0]
        return self.LEAST + (self.MOST - self.LEAST) * raw.sigmoid()

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        relevance = self.relevance(features, words)
        return torch.stack([relevance.exp(), self.share(relevance, words).expand(len(features))], 1)


Trained = CoViPAL | DToP | ATPLLaVA | QTSplus
KINDS: Final[Mapping[str, type[Trained]]] = {kind.name: kind for kind in (CoViPAL, DToP, ATPLLaVA, QTSplus)}
"""By the signal and the method that they serve."""
INSIDE: Final = frozenset({ATPLLaVA.name})
"""Those that serve a rule between the layers of the language model; the others give signals of the encoded tokens."""


def fingerprint(model: Any) -> str:
    """Of a loaded model, the same in every dtype and format: its first word embeddings, its norms and biases."""
    found = hashlib.sha256()
    vectors = (weight for weight in model.parameters() if weight.ndim == 1)
    for weight in (model.get_input_embeddings().weight[:ROWS], *vectors):
        coarse = weight.detach().to("cpu", torch.bfloat16)
        coarse = coarse.where(coarse.abs() >= LEAST, 0)  # float16 has not all of the small ones
        found.update(coarse.view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def save(module: Trained, folder: Path, model: Any, trained: Mapping[str, Any]) -> None:
    """Write NAME.safetensors and NAME.json into a folder. trained: how it was, to be read by people."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, folder / f"{module.name}.safetensors")
    told = {**module.sizes, "model": fingerprint(model), "trained": dict(trained)}
    (folder / f"{module.name}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def beside(folder: Path, model: Any) -> dict[str, Trained]:
    """Those in the folder of the model's own checkpoint, by name; none is no error. Raises as `load_pruner`."""
    return {name: _read(folder, name, model) for name in KINDS if (folder / f"{name}.safetensors").is_file()}


def load_pruner(source: str | Path, model: Any) -> dict[str, Trained]:
    """Those in a folder, by name, float32, on the model's device.

    Raises:
        ModelError: no folder, none in it, one that cannot be read, missing or unexpected tensors or wrong shapes
            (named), NaN or infinite weights, or weights for another model.
    """
    folder = Path(source).expanduser()
    found = beside(folder, model) if folder.is_dir() else {}
    if not found:
        files = " or ".join(f"{name}.safetensors" for name in KINDS)
        raise ModelError(f"{source} holds no trained pruner: it must be a folder with {files}. {REMEDY}")
    return found


def _read(folder: Path, name: str, model: Any) -> Trained:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file, settings = folder / f"{name}.safetensors", folder / f"{name}.json"
    try:
        told = json.loads(settings.read_text("utf-8"))
        sizes = {key: int(told[key]) for key in KINDS[name].SIZES}
        made_for = str(told["model"])
        weights = load_file(file)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ModelError(
            f"the trained pruner {file} or its {settings.name} cannot be read ({what}). {REMEDY}"
        ) from error
    width = int(model.config.get_text_config().hidden_size)
    if sizes["dim"] != width:
        raise ModelError(f"{file} is for features of width {sizes['dim']}, and this model's have {width}. {REMEDY}")
    if made_for != fingerprint(model):
        raise ModelError(f"{file} was trained for another model than this one. {REMEDY}")
    if name == DToP.name and sizes["classes"] < 1:
        raise ModelError(f"{file} tells {sizes['classes']} classes apart: it must be at least 1. {REMEDY}")
    if name == ATPLLaVA.name and min(sizes["cuts"], sizes["width"]) < 1:
        raise ModelError(f"{file} has {sizes['cuts']} cuts of width {sizes['width']}: at least 1 of each. {REMEDY}")
    if name == CoViPAL.name and (sizes["width"] < HEADS or sizes["width"] % HEADS):
        raise ModelError(f"{file} has width {sizes['width']}: it must be a multiple of {HEADS}. {REMEDY}")
    if name == QTSplus.name and (min(sizes.values()) < 1 or sizes["heads"] % sizes["groups"]):
        raise ModelError(
            f"{file} has {sizes['heads']} heads of width {sizes['width']} in {sizes['groups']} groups: at least 1 of "
            f"each, and heads that go into their groups. {REMEDY}"
        )
    module = KINDS[name](**sizes)
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if wrong := sorted(f"{key} {given.get(key, 'missing')}" for key in wanted.keys() | given.keys()
                       if given.get(key) != wanted.get(key)):  # fmt: skip
        raise ModelError(f"{file} does not hold the tensors of {name}: {', '.join(wrong[:6])}. {REMEDY}")
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise ModelError(f"{file}: its weights are NaN or infinite. {REMEDY}")
    module.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
    return module.to(model.device).eval().requires_grad_(False)

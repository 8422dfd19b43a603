"""ATP-LLaVA's thresholds for any supported model, in the loop of `fit`: tokens fade between layers as they would leave.

arXiv 2412.00447. After each cut a token is seen by the layers that follow with probability m = σ(T·margin), times
those of the cuts before, as the logarithm on its key. Loss: the answers' cross entropy + λ_atp·Σ_l l·share +
λ_target·|mean share - target|, where share is what is left after the cut that follows l layers. Differs: the model is
frozen, where the authors train it along; layers and weights are those of a re-implementation, and so would T = 10 be:
scores that are scaled to 0..1 lie close together, and T = 40 is a guess at what tells them apart, as are the first
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.grids import rows_and_columns
from pruning.methods.atp_llava import margin, rates, spatial
from pruning.models import VLM, Encoded
from pruning.models.trained import ATPLLaVA, save
from pruning.plan import Plan, plan_of
from pruning.staged import make_staged
from pruning.training.fit import answered, forced, read
from pruning.training.pruners import LEAST, PrunerPlan, soft_mask, visual_places
from pruning.training.records import Record

WIDTH, SHARPNESS = 16, 40.0  # of the net, a guess; T
EVERY_CUT, TARGET = 0.05, 0.2  # λ_atp, λ_target
FIRST = (0.1, 0.5)  # θ_r, θ_s before the first step

Rule = Callable[[int, Tensor, Tensor], Tensor]
"""Cut from 0, attention (heads, L, L) of the layer before it, p (N,) to be there -> (N,) probability to stay."""


class ATPLLaVATrainee:
    """Of a model that was loaded with eager attention, which alone tells its weights."""

    name = ATPLLaVA.name

    def __init__(self, vlm: VLM, plan: PrunerPlan) -> None:
        """Raises ValueError for a model between whose layers tokens cannot leave."""
        if vlm.no_stages:
            raise ValueError(f"{self.name} prunes inside the language model: {vlm.no_stages}")
        self.plan, self.afters = plan, [after for after, _ in make_staged(self.name).shape(vlm.layers)]
        self.rates = rates(vlm.layers)

    def file(self) -> str:
        return f"{self.name}.safetensors"

    def new(self, vlm: VLM, generator: torch.Generator) -> ATPLLaVA:
        dim = int(vlm.config.get_text_config().hidden_size)
        return new_thresholds(dim, len(self.afters), WIDTH, generator.initial_seed())

    def losses(self, vlm: VLM, module: ATPLLaVA, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        encoded, ids, positions, answer = read(vlm, record)
        rule = self.rule(vlm, module, encoded, ids, ids.shape[-1] - len(answer) + 1)
        logits, left = faded(vlm, encoded, ids, positions, len(answer), self.afters, rule)
        shares = torch.stack([p.mean() for p in left])
        layers = torch.tensor(self.afters, device=shares.device)
        return {
            "loss": (1.0, F.cross_entropy(logits, answer.to(logits.device))),
            "kept": (EVERY_CUT, (layers * shares).sum()),
            "off_target": (TARGET, (shares.mean() - self.plan.budget).abs()),
        }

    def rule(
        self, vlm: VLM, module: ATPLLaVA, encoded: Encoded, ids: Tensor, n: int, sharpness: float = SHARPNESS
    ) -> Rule:
        """The module's own, for a prompt of the first n of ids (1, L)."""
        visual = visual_places(vlm, encoded, ids)
        after = torch.arange(n) > int(visual.max())
        text = (after & ~torch.isin(ids[0, :n], torch.tensor(vlm.family.placeholders))).nonzero()[:, 0]
        at = rows_and_columns(encoded.tokens.grids).to(vlm.device)

        def stays(cut: int, attention: Tensor, p: Tensor) -> Tensor:
            rows, there = attention.float().mean(0), p.detach() >= p.detach().max().clamp(max=0.5)
            own = (p[:, None] * rows[visual][:, visual]).sum(0) / p.sum()
            cross = rows[text][:, visual].mean(0)
            redundancy, sampled = scaled((own + cross) / 2, there), spatial(at, self.rates[cut])
            thresholds = module(cut, torch.stack([own.sum(), cross.sum()]))
            return (sharpness * margin(redundancy, sampled, thresholds)).sigmoid()

        return stays

    def save(self, module: ATPLLaVA, vlm: VLM, out: Path) -> None:
        save(module, out, vlm.model, asdict(self.plan) | {"after": self.afters})

    def score(self, vlm: VLM, module: ATPLLaVA, record: Record, budget: float) -> float:
        encoded = vlm.encode([record.picture()])
        served = vlm.beside({self.name: module})
        return answered(served, encoded, record, plan_within(encoded.tokens.n, vlm.layers, budget))


def new_thresholds(dim: int, cuts: int, width: int, seed: int) -> ATPLLaVA:
    """Untrained: every sample has the thresholds FIRST."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = ATPLLaVA(dim, cuts, width)
    for heads, start in zip((module.redundant, module.spatial), FIRST, strict=True):
        for head in heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.constant_(head.bias, math.log(start / (1 - start)))  # type: ignore[arg-type]
    return module


def plan_within(n: int, layers: int, budget: float) -> Plan:
    """The method's plan for n tokens in a model of L layers, `budget` of them in the mean of the layers behind its
    first cut, which no budget reaches before.
    """
    method = make_staged(ATPLLaVA.name)
    first = method.shape(layers)[0][0]
    least, most, _ = method.reach(n, layers)
    return plan_of(method, n, layers, min(max((first + (layers - first) * budget) / layers, least), most))


def scaled(values: Tensor, there: Tensor) -> Tensor:
    """(N,) values from 0 to 1 over those `there` (N,) bool, as `ops.scaling.minmax`; the others are held within."""
    low, high = values[there].min(), values[there].max()
    return ((values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)).clamp(0, 1)


def faded(
    vlm: VLM, encoded: Encoded, ids: Tensor, positions: Tensor, steps: int, afters: Sequence[int], rule: Rule
) -> tuple[Tensor, list[Tensor]]:
    """Logits (steps, V) float32 at the last places of a sequence whose visual tokens fade between layers, and of every
    cut (N,) the probability that each token is still there. Differentiable.

    Where a rule says 1 and 0 alone, it is as if those of 0 had left after so many layers; a test holds that equal.
    """
    fading = _Fading(vlm, visual_places(vlm, encoded, ids), afters, rule)
    mask = soft_mask(torch.ones(encoded.tokens.n), fading.visual, ids.shape[-1]).to(vlm.device)
    with fading.attached():
        logits = forced(vlm, ids, positions, encoded.rows(None), steps, mask).logits[0].float()
    return logits, fading.left


class _Fading:
    """Hooks on the layers of one pass: the attention before every cut, and the mask of the layers behind it."""

    def __init__(self, vlm: VLM, visual: Tensor, afters: Sequence[int], rule: Rule) -> None:
        self.layers, self.visual = list(vlm.model.get_decoder().layers), visual
        self.afters, self.rule = afters, rule
        self.p, self.left = torch.ones(len(visual), device=vlm.device), list[Tensor]()

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = [
            self.layers[after - 1].self_attn.register_forward_hook(self._cut(cut))
            for cut, after in enumerate(self.afters)
        ]
        handles += [
            layer.register_forward_pre_hook(self._masked, with_kwargs=True) for layer in self.layers[self.afters[0] :]
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _cut(self, cut: int) -> Callable[..., None]:
        def note(_module: Any, _args: Any, result: Any) -> None:
            self.p = self.p * self.rule(cut, result[1][0], self.p)
            self.left.append(self.p)

        return note

    def _masked(self, _layer: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        mask = soft_mask(self.p.clamp(min=LEAST), self.visual, named["attention_mask"].shape[-1])
        return args, {**named, "attention_mask": mask}

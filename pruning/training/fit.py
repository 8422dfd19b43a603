"""A scorer for any supported model: VisionSelector's recipe on the frozen model, through what `VLM` shows of itself.

One record after the other, `batch` of them to a step: records differ in length, and at the paper's 64 visual tokens a
picture nothing is gained by padding them to one.

Differs from the paper: where the model adds DeepStack levels or keeps rows of its own among the tokens (line ends), the
levels are multiplied by the mask as the rows are, and its own rows stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.models import VLM, Encoded, Scorer, Turn
from pruning.models.language import finite
from pruning.models.language.generation import stop_ids
from pruning.models.scorer import WEIGHTS
from pruning.models.values import Rows
from pruning.training import loop
from pruning.training.objective import KEPT, anneal, binary_loss, new_scorer, soft_top_k
from pruning.training.records import Record, Records

CHECKPOINT, PLAN = "scorer.pt", "plan.json"


@dataclass(frozen=True)
class Plan:
    """Everything that a run's result depends on, beside the records themselves.

    Attributes:
        budget: share of the tokens that the soft mask adds up to.
        rate: AdamW's peak learning rate (paper: 5e-5; models of a few million parameters want 1e-3).
    """

    model: str
    data: str
    steps: int
    batch: int = 16
    budget: float = KEPT
    rate: float = 5e-5
    max_visual_tokens: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "max_visual_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} {getattr(self, name)}: it must be at least 1")
        if not 0 < self.budget < 1:
            raise ValueError(f"budget {self.budget}: it must be a share of the tokens between 0 and 1, such as 0.2")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate {self.rate}: it must lie between 0 and 1, such as 5e-5")


def train(vlm: VLM, records: Records, plan: Plan, out: Path, *, resume: bool = False, every: int = 100) -> Scorer:
    """Train for `plan.steps` steps and write the scorer to `out`, a folder that `load(…, scorer=out)` takes.

    Every `every` steps scorer and optimiser are written there too: with `resume` a stopped run goes on from them and
    ends in the same scorer as one that was not stopped.

    Raises:
        ValueError: `out` holds a run already and `resume` is not set, or one with another plan; a record that the model
            cannot take, by name; a loss that is not finite.
    """
    start_anew = not (out / CHECKPOINT).is_file()
    _check_plan(plan, out, start_anew, resume)
    width = vlm.config.get_text_config().hidden_size
    scorer = new_scorer(width, torch.Generator().manual_seed(plan.seed)).to(vlm.device)
    opts: list[torch.optim.Optimizer] = [torch.optim.AdamW(scorer.parameters(), lr=plan.rate, weight_decay=0.0)]
    start = loop.restore(out / CHECKPOINT, {"scorer": scorer}, opts)
    progress = loop.Progress("scorer", start, plan.steps)
    for step in range(start, plan.steps):
        loop.set_rate(opts, loop.one_cycle(step, plan.steps, plan.rate, warmup=max(plan.steps * 3 // 100, 1)))
        weight, sums = anneal(step, plan.steps), torch.zeros(2)
        for place in range(step * plan.batch, (step + 1) * plan.batch):
            record = records.at(place)
            loss, binary = losses(vlm, scorer, record, plan.budget)
            if not torch.isfinite(loss + binary):
                raise ValueError(f"{record.name}: the loss is NaN or infinite in dtype {_remedy(vlm)}")
            ((loss + weight * binary) / plan.batch).backward()
            sums += torch.tensor([loss.item(), binary.item()])
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        loss_mean, binary_mean = (sums / plan.batch).tolist()
        progress.add(step, loss=loss_mean, binary=binary_mean)
        if (step + 1) % every == 0 or step + 1 == plan.steps:
            loop.save(out / CHECKPOINT, step + 1, {"scorer": scorer}, opts)
            scorer.save(out)
    return scorer.eval().requires_grad_(False)


def losses(vlm: VLM, scorer: Scorer, record: Record, budget: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of the record's answer on softly masked tokens, and the BCE of the mask; both differentiable.

    Raises:
        ValueError: naming the record, where the model cannot take it.
    """
    try:
        encoded = vlm.encode([record.picture()])
        ids, positions, answer = _sequence(vlm, encoded, record.question, record.answer)
        n = encoded.tokens.n
        if n < 2:
            raise ValueError(f"its picture gives {n} visual token: training needs two or more, use a larger one")
    except ValueError as error:
        raise ValueError(f"{record.name}: {error}") from error
    scores = scorer(encoded.tokens.features.to(vlm.device))[None]  # (1, N)
    k = min(max(1, int(budget * n)), n - 1)
    p = soft_top_k(scores, k)
    logits = _logits(vlm, ids, positions, _masked(encoded, p[0]), len(answer))
    return F.cross_entropy(logits, answer.to(logits.device)), binary_loss(p, scores, k)


def _sequence(vlm: VLM, encoded: Encoded, question: str, answer: str) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt and answer as token ids (1, n + T - 1), their positions, and the T ids to be predicted."""
    prompt, ends = vlm.prompt(encoded, question), stop_ids(vlm.model)
    # The chat template itself writes the answer and its end, if this is an earlier turn; most templates do.
    told = vlm.prompt(encoded, question, (Turn(question, answer),)).input_ids[0].tolist()
    after = told[prompt.n :] if told[: prompt.n] == prompt.input_ids[0].tolist() else []
    end = next((i for i, token in enumerate(after) if token in ends), 0)
    if vlm.tokenizer.decode(after[:end]).strip() == answer.strip():
        target = torch.tensor(after[: end + 1])
    else:
        target = torch.tensor([*vlm.tokenizer(answer, add_special_tokens=False).input_ids, *sorted(ends)[:1]])
    following = prompt.positions.amax() + 1 + torch.arange(len(target) - 1)
    ids = torch.cat([prompt.input_ids, target[None, :-1]], dim=1)
    positions = torch.cat([prompt.positions, following.expand(*prompt.positions.shape[:-1], -1)], dim=-1)
    return ids, positions, target


def _masked(encoded: Encoded, p: Tensor) -> Rows:
    """The rows of all tokens, each multiplied by its share of p (N,)."""
    rows = encoded.rows(None)
    places = torch.arange(len(p)) if encoded.places is None else encoded.places
    share = torch.ones(len(rows.features), device=p.device).index_copy(0, places.to(p.device), p)[:, None]  # (R, 1)
    features, *levels = (level.to(p.device) * share for level in (rows.features, *rows.deepstack))
    return replace(rows, features=features, deepstack=tuple(levels))


def _logits(vlm: VLM, ids: Tensor, positions: Tensor, rows: Rows, steps: int) -> Tensor:
    """(T, V) float32 at the last T places. The mask is never left out: see `generation`."""
    ids = ids.to(vlm.device)
    told = vlm.family.image_marks
    marks = {told: torch.isin(ids, torch.tensor(vlm.family.marked, device=ids.device)).long()} if told else {}
    output: Any = vlm.model(
        input_ids=ids,
        position_ids=positions.to(vlm.device),
        attention_mask=torch.ones_like(ids),
        mm_encoder_outputs={"image": vlm.family.encoder_output(rows)},
        use_cache=False,
        logits_to_keep=steps,
        **marks,
    )
    logits: Tensor = output.logits[0].float()
    return logits


def _remedy(vlm: VLM) -> str:
    name = finite.name(vlm.dtype)
    if vlm.dtype == torch.float16:
        return f"{name}, which ends at 65,504: train in bfloat16 or float32"
    return f"{name}: start anew with a lower --rate"


def _check_plan(plan: Plan, out: Path, start_anew: bool, resume: bool) -> None:
    """Write the plan of a new run, or compare it with that of the run to go on with."""
    out.mkdir(parents=True, exist_ok=True)
    if start_anew:
        if (out / WEIGHTS).exists():
            raise ValueError(f"{out} holds a scorer already: name another folder with --out")
        (out / PLAN).write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
        return
    if not resume:
        raise ValueError(f"{out} holds a run already: go on with it by --resume, or name another folder with --out")
    before = json.loads((out / PLAN).read_text(encoding="utf-8"))
    changed = [
        f"{name} {before.get(name)} → {value}" for name, value in asdict(plan).items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{out} was begun with other settings ({', '.join(changed)}): repeat them, or start elsewhere")

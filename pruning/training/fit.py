"""One loop for every module that is trained on a frozen model, through what `VLM` shows of itself; and the first of
them, a scorer by VisionSelector's recipe. `pruners` has the others.

One record after the other, `batch` of them to a step: records differ in length, and at the paper's 64 visual tokens a
picture nothing is gained by padding them to one.

Differs from the paper: where the model adds DeepStack levels or keeps rows of its own among the tokens (line ends), the
levels are multiplied by the mask as the rows are, and its own rows stay as they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import ops
from pruning.budget import keep_count
from pruning.models import VLM, Encoded, Scorer, Turn
from pruning.models.language import finite
from pruning.models.language.generation import stop_ids
from pruning.models.scorer import WEIGHTS
from pruning.models.values import Kept, Rows
from pruning.training import loop
from pruning.training.objective import KEPT, anneal, binary_loss, new_scorer, soft_top_k
from pruning.training.records import Record, Records
from pruning.training.runs import CURVE, HELD_OUT, PLAN, Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything that a run's result depends on, beside the records themselves.

    Attributes:
        budget: share of the tokens that the soft mask adds up to.
        digest: of the data (`Records.digest`): a run does not go on with other data of the same name.
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
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "max_visual_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} {getattr(self, name)}: it must be at least 1")
        if not 0 < self.budget < 1:
            raise ValueError(f"budget {self.budget}: it must be a share of the tokens between 0 and 1, such as 0.2")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate {self.rate}: it must lie between 0 and 1, such as 5e-5")


class Trainee(Protocol):
    """A kind of module that is trained."""

    name: str

    def file(self) -> str:
        """Name of the file in which its weights are handed on."""

    def new(self, vlm: VLM, generator: torch.Generator) -> nn.Module:
        """Untrained, for the model."""

    def losses(self, vlm: VLM, module: Any, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        """Of one record, by name: the weight at this step and the loss itself. Raises ValueError naming the record."""

    def save(self, module: Any, vlm: VLM, out: Path) -> None:
        """Write what `load` takes."""

    def score(self, vlm: VLM, module: Any, record: Record, budget: float) -> float:
        """Whether the model answers a held-out record right on that share of the tokens, as the module ranks them:
        1 or 0.
        """


def train(
    vlm: VLM,
    records: Records,
    plan: Plan,
    out: Path,
    trainee: Trainee | None = None,
    *,
    resume: bool = False,
    every: int = 100,
    held_out: Sequence[Record] = (),
    budgets: Sequence[float] = (),
) -> Any:
    """Train for `plan.steps` steps and write the module to `out`, a folder that `load` takes. trainee: None, a scorer.

    Every `every` steps module and optimiser are written there too, and a line to `curve.jsonl`: the step, the mean of
    every loss since the last one, and of the held-out records the share that is answered right on the plan's budget,
    and on each of `budgets`. With `resume` a stopped run goes on and ends in the same module as one that was not
    stopped. A loss that is not finite stops the run: the module of the last line stays.

    Raises:
        ValueError: `out` holds a run already and `resume` is not set, or one with another plan, or another process
            trains there; a record that the model cannot take, by name; a loss that is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    with Run(out).at_work():
        return _train(vlm, records, plan, out, trainee or ScorerTrainee(plan), resume, every, held_out, budgets)


def _train(
    vlm: VLM,
    records: Records,
    plan: Plan,
    out: Path,
    trainee: Trainee,
    resume: bool,
    every: int,
    held_out: Sequence[Record],
    budgets: Sequence[float],
) -> Any:
    module: Any
    checkpoint = out / f"{trainee.name}.pt"
    _check_plan(plan, out, checkpoint, out / trainee.file(), resume)
    module = trainee.new(vlm, torch.Generator().manual_seed(plan.seed)).to(vlm.device)
    opts: list[torch.optim.Optimizer] = [torch.optim.AdamW(module.parameters(), lr=plan.rate, weight_decay=0.0)]
    start = loop.restore(checkpoint, {trainee.name: module}, opts)
    progress = loop.Progress(trainee.name, start, plan.steps)
    run, begun = Run(out), time.monotonic()
    before = run.seconds if start else 0.0
    sums: dict[str, list[float]] = {}
    for step in range(start, plan.steps):
        loop.set_rate(opts, loop.one_cycle(step, plan.steps, plan.rate, warmup=max(plan.steps * 3 // 100, 1)))
        for place in range(step * plan.batch, (step + 1) * plan.batch):
            record = records.at(place)
            found = trainee.losses(vlm, module, record, step)
            total = torch.stack([weight * loss for weight, loss in found.values()]).sum()
            if not torch.isfinite(total):
                raise ValueError(f"{record.name}: the loss is NaN or infinite in dtype {_remedy(vlm)}")
            (total / plan.batch).backward()
            for name, (_, loss) in found.items():
                sums.setdefault(name, []).append(loss.item())
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        progress.add(step, **{name: mean(values[-plan.batch :]) for name, values in sums.items()})
        if (step + 1) % every == 0 or step + 1 == plan.steps:
            loop.save(checkpoint, step + 1, {trainee.name: module}, opts)
            trainee.save(module, vlm, out)
            trainee.save(module, vlm, run.room(step + 1))
            line = {"step": step + 1, **{name: mean(values) for name, values in sums.items()}}
            asked = {HELD_OUT: plan.budget} | {f"{HELD_OUT}@{budget:g}": budget for budget in budgets}
            for name, budget in asked.items() if held_out else ():
                line[name] = mean(trainee.score(vlm, module, record, budget) for record in held_out)
                log.info("held out after %d steps, on %g of the tokens: %.3f", step + 1, budget, line[name])
            _append(out / CURVE, line)
            run.note(before + time.monotonic() - begun)
            sums.clear()
    return module.eval().requires_grad_(False)


class ScorerTrainee:
    """VisionSelector's scorer."""

    name = "scorer"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def file(self) -> str:
        return WEIGHTS

    def new(self, vlm: VLM, generator: torch.Generator) -> Scorer:
        return new_scorer(vlm.config.get_text_config().hidden_size, generator)

    def losses(self, vlm: VLM, module: Scorer, record: Record, step: int) -> dict[str, tuple[float, Tensor]]:
        loss, binary = losses(vlm, module, record, self.plan.budget)
        return {"loss": (1.0, loss), "binary": (anneal(step, self.plan.steps), binary)}

    def save(self, module: Scorer, vlm: VLM, out: Path) -> None:
        module.save(out)

    def score(self, vlm: VLM, module: Scorer, record: Record, budget: float) -> float:
        encoded = vlm.encode([record.picture()])
        scores = module(encoded.tokens.features.to(vlm.device))
        return answered(vlm, encoded, record, best(scores, budget))


def best(scores: Tensor, budget: float) -> Tensor:
    """(K,) int64 ascending: the `budget` of the tokens with the highest scores (N,)."""
    return ops.topk(scores.detach().float().cpu(), keep_count(len(scores), budget)).sort().values


def answered(vlm: VLM, encoded: Encoded, record: Record, kept: Kept) -> float:
    """1 where the greedy answer on what is kept is the record's, else 0."""
    answer = vlm.answer(encoded, record.question, kept)
    return float(answer.text.strip().lower() == record.answer.strip().lower())


def _append(file: Path, line: Mapping[str, float]) -> None:
    """A line of the curve. What a run that was broken off after its last checkpoint wrote of later steps goes."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    kept = [told for told in lines if json.loads(told)["step"] < line["step"]]
    file.write_text("\n".join([*kept, json.dumps(line)]) + "\n", encoding="utf-8")


def losses(vlm: VLM, scorer: Scorer, record: Record, budget: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of the record's answer on softly masked tokens, and the BCE of the mask; both differentiable.

    Raises:
        ValueError: naming the record, where the model cannot take it.
    """
    encoded, ids, positions, answer = read(vlm, record)
    scores = scorer(encoded.tokens.features.to(vlm.device))[None]  # (1, N)
    k = min(max(1, int(budget * encoded.tokens.n)), encoded.tokens.n - 1)
    p = soft_top_k(scores, k)
    logits = forced(vlm, ids, positions, _masked(encoded, p[0]), len(answer)).logits[0].float()
    return F.cross_entropy(logits, answer.to(logits.device)), binary_loss(p, scores, k)


def read(vlm: VLM, record: Record) -> tuple[Encoded, Tensor, Tensor, Tensor]:
    """The record's picture encoded, and its `sequence`.

    Raises:
        ValueError: naming the record, where the model cannot take it, or where it gives fewer than two visual tokens.
    """
    try:
        encoded = vlm.encode([record.picture()])
        ids, positions, answer = sequence(vlm, encoded, record.question, record.answer)
        if encoded.tokens.n < 2:
            raise ValueError(
                f"its picture gives {encoded.tokens.n} visual token: training needs two or more, use a larger one"
            )
    except ValueError as error:
        raise ValueError(f"{record.name}: {error}") from error
    return encoded, ids, positions, answer


def sequence(vlm: VLM, encoded: Encoded, question: str, answer: str) -> tuple[Tensor, Tensor, Tensor]:
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


def forced(
    vlm: VLM, ids: Tensor, positions: Tensor, rows: Rows, steps: int, mask: Tensor | None = None, **options: Any
) -> Any:
    """The library's own output, logits at the last `steps` places. The mask is never left out: see `generation`.

    mask: (1, 1, L, L) float32 to add to what attention compares; None: all that came before is seen.
    """
    ids = ids.to(vlm.device)
    told = vlm.family.image_marks
    marks = {told: torch.isin(ids, torch.tensor(vlm.family.marked, device=ids.device)).long()} if told else {}
    return vlm.model(
        input_ids=ids,
        position_ids=positions.to(vlm.device),
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        mm_encoder_outputs={"image": vlm.family.encoder_output(rows)},
        use_cache=False,
        logits_to_keep=steps,
        **marks,
        **options,
    )


def _remedy(vlm: VLM) -> str:
    name = finite.name(vlm.dtype)
    if vlm.dtype == torch.float16:
        return f"{name}, which ends at 65,504: train in bfloat16 or float32"
    return f"{name}: start anew with a lower --rate"


def _check_plan(plan: Plan, out: Path, checkpoint: Path, weights: Path, resume: bool) -> None:
    """Write the plan of a new run, or compare it with that of the run to go on with. A folder holds one run."""
    others = sorted({file.stem for file in out.glob("*.pt")} - {checkpoint.stem})
    if others:
        raise ValueError(f"{out} holds a run of {others[0]}, not of {checkpoint.stem}: name another folder with --out")
    if not checkpoint.is_file():
        if weights.exists():
            raise ValueError(f"{out} holds a {checkpoint.stem} already: name another folder with --out")
        (out / PLAN).write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
        return
    if not resume:
        raise ValueError(f"{out} holds a run already: go on with it by --resume, or name another folder with --out")
    before = json.loads((out / PLAN).read_text(encoding="utf-8"))
    before.setdefault("digest", plan.digest)  # of a run that was begun before runs told it
    changed = [
        f"{name} {before.get(name)} → {value}" for name, value in asdict(plan).items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{out} was begun with other settings ({', '.join(changed)}): repeat them, or start elsewhere")

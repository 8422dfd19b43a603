"""The named endpoints: the page's work for programs. Values are checked like the page's; answers are plain JSON.

Each call is complete in itself (model, images, question, setting), and nothing of it outlives it but content in the
cache, and a model that it asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect as reflection
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.answers import reports
from app.api import compare as api_compare
from app.api import results as api_results
from app.api.said import Said
from app.canvas import state as canvas_state
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import MAX_PICTURES, USUAL, checked_pictures
from app.model_pool.pool import Models
from app.pays import run as pays_run
from app.plan import dominance as plan_dominance
from app.plan.dominance import Dominances
from app.recipe.certify import certified
from app.recipe.write import written
from app.session import Picture, Session, Setting
from app.tradeoff import measure as tradeoff_measure
from app.web.controls import Controls
from app.web.errors import report_errors
from app.why import run as why_run
from pruning.evaluation.inspection import Card
from pruning.evaluation.paying import Paying
from pruning.handover import certificate as certificates
from pruning.video import Sampling, kind_of

WAYS = ("", "return", "need")
PROGRAMS = "programs"  # whom a model is in use by: all callers together
COMMON = ("image", "question", "method", "importance", "diversity", "retention", "knobs")
LATE = ("model", "more_images", "per", "plan", "positions", "fps", "max_frames")  # may be left out
ABOUT: Mapping[str, str] = {
    "image": "file of the image: PNG, JPEG, WebP, GIF, BMP or TIFF; more than 16.8 million pixels are scaled down; "
    "or of a clip: MP4, MOV, WebM, Matroska, AVI, or an animated GIF, WebP or PNG",
    "question": "at most 1,000 characters; a selection needs one where its method looks at the question",
    "method": "key of the pruning method, before the language model or inside it, such as idpruner or fastv",
    "importance": "importance weight, a number of at least 0; λ is its share of the sum of both weights",
    "diversity": "diversity weight, a number of at least 0",
    "retention": "share of the visual tokens that is kept, above 0 and at most 1; inside the language model the mean "
    "over its layers",
    "knobs": "further knobs of the method by name, or of the plan's methods; those left out keep their defaults",
    "others": "up to three further settings: objects with method, importance, diversity, retention, knobs, per, plan, "
    "positions; what is left out is as in the first; where there is none, random and uniform with as many tokens",
    "token": "index of a visual token, a whole number from 0 to N - 1",
    "concurrency": f"numbers of requests at once, each at most {pays_run.MOST}; 1, 4 and 16 where it is empty",
    "way": "return (dropped patches that bring the answer back) or need (kept ones it cannot do without); empty: the "
    "first where pruning changed the answer, else the second",
    "methods": "keys of the methods whose fidelity curves are measured, with the plan where there is one; none are "
    "where it is empty",
    "model": "name of the model, one of those that this server offers; it is loaded where need be",
    "more_images": f"files of further images and clips of the same question, at most {MAX_PICTURES - 1}; clips come "
    "last",
    "per": "what each budget is for: sample (all images together), image (or clip), tile, frame of a clip, or novelty: "
    "frames get the more the newer they are; inside the language model, sample",
    "fps": f"of a clip, frames taken of each second; {USUAL.rate:g} where it is left out",
    "max_frames": f"of a clip, the most frames, spread over all of it; {USUAL.frames} where it is left out",
    "plan": "what runs in the place of method and retention: cuts such as pre:idpruner:0.4,3:fastv:0.5 (where, method, "
    "how many stay), or the name of a published schedule such as fastv-published",
    "positions": "where the language model sees kept tokens: original, where they stood among all of them, or compact, "
    "numbered anew without gaps as serving engines do; what leaves between layers changes no position, but in the form "
    "code of methods whose release numbers anew",
}


@dataclass(frozen=True)
class Call:
    """The arguments of every endpoint, checked, and the model to work with."""

    engine: Engine
    capabilities: Capabilities
    session: Session
    said: Said
    setting: Setting


def endpoint(result: type, *own: str) -> Callable[[Callable[..., Any]], Any]:
    """Event function with arguments COMMON, its `own`, LATE; from a method of `Api` that gets a Call and these and
    gives a `result`, a dataclass. Beside the function: `names` of the arguments, `result`, and `about`, a description.
    """
    names = (*COMMON, *own, *LATE)

    def decorate(work: Callable[..., Any]) -> Any:
        about = " ".join((work.__doc__ or "").split())

        @report_errors
        @functools.wraps(work)
        def run(api: Api, *values: Any) -> dict[str, Any]:
            given = dict(zip(names, values, strict=False))
            with api.call(*(given.get(name) for name in (*COMMON, *LATE))) as call:
                return dataclasses.asdict(work(api, call, *(given[name] for name in own)))

        kind = reflection.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [reflection.Parameter("api", kind)]
        parameters += [reflection.Parameter(name, kind) for name in (*COMMON, *own)]
        parameters += [reflection.Parameter(name, kind, default=None) for name in LATE]
        run.__signature__ = reflection.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        # Read by whoever lists tools: a description, and a line for each argument.
        lines = "\n".join(f"    {name}: {ABOUT[name]}" for name in names)
        run.__doc__ = f"{about}\n\nParameters:\n{lines}"
        run.about, run.names, run.result = about, names, result  # type: ignore[attr-defined]
        return run

    return decorate


class Api:
    """Every endpoint takes the values of `COMMON`, its own, and those of `LATE`, which `ABOUT` explains."""

    def __init__(self, models: Models, controls: Controls) -> None:
        self.models, self.controls = models, controls

    @endpoint(api_results.Selected)
    def select(self, call: Call) -> api_results.Selected:
        """Which K of N visual tokens a pruning method keeps: pick order, ascending indices, merges, rectangles in
        pixels. Asks no language model.
        """
        return api_results.selected(call.engine, call.session, call.setting)

    @endpoint(api_results.Answered)
    def answer(self, call: Call) -> api_results.Answered:
        """The greedy answers with all N and with the K kept visual tokens, whether they agree, fidelity (0 to 1),
        prefill FLOPs, KV-cache bytes, and measured seconds to the first token.
        """
        *_, last = reports.reports(call.engine, call.session, call.setting, Task())
        return api_results.answered(call.engine, call.session, call.setting, last)

    @endpoint(api_results.Tradeoff, "methods")
    def pareto(self, call: Call, methods: Sequence[str] | None) -> api_results.Tradeoff:
        """The plane of importance retention I(S) against the Hopkins statistic H(S) at this budget with its front, and
        the fidelity curves (fidelity 0 to 1 at nine retention ratios) of the methods that are named.
        """
        call.session.checked_questions()
        points = tradeoff_measure.plane(call.engine, call.session, call.setting)
        curves: tuple[Any, ...] | None = ()
        left_out: list[str] = []
        if methods:
            chosen, left_out = tradeoff_measure.sweep_methods(
                call.capabilities, methods, call.setting, len(call.session.pictures)
            )
            for progress in tradeoff_measure.sweep(
                call.engine, call.session, chosen, Task(), positions=call.setting.positions
            ):
                curves = progress.points
            left_out += progress.left_out
            if why := tradeoff_measure.NO_CURVE.get(progress.stage):
                curves, left_out = None, [*left_out, why]
        return api_results.tradeoff(points, curves, left_out)

    @endpoint(api_results.Compared, "others")
    def compare(self, call: Call, others: Any) -> api_results.Compared:
        """Up to four settings on the same images and question: of each both answers, agreement, fidelity (0 to 1),
        costs and times as `answer` gives them; and the overlap (IoU, 0 to 1) of every two kept sets.
        """
        first = call.said
        if call.setting.plan is not None:  # of its own retention, with which the others are compared
            first = dataclasses.replace(first, retention=call.engine.equivalent(call.session, call.setting))
        settings = [call.setting, *api_compare.others(self.controls, call.capabilities, first, others)]
        return api_compare.compared(call.engine, call.capabilities, call.session, settings)

    @endpoint(Paying, "concurrency")
    def pays(self, call: Call, concurrency: Any) -> Paying:
        """Whether the setting pays on this machine against all tokens and other encodings of the picture, at several
        requests at once: times of every phase, memory, a verdict with its reason, the break-even token count.
        """
        many = concurrency or pays_run.CONCURRENCY
        if not isinstance(many, Sequence) or isinstance(many, str):
            raise ValueError(f"concurrency is {many!r}: must be a list of whole numbers such as [1, 4, 16]")
        with call.engine.resources.timing.turn():
            *_, last = pays_run.run(call.engine, call.session, call.setting, Task(), many)
        return last.result

    @endpoint(api_results.Hanging, "way")
    def why(self, call: Call, way: Any) -> api_results.Hanging:
        """The fewest patches that the answer hangs on, found by measuring: dropped ones whose return restores the
        answer with all tokens, or kept ones without which the answer is lost; and for each token of the answer the
        patches whose removal costs its probability most.
        """
        if way not in WAYS:
            raise ValueError(f"way is {way!r}: must be one of {', '.join(map(repr, WAYS))}")
        with call.engine.resources.long_work.turn():
            *_, last = why_run.run(call.engine, call.session, call.setting, Task(), way or None)
        return api_results.hanging(call.engine, call.session, last)

    @endpoint(api_results.Recipes)
    def recipe(self, call: Call) -> api_results.Recipes:
        """The setting written for other programs, ready to paste: this library, plain transformers, the command line,
        lmms-eval, AngelSlim, OpenVINO GenAI, vLLM; of each what will differ there, or why it cannot be served.
        """
        return api_results.Recipes(list(written(call.engine, call.session, call.setting)))

    @endpoint(api_results.Certified)
    def certificate(self, call: Call) -> api_results.Certified:
        """The parity certificate of the setting: versions, model revision, N, K, kept indices, positions, and the first
        log-probabilities with all and with the kept tokens. `idpruner verify` holds another machine against it.
        """
        return api_results.Certified(certificates.written(certified(call.engine, call.session, call.setting)))

    @endpoint(Dominances)
    def dominance(self, call: Call) -> Dominances:
        """Whether text or picture dominates in each layer while the model answers: attention that both receive, MDI and
        AEI of "When Language Overrules", for the answer with all N and with the K kept visual tokens.
        """
        for _ in reports.reports(call.engine, call.session, call.setting, Task()):
            pass
        found = plan_dominance.measured(call.engine, call.session, call.setting)
        assert found is not None, "both answers stand"
        return found

    @endpoint(Card, "token")
    def inspect(self, call: Call, token: object) -> Card:
        """Why one visual token is kept or dropped: its place, rank among the picks, importance, most similar kept
        token, MMR score, and a sentence. Asks no language model.
        """
        return canvas_state.card(call.engine, call.session, call.setting, token)

    @contextmanager
    def call(
        self,
        image: str | None,
        question: Any,
        method: Any,
        importance: Any,
        diversity: Any,
        retention: Any,
        knobs: Any,
        model: Any,
        more_images: Sequence[str] | None,
        per: Any,
        plan: Any,
        positions: Any,
        fps: Any,
        max_frames: Any,
    ) -> Iterator[Call]:
        """The call with its model loaded, which stays so until the block ends. Raises ValueError for bad values."""
        chosen = self.models.checked(model)
        said = Said(method, importance, diversity, retention, knobs, per, plan, positions)
        files = [file for file in (image, *(more_images or ())) if file]
        sampling = Sampling(USUAL.rate if fps is None else fps, USUAL.frames if max_frames is None else max_frames)
        pictures = tuple[
            Picture, ...
        ]()  # what is wrong with images is told before a model is loaded; whether it takes clips, it knows
        if not any(kind_of(file) for file in files):
            pictures = self._pictures(files, sampling, "")
        for _ in self.models.open(chosen, PROGRAMS):
            pass
        with self.models.use(chosen, PROGRAMS) as (engine, capabilities):
            pictures = pictures or self._pictures(files, sampling, engine.vlm.no_clips)
            setting = said.setting(self.controls, capabilities)
            yield Call(engine, capabilities, Session(chosen, pictures, (question,)), said, setting)

    def _pictures(self, files: Sequence[str], sampling: Sampling, no_clips: str) -> tuple[Picture, ...]:
        opened = [self.models.resources.pictures.open(file, sampling, no_clips) for file in files]
        return checked_pictures(tuple(picture for picture, _ in opened))

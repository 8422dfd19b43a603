"""`methods`: the registry as Markdown, which docs/methods.md holds word for word."""

from collections.abc import Iterable, Sequence

from pruning.encoding import ENCODING, EncodingMethod, make_encoding
from pruning.method import METHODS, Method
from pruning.params import SOURCE, Param, params
from pruning.runnable import WORDS
from pruning.staged import STAGED, StagedMethod

STAGES = {"pre_tower": "before the tower", "pre_llm": "before the LLM", "in_llm": "inside the LLM"}
NONE = "–"
DEPTH = 32  # layers of the models that most schedules were published for
MOST_CUTS = 9  # told one by one


def method_table() -> str:
    """Four tables: what each method is and needs, its knobs and what differs here from the paper; then the methods
    inside the language model, and those before the tower.
    """
    methods = sorted((make_default() for make_default in METHODS.values()), key=lambda method: method.title.lower())
    facts = _table(
        (
            "method",
            "paper",
            "stage",
            "needs",
            "merges",
            "nested picks",
            "exact budget",
            "training-free",
            "tested against",
            "adapted",
        ),
        (_facts(method) for method in methods),
    )
    details = _table(
        ("method", "knobs: `name` = default (range)", "what is adapted here"),
        (
            (method.title, "<br>".join(map(_knob, params(type(method)))) or NONE, method.adaptation or NONE)
            for method in methods
            if params(type(method)) or method.adaptation
        ),
    )
    inside = _table(
        (
            "inside the LLM",
            "paper",
            "cuts after layers: share that stays, as published (32 layers)",
            "reads",
            "knobs",
            "adapted",
        ),
        (_inside(STAGED[name]()) for name in sorted(STAGED, key=lambda name: STAGED[name].title.lower())),
    )
    before = _table(
        ("before the tower", "paper", "the model must offer", "knobs", "adapted"),
        (_before(make_encoding(name)) for name in sorted(ENCODING, key=lambda name: ENCODING[name].title.lower())),
    )
    return f"{facts}\n\n{details}\n\n{inside}\n\n{before}"


def _inside(method: StagedMethod) -> tuple[str, ...]:
    return (
        f"**{method.title}** `{method.name}`",
        _paper(method),
        _cuts(method),
        ", ".join(f"`{name}`" for name in sorted(method.needs)) or NONE,
        "<br>".join(map(_knob, params(type(method)))) or NONE,
        method.adaptation or NONE,
    )


def _cuts(method: StagedMethod) -> str:
    told = [
        f"{after}: {share:.3g}" if after or not method.first else f"{share:.3g} enter, by `{method.first}`"
        for after, share in method.shape(DEPTH)
    ]
    return ", ".join(told if len(told) <= MOST_CUTS else [*told[:2], "…", told[-1]])


def _before(method: EncodingMethod) -> tuple[str, ...]:
    return (
        f"**{method.title}** `{method.name}`",
        _paper(method),
        "; ".join(WORDS[need] for need in sorted(method.needs)),
        "<br>".join(map(_knob, params(type(method)))) or NONE,
        method.adaptation or NONE,
    )


def _paper(method: Method | StagedMethod | EncodingMethod) -> str:
    return f"[{method.paper.rsplit('/', 1)[-1]}]({method.paper}), {method.venue}" if method.paper else "baseline"


def _facts(method: Method) -> tuple[str, ...]:
    trained = "with another source" if method.has(SOURCE) else "no"
    return (
        f"**{method.title}** `{method.name}`",
        _paper(method),
        STAGES[method.stage],
        _needs(method) or NONE,
        "yes" if method.merges else NONE,
        "yes" if method.nested else NONE,
        "yes",  # `Method.select` promises it, and the contract tests hold every method to it
        trained if method.trained else "yes",
        "oracle" if method.paper else "definition",  # a test demands the oracle of every published method
        "yes" if method.adaptation else NONE,
    )


def _needs(method: Method) -> str:
    """The signals, each once, with all its layers, the last one first."""
    layers: dict[str, list[int]] = {}
    for need in method.needs:
        kind, _, layer = need.partition("@")
        layers.setdefault(kind, []).extend([int(layer)] if layer else [])
    named = {kind: ", ".join(map(str, sorted(which, reverse=True))) for kind, which in sorted(layers.items())}
    return ", ".join(f"`{kind}@{which}`" if which else f"`{kind}`" for kind, which in named.items())


def _knob(param: Param) -> str:
    values = " · ".join(param.choices) if param.kind == "choice" else f"{param.lo:g} to {param.hi:g}"
    return f"{param.label}: `{param.name}` = {param.default} ({values})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A bar inside a cell would end it.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

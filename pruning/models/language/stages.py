"""Stages: visual tokens leave between the layers of the language model, for good.

Forward hooks on its layers, set for the length of one pass and for the thread that makes it, shorten the states that
enter a layer, with their positions and masks. Later layers hold no keys and values of what has left. The library's own
forward stays as it is, and so does its attention kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pruning.models.language.layout import Layout
from pruning.models.language.passes import First, Later
from pruning.models.language.trace import CutTrace, Trace
from pruning.models.language.windows import takes_masks, window_of
from pruning.models.values import ModelError, Prompt
from pruning.plan import Cut, Plan, lifetimes
from pruning.seen import Choice
from pruning.staged import alive_of
from pruning.tokens import VisualTokens


class Course:
    """The cuts of one prompt, and what came of them once it has gone through; without a plan there are none.

    Raises ValueError as `Plan.counts`, or for fewer images than a rule needs.
    """

    def __init__(
        self,
        given: Plan | None,
        prompt: Prompt,
        tokens: Tensor,
        sample: VisualTokens,
        layers: int,
        placeholders: Sequence[int],
        modules: Mapping[str, Any] | None = None,
    ) -> None:
        """given: a plan. prompt: with only the tokens that enter; tokens: (K,) which of the sample these are. modules:
        the model's trained ones, by name.
        """
        self.modules = modules or {}
        self.staged, plan = given is not None, given or Plan()
        self.prompt, self.tokens, self.n, self.layers = prompt, tokens, sample.n, layers
        self.images, self.grids = sample.images, sample.grids  # (N,)
        self.entry_scores = None if plan.entering is None else plan.entering.scores  # (N,)
        # (n,) what windows count by: where the prompt's tokens stood before any left, unless they are numbered anew.
        self.stood = prompt.positions[0] if prompt.positions.ndim == 2 else torch.arange(prompt.n)
        images = len(sample.images.unique())
        for cut in plan.cuts:
            if why := cut.rule.too_few(images):
                raise ValueError(f"{why}; add one, or choose another method")
        self.counts = {c.after: k for c, k in zip(plan.cuts, plan.counts(len(tokens), layers), strict=True)}
        self.cuts = {cut.after: cut for cut in plan.cuts}
        self.evict_early = plan.evict_early
        after = torch.arange(prompt.n) > int(prompt.visual.max())
        self.text = (after & ~torch.isin(prompt.input_ids[0], torch.tensor(placeholders))).nonzero()[:, 0]
        self.made: list[CutTrace] = []
        self.choices: dict[int, Choice] = {}  # of each cut made, for other rows of the same prompt (beams)

    def renumbers(self, cut: Cut) -> bool:
        """Whether what stays after this cut is numbered anew."""
        return cut.rule.renumbers(len(self.prompt.positions))

    def numbered(self, tokens: Tensor) -> Tensor:
        """(1, R), or (3, 1, R) with M-RoPE: positions without gaps of what is left of the prompt; tokens: (A,) which of
        the sample are, ascending.
        """
        alive = torch.searchsorted(self.tokens, tokens.cpu())
        return self.prompt.keep(alive).compact(self.images[tokens.cpu()]).positions

    @property
    def gaps(self) -> bool:
        """Whether tokens of the prompt stood farther apart than they do now."""
        return int(self.stood[-1] - self.stood[0]) >= self.prompt.n

    def trace(self) -> Trace | None:
        """What was alive where; known once the prompt has gone through. None without a plan."""
        if not self.staged:
            return None
        cuts = [(cut.after, len(cut.order)) for cut in self.made]
        alive = alive_of(cuts, len(self.tokens), self.layers)
        lives = lifetimes([(cut.after, cut.order) for cut in self.made], self.tokens, self.n, self.layers)
        held = (alive[-1],) * self.layers if self.evict_early else alive
        return Trace(alive, held, lives, len(self.tokens), tuple(self.made))


class Stages:
    """The cuts of a conversation, or of several prompts that go through together, padded on the left: made in the first
    pass, kept to in all later ones. Holds no states.

    Raises:
        ModelError: a family whose layers cannot be shortened.
    """

    def __init__(self, model: Any, courses: Sequence[Course], levels: int, width: int = 0):
        """courses: of each row, the same one for rows that say the same. levels: of DeepStack. width: columns of the
        first pass, where there are more than the longest prompt needs.
        """
        self.model, self.courses, self.levels = model, courses, levels
        self.layers = list(model.get_decoder().layers)
        self.longest = max(width, *(course.prompt.n for course in courses))
        self.held: list[Layout] = []  # of every layer: which places of each prompt it holds
        # Of every layer, where its prompt is numbered anew: how far its positions lag behind, (B, 1) or (3, B, 1).
        self.behind: list[Tensor | None] = []
        self.renumbers = any(course.renumbers(cut) for course in courses for cut in course.cuts.values())
        self.gaps = any(course.gaps for course in courses)
        if any(course.staged for course in courses):
            check_layers(model, self.layers, any(course.evict_early for course in courses), self.renumbers)

    @property
    def depth(self) -> int:
        return len(self.layers)

    @contextmanager
    def attached(self, past: int, cancel: threading.Event | None = None) -> Iterator[None]:
        """While open, a pass of this thread over what follows `past` tokens goes through the stages.

        Raises (from the pass):
            StoppedError: `cancel` was set. ModelError, ValueError: what a rule cannot work with.
        """
        thread, handles = threading.get_ident(), []

        def own(hook: Callable[..., Any]) -> Callable[..., Any]:
            # Another thread's pass may call a hook, even one without named arguments that is just being removed.
            return lambda *given: hook(*given) if threading.get_ident() == thread else None

        run = Later(self, past) if past else First(self, cancel)
        try:
            for i, layer in enumerate(self.layers):
                handles.append(layer.register_forward_pre_hook(own(run.before(i)), with_kwargs=True))
            for module, hook in run.others():
                handles.append(module.register_forward_hook(own(hook), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()


def check_layers(model: Any, layers: list[Any], evict_early: bool = False, renumbers: bool = False) -> None:
    """Raise ModelError where tokens cannot leave between the layers of a family, or leave early layers afterwards, or
    be numbered anew between them.
    """
    text = model.config.get_text_config()
    shared = getattr(text, "num_kv_shared_layers", 0) or getattr(text, "hidden_size_per_layer_input", 0)
    if shared or any(hasattr(layer, "cross_attn") for layer in layers):
        raise unsupported_stages(model.config.model_type)
    windows = any(window_of(layer) is not None for layer in layers)
    if evict_early and (windows or not all(hasattr(layer, "self_attn") for layer in layers)):
        raise ModelError(
            f"models of type {model.config.model_type} have layers that keep a window or a state, from which tokens "
            "cannot be taken afterwards: leave out 'evict'"
        )
    if renumbers and not hasattr(model.get_decoder(), "rotary_emb"):
        raise ModelError(
            f"models of type {model.config.model_type} have no one place that turns positions into rotations, so what "
            "is left cannot be numbered anew between layers: choose the form 'paper', which keeps positions"
        )
    if windows and not takes_masks(model):
        raise ModelError(
            f"the kernel {model.config._attn_implementation} counts this model's windows from what is left, not from "
            "where it was: load it with attention sdpa, or prune before the language model"
        )


def unsupported_stages(kind: str) -> ModelError:
    """The refusal of plans for a type of model."""
    return ModelError(
        f"in models of type {kind} tokens cannot leave between layers, since layers share keys, inputs or states: "
        "choose a method before the language model"
    )

"""Stages: visual tokens leave between the layers of the language model, for good.

Forward hooks on its layers, set for the length of one pass and for the thread that makes it, shorten the states that
enter a layer, with their positions and masks. Later layers hold no keys and values of what has left. The library's own
forward stays as it is, and so does its attention kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruning.models.language.passes import First, Later
from pruning.models.values import ModelError, Prompt
from pruning.plan import Plan, lifetimes
from pruning.staged import alive_of
from pruning.tokens import VisualTokens


@dataclass(frozen=True, eq=False)
class Trace:
    """What a plan came to.

    alive: visual tokens that each of the L layers processed. lives: (N,) int64, how many layers processed each token, 0
    = it never entered. scores: for every cut its layers and (N,) float32, what it ranked the tokens alive by, NaN for
    the others; where its rule has scores.
    """

    alive: tuple[int, ...]
    lives: Tensor
    scores: tuple[tuple[int, Tensor], ...]

    @property
    def equivalent(self) -> float:
        """Mean over the layers of the share of the N tokens that is alive."""
        return sum(self.alive) / (len(self.alive) * len(self.lives))


class Stages:
    """The cuts of one conversation: made in its first pass, kept to in all later ones. Holds no states.

    Raises:
        ValueError: as `Plan.counts`. ModelError: a family whose layers cannot be shortened.
    """

    def __init__(
        self,
        model: Any,
        plan: Plan,
        prompt: Prompt,
        tokens: Tensor,
        sample: VisualTokens,
        placeholder: int,
        levels: int,
    ):
        """prompt: with only the tokens that enter; tokens: (K,) which of the sample these are. levels: of DeepStack."""
        self.model, self.prompt, self.tokens, self.n, self.levels = model, prompt, tokens, sample.n, levels
        self.images = sample.images
        self.entry_scores = None if plan.entering is None else plan.entering.scores  # (N,)
        self.layers = list(model.get_decoder().layers)
        self.counts = {c.after: k for c, k in zip(plan.cuts, plan.counts(len(tokens), self.depth), strict=True)}
        self.cuts = {cut.after: cut for cut in plan.cuts}
        self.evict_early = plan.evict_early
        after = torch.arange(prompt.n) > int(prompt.visual.max())
        self.text = (after & (prompt.input_ids[0] != placeholder)).nonzero()[:, 0]
        self.order: list[tuple[int, Tensor]] = []  # of every cut: its layers, the original tokens that stayed
        self.scores: list[tuple[int, Tensor]] = []
        self.gone: list[Tensor] = []  # of every layer: places in the prompt that it does not hold
        check_layers(model, self.layers, plan.evict_early)
        for cut in plan.cuts:
            if cut.rule.images > (given := len(sample.images.unique())):
                raise ValueError(
                    f"{cut.rule.title} needs at least {cut.rule.images} images, not {given}: earlier ones are its "
                    "examples; add one, or choose another method"
                )

    @property
    def depth(self) -> int:
        return len(self.layers)

    def trace(self) -> Trace:
        """What was alive where; known once the prompt has gone through."""
        cuts = [(after, len(alive)) for after, alive in self.order]
        lives = lifetimes(self.order, self.tokens, self.n, self.depth)
        return Trace(alive_of(cuts, len(self.tokens), self.depth), lives, tuple(self.scores))

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


def check_layers(model: Any, layers: list[Any], evict_early: bool = False) -> None:
    """Raise ModelError where tokens cannot leave between the layers of a family, or leave early layers afterwards."""
    text = model.config.get_text_config()
    shared = getattr(text, "num_kv_shared_layers", 0) or getattr(text, "hidden_size_per_layer_input", 0)
    if shared or any(hasattr(layer, "cross_attn") for layer in layers):
        raise unsupported_stages(model.config.model_type)
    windows = any(getattr(getattr(layer, "self_attn", None), "is_sliding", False) for layer in layers)
    if evict_early and (windows or not all(hasattr(layer, "self_attn") for layer in layers)):
        raise ModelError(
            f"models of type {model.config.model_type} have layers that keep a window or a state, from which tokens "
            "cannot be taken afterwards: leave out 'evict'"
        )
    kernel = model.config._attn_implementation or ""
    if windows and kernel not in ("sdpa", "eager"):
        raise ModelError(
            f"the kernel {kernel} counts this model's windows from what is left, not from where it was: load it with "
            "attention sdpa, or prune before the language model"
        )


def unsupported_stages(kind: str) -> ModelError:
    """The refusal of plans for a type of model."""
    return ModelError(
        f"in models of type {kind} tokens cannot leave between layers, since layers share keys, inputs or states: "
        "choose a method before the language model"
    )

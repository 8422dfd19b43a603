"""Stages while the model library generates in a loop of its own: sampling, beams, batches, streamers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from typing import Any

from pruning.models.language.forward import cache_name
from pruning.models.language.stages import Stages
from pruning.models.language.trace import Trace
from pruning.models.values import ModelError


class LibraryLoop:
    """What one set of inputs goes through. Two hooks on the model tell its passes from all others: the first by its
    image rows, which carry the ticket of the inputs, later ones by the cache that the first one filled. In which thread
    they run does not matter, and passes of anybody else stay as they are.
    """

    def __init__(self, stages: Stages, width: int, ticket: int):
        """width: columns of the inputs, padding included."""
        self.stages, self.width, self.ticket = stages, width, ticket
        self.model: Any = stages.model
        self.traces: tuple[Trace, ...] = ()
        self._cache_name = cache_name(type(self.model).forward)
        self._known: dict[int, tuple[Any, Stages]] = {}  # id of a cache -> itself, and what its layers do not hold
        self._open: dict[int, tuple[AbstractContextManager[None], Stages]] = {}  # thread -> the pass that it makes

    @contextmanager
    def attached(self) -> Iterator[LibraryLoop]:
        """While open, passes over these inputs go through the stages. Nothing of it stays on the model."""
        before = self.model.register_forward_pre_hook(self._before, with_kwargs=True)
        after = self.model.register_forward_hook(self._after, with_kwargs=True, always_call=True)
        try:
            yield self
        finally:
            before.remove()
            after.remove()
            for run, _ in self._open.values():
                run.__exit__(None, None, None)
            self._open.clear()
            self._known.clear()

    def _before(self, _model: Any, _args: Any, named: dict[str, Any] | None = None) -> None:
        named = named or {}
        cache = named.get(self._cache_name)
        given = (named.get("mm_encoder_outputs") or {}).values()
        if any(getattr(output, "ticket", None) == self.ticket for output in given):
            stages, past = self._first(named["input_ids"].shape, cache), 0
            self._known[id(cache)] = (cache, stages)
        elif cache is not None and id(cache) in self._known:
            stages = self._known[id(cache)][1]
            past = stages.longest + cache.get_seq_length() - stages.held[_counting(cache)].width
        else:
            return
        run = stages.attached(past)
        run.__enter__()
        self._open[threading.get_ident()] = (run, stages)

    def _after(self, *_given: Any) -> None:
        run, stages = self._open.pop(threading.get_ident(), (None, None))
        if run is not None and stages is not None:
            run.__exit__(None, None, None)
            if not self.traces and len(stages.held) == stages.depth:
                times = len(stages.courses) // len(self.stages.courses)
                found = [course.trace() for course in stages.courses[::times]]
                self.traces = tuple(trace for trace in found if trace is not None)

    def _first(self, shape: tuple[int, int], cache: Any) -> Stages:
        """Stages for a pass over the inputs, each of their rows perhaps several times. ModelError for another pass."""
        rows, columns = shape
        if cache is None:
            raise ModelError(
                "tokens leave between layers once, and the cache is what remembers it: leave out use_cache=False"
            )
        if getattr(cache, "is_compileable", False):
            raise ModelError(
                "a static cache has room for as many tokens in each layer, and here layers hold different numbers: "
                "leave out cache_implementation, or prune before the language model"
            )
        if columns != self.width:
            raise ModelError(
                f"the first pass is over {columns} tokens and the inputs have {self.width}: where tokens leave between "
                "layers the prompt must go through alone and whole. Leave out assisted decoding, prompt lookup and "
                "prefill_chunk_size, or prune before the language model"
            )
        times = rows // len(self.stages.courses)
        courses = [course for each in map(copy, self.stages.courses) for course in [each] * times]
        return Stages(self.model, courses, self.stages.levels, self.width)


def _counting(cache: Any) -> int:
    """The layer that the library counts a cache's tokens in: the first one that is not linear."""
    return next((i for i, layer in enumerate(cache.layers) if not hasattr(layer, "conv_states")), 0)

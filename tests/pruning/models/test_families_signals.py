"""Every signal of every family against an eager pass of the model library, patch by patch."""

import importlib
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from pruning.models import VLM, Encoded, load
from pruning.signals import check_signal

SIZES = {"qwen2_5_vl": (252, 168), "internvl": (112, 56), "llava_next": (128, 64)}  # several windows or tiles
CLS = ("clip_vision_model", "internvl_vision")
KINDS = ("vision_attention", "vision_attention_map", "vision_keys", "vision_values")


def size(vlm: VLM) -> tuple[int, int]:
    return SIZES.get(vlm.config.model_type, (68, 68))


def window_order(gh: int, gw: int, window: int) -> list[int]:
    """Raster index of each token in the order in which a windowed tower stores them."""
    windows = [(top, left) for top in range(0, gh, window) for left in range(0, gw, window)]
    return [
        row * gw + column
        for top, left in windows
        for row in range(top, min(top + window, gh))
        for column in range(left, min(left + window, gw))
    ]


def owners(vlm: VLM, encoded: Encoded, sequences: int, patches: int) -> Tensor:
    """(S, P) the token that each patch of the tower belongs to; for images that fill their tiles."""
    grids = encoded.tokens.grids
    if sequences == 1 and "qwen" in vlm.config.model_type:
        (grid,) = grids
        windowed = vlm.config.model_type == "qwen2_5_vl"
        order = window_order(grid.gh, grid.gw, 4) if windowed else range(grid.count)
        return torch.tensor(list(order)).repeat_interleave(4)[None]
    assert len(grids) == sequences
    side = round(patches**0.5)
    place = torch.arange(side)
    found = []
    for grid in grids:
        cell = place * grid.gh // side
        found.append(grid.start + (cell[:, None] * grid.gw + cell).flatten())
        assert grid.gh == grid.gw
    return torch.stack(found)


class Eager:
    """What each layer of the tower computes when the library itself forms the attention weights."""

    def __init__(self, vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: defaultdict[int, list[tuple[Tensor, ...]]] = defaultdict(list)
        self.given: list[Tensor] = []
        attentions = vlm.family.attentions
        module = importlib.import_module(type(attentions[0]).__module__)
        plain, projector = module.eager_attention_forward, vlm.family.projector

        def spy(layer, query, key, value, *args, **kwargs):
            output, weights = plain(layer, query, key, value, *args, **kwargs)
            self.calls[id(layer)].append((weights, key, value))
            return output, weights

        def note(_module, args, named) -> None:
            self.given.append(args[0] if args else named["hidden_states"])

        monkeypatch.setattr(module, "eager_attention_forward", spy)
        for layer in attentions:
            monkeypatch.setattr(layer.config, "_attn_implementation", "eager")
        self.handle = projector.register_forward_pre_hook(note, with_kwargs=True)
        self.layers = [id(layer) for layer in attentions]

    def layer(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """(S, P, P) weights, mean over heads, and keys and values (S, P, H, d); windows put together again."""
        calls = self.calls[self.layers[number]]
        weights = [weights.mean(1) for weights, _, _ in calls]
        if len(calls) > 1:
            weights = [torch.block_diag(*(w[0] for w in weights))[None]]
        keys, values = (torch.cat([call[i] for call in calls], dim=2).transpose(1, 2) for i in (1, 2))
        return weights[0], keys, values


@pytest.fixture
def eager(any_vlm: VLM, noise, monkeypatch):
    watcher = Eager(any_vlm, monkeypatch)
    any_vlm.encode([noise(*size(any_vlm))])
    watcher.handle.remove()
    monkeypatch.undo()
    return watcher


def pooled(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """Patches (S, P, …) -> (N, …), the mean over the patches of each token."""
    flat, owner = values.flatten(0, 1), owner.flatten()
    return torch.stack([flat[owner == token].mean(0) for token in range(n)])


def layers(vlm: VLM) -> list[int]:
    depth = len(vlm.family.attentions)
    return [*range(depth), -1]


def test_all_layers_are_offered(any_vlm: VLM) -> None:
    vision = any_vlm.config.vision_config
    depth = getattr(vision, "depth", None) or vision.num_hidden_layers
    wanted = {f"{kind}@{layer}" for kind in KINDS for layer in range(-depth, depth)}
    around = {"question", "patch_entropy", "pre_projector", "projector"}
    tower = {"tower"} if any_vlm.config.model_type == "llava" else set()
    assert any_vlm.signals - {"scorer"} == wanted | around | tower


def test_attention_maps_keys_and_values_are_those_of_an_eager_pass(any_vlm: VLM, noise, eager: Eager) -> None:
    needs = frozenset(f"{kind}@{layer}" for kind in KINDS for layer in layers(any_vlm))
    encoded = any_vlm.encode([noise(*size(any_vlm))], needs)
    n = encoded.tokens.n
    for layer in layers(any_vlm):
        weights, keys, values = eager.layer(layer)
        first = int(any_vlm.config.vision_config.model_type in CLS)
        owner = owners(any_vlm, encoded, len(weights), weights.shape[-1] - first)
        received = weights[:, 0, 1:] if first else weights.sum(1)
        signal = encoded.tokens.signal
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(signal(f"vision_attention@{layer}"), pooled(received, owner, n), **close)
        torch.testing.assert_close(signal(f"vision_keys@{layer}"), pooled(keys[:, first:], owner, n), **close)
        torch.testing.assert_close(signal(f"vision_values@{layer}"), pooled(values[:, first:], owner, n), **close)
        expected = torch.zeros(n, n)
        for sequence, own in zip(weights[:, first:, first:], owner, strict=True):
            for token in own.unique():
                row = sequence[own == token].mean(0)
                expected[token] = torch.zeros(n).index_add(0, own, row)
        torch.testing.assert_close(signal(f"vision_attention_map@{layer}"), expected, **close)
        assert bool((expected.sum(1) <= 1 + 1e-4).all())


def test_the_projector_s_input_is_averaged_over_the_patches_of_a_token(any_vlm: VLM, noise, eager: Eager) -> None:
    encoded = any_vlm.encode([noise(*size(any_vlm))], frozenset({"pre_projector"}))
    (given,) = eager.given
    given = given if given.ndim == 3 else given[None]
    n = encoded.tokens.n
    if given.shape[:2].numel() == n and any_vlm.config.model_type == "internvl":  # four patches side by side
        expected = given.reshape(n, 4, -1).mean(1)
    else:
        expected = pooled(given, owners(any_vlm, encoded, *given.shape[:2]), n)
    torch.testing.assert_close(encoded.tokens.signal("pre_projector"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [[(300, 90)], [(102, 102)], [(70, 100), (64, 40)]], ids=["wide", "large", "two"])
def test_the_projector_gives_the_features_and_follows_an_offset(any_vlm: VLM, noise, sizes) -> None:
    """Against a pass of the library in which the offset is added to what its projector receives."""
    images = [noise(*size, seed=i) for i, size in enumerate(sizes)]
    encoded = any_vlm.encode(images, frozenset({"projector", "pre_projector"}))
    project, width = encoded.tokens.signal("projector"), encoded.tokens.signal("pre_projector").shape[1]
    torch.testing.assert_close(project(torch.zeros(width)), encoded.tokens.features, rtol=1e-4, atol=1e-4)
    offset = torch.randn(width, generator=torch.Generator().manual_seed(0)) * 0.3
    moved = project(offset)
    assert moved.dtype == torch.float32

    def add(_module, args, named):
        place = (args[0], *args[1:]) if args else (named["hidden_states"],)
        given = place[0] + offset.repeat(place[0].shape[-1] // width)
        return ((given, *args[1:]), named) if args else (args, {**named, "hidden_states": given})

    handle = any_vlm.family.projector.register_forward_pre_hook(add, with_kwargs=True)
    try:
        expected = any_vlm.encode(images).tokens.features
    finally:
        handle.remove()
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    assert float((moved - encoded.tokens.features).abs().max()) > 0.01


@pytest.mark.parametrize("sizes", [[(300, 90)], [(7, 9)], [(70, 100), (64, 40)]], ids=["wide", "tiny", "two"])
def test_every_signal_has_its_shape(any_vlm: VLM, noise, sizes) -> None:
    needs = frozenset({f"{kind}@{layer}" for kind in KINDS for layer in (0, -1)}) | any_vlm.signals & {
        "question",
        "patch_entropy",
        "pre_projector",
        "projector",
        "scorer",
    }
    encoded = any_vlm.encode([noise(*size, seed=i) for i, size in enumerate(sizes)], needs)
    tokens = any_vlm.tokens(encoded, "What color is the star?", needs)
    n, width = tokens.features.shape
    for name in needs:
        check_signal("test", name, tokens.signal(name), n, width)
        if isinstance(tokens.signal(name), Tensor):
            assert tokens.signal(name).dtype == torch.float32
            assert tokens.signal(name).device.type == "cpu"
    image = torch.tensor([grid.image for grid in tokens.grids for _ in range(grid.count)])
    apart = image[:, None] != image
    assert not tokens.signal("vision_attention_map@-1")[apart].any()
    assert (tokens.signal("vision_attention_map@-1").sum(1) <= 1 + 1e-4).all()


def test_stand_ins_are_named(any_vlm: VLM) -> None:
    has_cls = any_vlm.config.vision_config.model_type in CLS
    assert any_vlm.family.cls == int(has_cls)
    assert ("vision_attention" in any_vlm.notes) != has_cls


def test_in_bfloat16_too_all_signals_come_in_float32(any_vlm: VLM, noise) -> None:
    vlm = load(any_vlm.model_id, dtype="bfloat16")
    needs = frozenset({"projector", "pre_projector", *(f"{kind}@-1" for kind in KINDS)})
    tokens = vlm.encode([noise(102, 102)], needs).tokens
    found = tokens.signal("projector")(torch.zeros(tokens.signal("pre_projector").shape[1]))
    assert float((found - tokens.features).norm() / tokens.features.norm()) < 0.02
    tensors = [tokens.features, *(tokens.signal(name) for name in needs - {"projector"})]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    exact = any_vlm.encode([noise(102, 102)], needs).tokens
    for name in needs - {"projector"}:
        gap = (tokens.signal(name) - exact.signal(name)).norm() / exact.signal(name).norm()
        assert float(gap) < 0.1

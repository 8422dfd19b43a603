"""Families without a file of their own: those that the proof on load lets in work, others are refused with reasons."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.models.deepseek_vl import modeling_deepseek_vl
from transformers.models.siglip import modeling_siglip

from pruning.grids import Grid
from pruning.models import VLM, ConversationCache, ModelError, Turn, load
from pruning.models.checkpoint.processing import Processing
from pruning.models.families.base import Family, Pixels
from pruning.models.proof import adapter
from pruning.models.signals.attention import LayerAttention
from tests.checkpoints import others, tiny_qwen2_vl
from tests.checkpoints.qwen3_vl import tiny_qwen3_5
from tests.helpers import library

SUPPORTED = {
    "aya_vision": others.tiny_aya_vision,
    "deepseek_vl": others.tiny_deepseek_vl,
    "gemma4": others.tiny_gemma4,
    "glm4v": others.tiny_glm4v,
    "qwen3_5": tiny_qwen3_5,
}
QUESTION = "What color is the star?"
Opened = Callable[[str], VLM]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """opened(type) -> a model that passed the proof, loaded once."""

    @cache
    def one(kind: str) -> VLM:
        return load(SUPPORTED[kind](tmp_path_factory.mktemp("models") / kind))

    return one


@pytest.fixture(scope="module")
def deepseek_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return others.tiny_deepseek_vl(tmp_path_factory.mktemp("models") / "deepseek")


# Let in


def test_layers_with_inputs_of_their_own_get_those_of_what_is_left(tmp_path: Path, noise) -> None:
    model, images = load(others.tiny_gemma4(tmp_path / "gemma4", per_layer=8)), [noise(150, 90)]
    encoded = model.encode(images)
    answer = model.answer(encoded, QUESTION, max_new_tokens=6)
    assert list(answer.ids) == library.generate(model, images, QUESTION, 6)
    kept = torch.arange(0, encoded.tokens.n, 3)
    (forced,) = model.logprobs(encoded, QUESTION, answer.ids, [kept])
    assert forced.isfinite().all()
    assert "share keys, inputs or states" in model.no_stages


@pytest.mark.parametrize("kind", SUPPORTED)
def test_an_unknown_family_answers_as_the_library_does(opened: Opened, noise, kind: str) -> None:
    model, images = opened(kind), [noise(150, 90), noise(60, 80, seed=1)]
    assert model.family.title == "generic"
    answer = model.answer(model.encode(images), QUESTION, max_new_tokens=6)
    assert list(answer.ids) == library.generate(model, images, QUESTION, 6)


@pytest.mark.parametrize("kind", SUPPORTED)
def test_a_quarter_of_the_tokens_equals_a_pass_on_embeddings(opened: Opened, noise, kind: str) -> None:
    model = opened(kind)
    encoded = model.encode([noise(150, 90)])
    kept = torch.arange(1, encoded.tokens.n, 4)
    prompt = model.prompt(encoded, QUESTION).keep(kept)
    answer = model.answer(encoded, QUESTION, kept, max_new_tokens=4)
    ids = torch.cat([prompt.input_ids[0], torch.tensor(answer.ids[:-1])])
    embeddings = model.model.get_input_embeddings()(ids)[None].clone()
    embeddings[0, prompt.visual] = encoded.tokens.features[kept]
    following = prompt.positions.max() + torch.arange(1, len(answer.ids))
    positions = torch.cat([prompt.positions, following.expand(*prompt.positions.shape[:-1], -1)], dim=-1)
    with torch.no_grad():
        output = model.model(
            inputs_embeds=embeddings, position_ids=positions, attention_mask=torch.ones(1, len(ids)), use_cache=False
        )
    expected = output.logits[0, prompt.n - 1 :].log_softmax(-1)
    assert expected.argmax(-1).tolist() == list(answer.ids)
    (found,) = model.logprobs(encoded, QUESTION, answer.ids, [kept])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_signals_are_offered_as_far_as_the_tower_is_understood(opened: Opened, noise) -> None:
    inside = {"vision_attention@-1", "vision_attention_map@-1", "vision_keys@-1", "vision_values@-1"}
    around = {"pre_projector", "projector"}
    for kind, known in (("deepseek_vl", inside | around), ("qwen3_5", inside | around), ("glm4v", inside)):
        model = opened(kind)
        assert {name for name in inside | around if name in model.signals} == known
        tokens = model.encode([noise(100, 70)], frozenset(known)).tokens
        assert all(len(tokens.signal(name)) == tokens.n for name in known - {"projector"})


def test_padding_is_no_part_of_any_rectangle(opened: Opened, noise) -> None:
    encoded = opened("deepseek_vl").encode([noise(120, 60)])
    assert encoded.tokens.n == 64
    empty = encoded.rects[:, 3] - encoded.rects[:, 1] < 1e-3
    assert empty.tolist() == [row in (0, 1, 6, 7) for row in range(8) for _ in range(8)]


def test_sizes_that_the_processor_tells_give_the_grids() -> None:
    """As Pixtral's does, which needs a package that may be absent here: stand-ins for its model and its output."""
    vision = SimpleNamespace(patch_size=14)
    config = SimpleNamespace(model_type="mistral3", spatial_merge_size=2, vision_config=vision)
    family = Family(SimpleNamespace(config=config), SimpleNamespace(image_processor=SimpleNamespace(), asked={}))
    inputs = {"pixel_values": torch.zeros(2, 3, 56, 84), "image_sizes": torch.tensor([[56, 84], [28, 56]])}
    grids, places = family.layout(Pixels(inputs, ((300, 200), (100, 50)), ("", ""), (6, 2)))
    assert grids == (Grid(1, 2, 3), Grid(1, 1, 2, start=6, image=1))
    assert places is None
    (unknown, known), _ = family.layout(Pixels(inputs, ((300, 200), (100, 50)), ("", ""), (5, 2)))
    assert (unknown, known) == (Grid(1, 1, 5, placed=False), Grid(1, 1, 2, start=5, image=1))


def test_a_state_that_cannot_be_rolled_back_is_not(opened: Opened, noise) -> None:
    model, memory = opened("qwen3_5"), ConversationCache()
    encoded = model.encode([noise(150, 90)])
    first = model.answer(encoded, QUESTION, memory=memory, max_new_tokens=3)
    assert memory.nbytes > 0
    for said in (first.text, "red circle"):
        history = [Turn(QUESTION, said)]
        fresh = model.answer(encoded, "how many", history=history, max_new_tokens=4)
        assert model.answer(encoded, "how many", history=history, memory=memory, max_new_tokens=4).ids == fresh.ids


def test_the_proof_leaves_no_hook(opened: Opened) -> None:
    modules = list(opened("deepseek_vl").model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_known_families_are_not_put_to_the_proof(tmp_path: Path, monkeypatch) -> None:
    def refuse(_vlm: VLM) -> None:
        raise ModelError("asked")

    monkeypatch.setattr("pruning.models.loading.prove", refuse)
    load(tiny_qwen2_vl(tmp_path / "known"))
    with pytest.raises(ModelError, match="asked"):
        load(others.tiny_glm4v(tmp_path / "unknown"))


# Refused


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (others.tiny_idefics2, "does not tell what stands for an image"),
        pytest.param(
            others.tiny_mistral3,
            r"requires the Torchvision library.*: pip install torch==[\d.]+ torchvision, or choose",
            marks=pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed"),
        ),
    ],
)
def test_families_that_cannot_be_pruned(tmp_path: Path, save: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        load(save(tmp_path / "model"))
    assert str(tmp_path) in str(caught.value)
    assert "choose a model of another family" in str(caught.value)


def sabotage(owner: object, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    """Call a method's result through `change` from now on; what comes back undoes that."""
    plain = getattr(owner, name)
    setattr(owner, name, lambda *args, **named: change(plain(*args, **named)))
    return lambda: setattr(owner, name, plain)


@pytest.mark.parametrize(
    ("owner", "name", "change", "reason"),
    [
        (Family, "positions", lambda x: x * 3, "log-probabilities differ by"),
        (Processing, "ids", lambda x: [*x, 1], "another prompt than ours"),
        (modeling_deepseek_vl.DeepseekVLModel, "get_placeholder_mask", lambda x: x.absent, "a trial .* fails"),
    ],
    ids=["positions", "prompt", "broken"],
)
def test_what_does_not_hold_is_measured(deepseek_folder: Path, owner, name: str, change, reason: str) -> None:
    undo = sabotage(owner, name, change)
    try:
        with pytest.raises(ModelError, match=f"models of type deepseek_vl are not supported because .*{reason}"):
            load(deepseek_folder)
    finally:
        undo()
    load(deepseek_folder)


@pytest.mark.parametrize(
    ("owner", "change"),
    [
        (modeling_deepseek_vl.DeepseekVLAligner, lambda x: x.roll(1, 1)),
        (modeling_deepseek_vl.DeepseekVLAligner, lambda x: x.cumsum(1)),
        (modeling_siglip.SiglipVisionEmbeddings, lambda x: x.flip(1)),
    ],
    ids=["shifted", "mixed", "flipped"],
)
def test_tokens_that_do_not_follow_their_pixels_are_not_placed(deepseek_folder: Path, noise, owner, change) -> None:
    undo = sabotage(owner, "forward", change)
    try:
        model = load(deepseek_folder)
        encoded = model.encode([noise(120, 60), noise(40, 40)])
    finally:
        undo()
    assert encoded.tokens.grids == (Grid(1, 1, 64, placed=False), Grid(1, 1, 64, 64, 1, placed=False))
    assert not encoded.rects.any()
    assert model.signals == {"question"}


def test_attention_that_is_not_the_layer_s_own_is_not_offered(deepseek_folder: Path, monkeypatch, noise) -> None:
    plain = LayerAttention.output
    monkeypatch.setattr(LayerAttention, "output", lambda self: plain(self) * 1.2)
    model = load(deepseek_folder)
    assert model.signals == {"question", "patch_entropy"}
    assert model.encode([noise(60, 60)]).tokens.n == 64
    assert "vision_attention" not in model.notes


@pytest.mark.parametrize(("shift", "placed"), [(0, True), (20, False)])
def test_without_known_attention_features_must_follow_the_pixels(
    deepseek_folder: Path, monkeypatch, shift: int, placed: bool
) -> None:
    monkeypatch.setattr(Family, "tower", torch.nn.Module())
    undo = sabotage(modeling_deepseek_vl.DeepseekVLAligner, "forward", lambda x: x.roll(shift, 1))
    try:
        model = load(deepseek_folder)
        assert model.signals == {"question"} | ({"patch_entropy"} if placed else set())
        assert model.family.placed == placed
    finally:
        undo()


def test_encoder_decoders_are_refused(opened: Opened, monkeypatch) -> None:
    model = opened("deepseek_vl")
    monkeypatch.setattr(model.config, "is_encoder_decoder", True, raising=False)
    with pytest.raises(ModelError, match="encoder-decoders"):
        adapter.prove(model)

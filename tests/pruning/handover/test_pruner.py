"""`Pruner` beside the plain model library: its own loop on our inputs, token for token against our own."""

import copy
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

import pruning
from pruning import Pruner, make
from pruning.models import VLM, ModelError, Turn, load
from pruning.plan import parse_plan
from pruning.staged import make_staged
from tests.checkpoints import tiny_llava, tiny_qwen2_vl
from tests.helpers import documents, library
from tests.helpers.clips import moving

QUESTION, OTHER = "What color is the star?", "how many red circle on the left?"
TOKENS = 6


@pytest.fixture
def vlm(any_vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> VLM:
    """Every family in turn, none of which ends its answers by itself."""
    monkeypatch.setattr(any_vlm.model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(any_vlm.config.get_text_config(), "eos_token_id", None)
    return any_vlm


@pytest.fixture
def one(tiny, monkeypatch: pytest.MonkeyPatch) -> VLM:
    """One family whose positions have one axis."""
    found = tiny("internvl")
    monkeypatch.setattr(found.model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(found.config.get_text_config(), "eos_token_id", None)
    return found


def pruner(vlm: VLM, method="divprune", retention=0.4, **more) -> Pruner:
    return Pruner(vlm.model, vlm.family.processing.processor, method, retention, **more)


def generated(vlm: VLM, inputs, **options) -> list[list[int]]:
    out = vlm.model.generate(**inputs, **{"do_sample": False, "max_new_tokens": TOKENS} | options)
    return out[:, inputs.prompt_length :].tolist()


def ours(vlm: VLM, images, question, indices, history=()) -> list[int]:
    encoded = vlm.encode(images)
    return list(vlm.answer(encoded, question, indices, history=history, max_new_tokens=TOKENS).ids)


def left_on(model) -> tuple:
    hooks = [(name, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()]
    attributes = [(name, sorted(vars(m))) for name, m in model.named_modules()]
    configs = model.config.to_dict(), model.generation_config.to_dict()
    return hooks, attributes, copy.deepcopy(configs), getattr(model.model, "rope_deltas", None)


def test_the_librarys_loop_says_what_ours_says_turn_after_turn(vlm: VLM, noise) -> None:
    images, make_inputs, history = [noise(150, 90), noise(64, 40, 1)], pruner(vlm), ()
    make_inputs(images, QUESTION)  # some families' towers get hooks of the library at their first pass
    before, weights = left_on(vlm.model), {k: v.clone() for k, v in vlm.model.state_dict().items()}
    for question in (QUESTION, OTHER):
        inputs = make_inputs(images, question, history)
        (indices,) = inputs.indices
        assert 0 < len(indices) < inputs.counts[0]
        said = ours(vlm, images, question, indices, history)
        with make_inputs.stages(inputs):  # which only windows need
            assert generated(vlm, inputs) == [said]
        history = (*history, Turn(question, vlm.tokenizer.decode(said, skip_special_tokens=True).strip()))
    assert left_on(vlm.model) == before
    assert all(torch.equal(v, weights[k]) for k, v in vlm.model.state_dict().items())


def test_all_tokens_are_what_plain_generate_gets(vlm: VLM, noise) -> None:
    images = [noise(150, 90)]
    assert generated(vlm, pruner(vlm, retention=1.0)(images, QUESTION)) == [
        library.generate(vlm, images, QUESTION, TOKENS)
    ]


def test_batches_beams_and_passes_without_a_cache(vlm: VLM, noise) -> None:
    samples = [[noise(150, 90)], [noise(70, 100, 1), noise(64, 40, 2)]]
    make_inputs = pruner(vlm)
    both = make_inputs(samples, [QUESTION, OTHER])
    said = [ours(vlm, *sample) for sample in zip(samples, (QUESTION, OTHER), both.indices, strict=True)]
    alone = [make_inputs(*sample) for sample in zip(samples, (QUESTION, OTHER), strict=True)]
    beams = []
    for each in alone:
        with make_inputs.stages(each):
            beams += generated(vlm, each, num_beams=2)
    with make_inputs.stages(both):  # which only windows need
        assert generated(vlm, both) == said
        assert generated(vlm, both, num_beams=2) == beams
        assert generated(vlm, both) == said, "beams changed the inputs"
    if vlm.config.model_type != "gemma3":  # whose masks the library makes from the cache
        assert generated(vlm, alone[0], use_cache=False) == said[:1]


def test_windows_are_kept_in_place_or_it_says_so(tiny, noise) -> None:
    found = tiny("gemma3")
    make_inputs = pruner(found)
    with pytest.raises(ModelError, match=r"need this model.s windows kept in place: call model\.generate inside"):
        generated(found, make_inputs([noise(150, 90)], QUESTION))
    assert generated(found, pruner(found, retention=1.0)([noise(150, 90)], QUESTION))


def test_sampling_streamers_and_drafts(one: VLM, noise) -> None:
    inputs = pruner(one)([noise(150, 90)], QUESTION)
    (greedy,) = generated(one, inputs)
    torch.manual_seed(0)
    many = generated(one, inputs, do_sample=True, temperature=5.0, num_return_sequences=4)
    assert len(many) == 4
    assert len({tuple(each) for each in many}) > 1
    assert generated(one, inputs, do_sample=True, top_k=1) == [greedy]
    assert generated(one, inputs, prompt_lookup_num_tokens=2) == [greedy]
    assert generated(one, inputs, assistant_model=copy.deepcopy(one.model)) == [greedy]
    streamed: list[int] = []

    class Streamer:
        def put(self, value) -> None:
            streamed.extend(value.flatten().tolist())

        def end(self) -> None: ...

    generated(one, inputs, streamer=Streamer())
    assert streamed[inputs.prompt_length :] == greedy


@pytest.mark.parametrize(("name", "knobs"), [("fastv", {}), ("pyramiddrop", {"variant": "code"})])
def test_tokens_leave_between_layers_as_in_our_own_loop(vlm: VLM, noise, name: str, knobs: dict[str, str]) -> None:
    """Also where what stays is numbered anew."""
    plan = parse_plan(f"pre:divprune:0.6,1:{name}:0.5", staged=lambda name: make_staged(name, **knobs))
    samples = [[noise(150, 90)], [noise(70, 100, 1), noise(64, 40, 2)]]
    make_inputs = pruner(vlm, plan, None)
    both = make_inputs(samples, [QUESTION, OTHER])
    before = left_on(vlm.model)
    answers = [
        vlm.answer(vlm.encode(images, frozenset()), question, plan, max_new_tokens=TOKENS)
        for images, question in zip(samples, (QUESTION, OTHER), strict=True)
    ]
    with make_inputs.stages(both) as stages:
        assert generated(vlm, both) == [list(answer.ids) for answer in answers]
    assert [trace.alive for trace in stages.traces] == [answer.trace.alive for answer in answers]
    alone = make_inputs(samples[0], QUESTION)
    with make_inputs.stages(alone):
        beams = generated(vlm, alone, num_beams=2)
        assert generated(vlm, alone) == [list(answers[0].ids)]
    with make_inputs.stages(both):
        assert generated(vlm, both, num_beams=2)[:1] == beams
    assert left_on(vlm.model) == before


def test_stages_serve_every_thread_leave_others_alone_and_are_undone(one: VLM, noise) -> None:
    plan, images = parse_plan("1:fastv:0.3"), [noise(150, 90)]
    make_inputs, plain = pruner(one, plan, None), pruner(one, retention=1.0)(images, QUESTION)
    full = generated(one, plain)
    generated(one, plain, cache_implementation="static")  # for which the library keeps something on the model
    inputs, before = make_inputs(images, QUESTION), left_on(one.model)
    expected = [list(one.answer(one.encode(images), QUESTION, plan, max_new_tokens=TOKENS).ids)]
    with pytest.raises(ModelError, match=r"inside `with pruner\.stages"):
        generated(one, inputs)
    found: dict[int, object] = {}
    draft = copy.deepcopy(one.model)
    with make_inputs.stages(inputs):
        work = [
            threading.Thread(target=lambda at=at, given=given: found.update({at: generated(one, given)}))
            for at, given in enumerate([inputs, plain, plain])
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert [found[at] for at in range(3)] == [expected, full, full]
        with pytest.raises(ModelError, match="already"), make_inputs.stages(inputs):
            pass
    for options, reason in (
        ({"use_cache": False}, "use_cache=False"),
        ({"assistant_model": draft}, "Leave out assisted decoding"),
        ({"cache_implementation": "static"}, "static cache"),
    ):
        with pytest.raises(ModelError, match=reason), make_inputs.stages(inputs):
            generated(one, inputs, **options)
    with pytest.raises(RuntimeError, match="mine"), make_inputs.stages(inputs):
        raise RuntimeError("mine")
    assert left_on(one.model) == before


def test_several_threads_share_a_pruner_and_its_model(tiny, noise) -> None:
    vlm = tiny("qwen2.5-vl")
    make_inputs = pruner(vlm, "cdpruner"), pruner(vlm, "visionzip")
    images = [noise(150 + 30 * i, 90, i) for i in range(4)]
    expected = [[each(image, QUESTION).indices[0].tolist() for each in make_inputs] for image in images]
    found: dict[int, list] = {}

    def work(at: int) -> None:
        found[at] = [each(images[at], QUESTION).indices[0].tolist() for each in make_inputs]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[at] for at in range(4)] == expected


def test_another_encoding_and_a_budget_per_image(tiny, noise) -> None:
    vlm, images = tiny("qwen2-vl"), [noise(224, 168), noise(168, 224, 1)]
    fewer = pruner(vlm, "lower_resolution", 0.5)(images, QUESTION)
    assert 0 < fewer.counts[0] <= vlm.encode(images).tokens.n / 2
    (indices,) = pruner(vlm, per="image")(images, QUESTION).indices
    halves = [int((indices < 48).sum()), int((indices >= 48).sum())]
    assert halves[0] == halves[1] == round(0.4 * 48)


def test_the_scorer_beside_the_checkpoint_is_found_or_the_next_source_is_named(tiny, tmp_path, noise) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pruner(tiny("qwen2.5-vl"), "idpruner")
    assert found.method.importance == "scorer"
    with pytest.warns(UserWarning, match=r"no trained importance scorer: idpruner takes importance from vision_attent"):
        other = pruner(load(tiny_qwen2_vl(tmp_path / "plain")), "idpruner")
    assert other.method.importance == "vision_attention"
    with pytest.raises(ValueError, match="needs a trained importance scorer"):
        pruner(tiny("qwen2-vl"), make("idpruner", importance="scorer"))


def test_models_that_cannot_be_taken_as_they_are(tiny) -> None:
    processor = tiny("qwen2-vl").family.processing.processor
    model = copy.deepcopy(tiny("qwen2-vl").model)

    def refused(match: str, model=model) -> None:
        with pytest.raises(ModelError, match=match):
            Pruner(model, processor, "divprune")

    model.train()
    refused(r"training mode.*model\.eval\(\)")
    model.eval()
    handle = model.lm_head.register_forward_hook(lambda *given: None)
    refused("the module lm_head has a forward hook already")
    handle.remove()
    assert Pruner(model, processor, "divprune").vlm.model is model
    refused("compiled", torch.compile(model))
    refused("is a Linear, not a model of the transformers library", torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="has no tokenizer: hand over what AutoProcessor"):
        Pruner(model, processor.tokenizer, "divprune")
    model.lm_head.forward = model.lm_head.forward
    refused("the forward of the module lm_head has been replaced")
    del model.lm_head.forward
    model.lm_head.weight = torch.nn.Parameter(torch.empty(3, 3, device="meta"))
    refused("weights are on cpu and meta")


def test_bad_input_says_what_to_change(tiny, noise) -> None:
    vlm = tiny("qwen2-vl")
    make_inputs, image = pruner(vlm), noise(150, 90)
    for images, question, reason in (
        ([], QUESTION, "at least one image"),
        (np.zeros((4, 4)), QUESTION, "image 1 is a ndarray: open it with Pillow"),
        (image, "what is <|image_pad|>?", "control token"),
        (image, "", "question"),
        ([image], [QUESTION, OTHER], "2 questions need as many entries"),
        ([], [], "no question"),
    ):
        with pytest.raises(ValueError, match=reason):
            make_inputs(images, question)
    for options, reason in (({"retention": 0}, "retention"), ({"retention": None}, "retention"), ({"per": "x"}, "per")):
        with pytest.raises(ValueError, match=reason):
            pruner(vlm, **options)
    inputs = make_inputs(image, QUESTION)
    for name in ("inputs_embeds", "cache"):
        with pytest.raises(TypeError, match=f"multiple values for keyword argument '{name}'"):
            vlm.model.generate(**inputs, **{name: object()})


def test_the_name_costs_nothing_until_it_is_used() -> None:
    code = "import sys, pruning; print('torch' in sys.modules); pruning.Pruner; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "True"]
    assert pruning.Pruner is Pruner


def test_the_documents_examples_run(tmp_path, monkeypatch, capsys, noise) -> None:
    folder = tiny_llava(tmp_path / "model")
    noise(150, 90).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in documents.blocks("docs/handover.md", "python"):
        exec(block.replace("Qwen/Qwen2.5-VL-3B-Instruct", str(folder)), scope)
    _, kept, alive = capsys.readouterr().out.splitlines()
    assert kept == "6 of 25 visual tokens"
    assert alive == "(15, 8)"


FILMED = ["qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-onevision", "llava-next-video", "internvl", "smolvlm"]


@pytest.fixture(params=FILMED)
def filmed(request, tiny, monkeypatch: pytest.MonkeyPatch) -> VLM:
    """Every family that takes clips."""
    found = tiny(request.param)
    monkeypatch.setattr(found.model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(found.config.get_text_config(), "eos_token_id", None)
    return found


def test_clips_are_handed_over_beside_pictures(filmed: VLM, noise) -> None:
    clip, picture = moving(4, (100, 100)), noise(90, 60)
    make_inputs = pruner(filmed, "random", 0.5)
    for images in (clip, [picture, clip]):
        inputs = make_inputs(images, QUESTION)
        media = images if isinstance(images, list) else [images]
        assert generated(filmed, inputs) == [ours(filmed, media, QUESTION, inputs.indices[0])]
    both = make_inputs([[picture], [picture, clip]], [OTHER, QUESTION])
    said = [generated(filmed, make_inputs(images, question))[0]
            for images, question in (([picture], OTHER), ([picture, clip], QUESTION))]  # fmt: skip
    assert generated(filmed, both) == said
    beams = [generated(filmed, make_inputs(images, question), num_beams=2)[0]
             for images, question in (([picture], OTHER), ([picture, clip], QUESTION))]  # fmt: skip
    assert generated(filmed, both, num_beams=2) == beams


def test_tokens_of_clips_leave_between_layers_in_the_librarys_loop(filmed: VLM) -> None:
    clip, plan = moving(4, (100, 100)), parse_plan("pre:random:0.6,1:fastv:0.5")
    make_inputs = pruner(filmed, plan, None)
    inputs = make_inputs(clip, QUESTION)
    answer = filmed.answer(filmed.encode([clip], frozenset()), QUESTION, plan, max_new_tokens=TOKENS)
    with make_inputs.stages(inputs):
        assert generated(filmed, inputs) == [list(answer.ids)]

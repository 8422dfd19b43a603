"""Loading: what is refused and with which words, options, progress, and memory that runs out."""

import json
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.models import SHIPPED, ModelError, Turn, limit_threads, load
from pruning.models.checkpoint import sources
from pruning.models.checkpoint.damage import reading
from pruning.models.checkpoint.devices import choose_device, choose_dtype
from pruning.models.checkpoint.footprint import readable
from pruning.models.checkpoint.prequantized import GPU_ONLY
from pruning.models.language.generation import stop_ids

ATTENTION = "vision_attention@-1"


def copy(folder: Path, target: Path, *leave_out: str) -> Path:
    return Path(shutil.copytree(folder, target / "copy", ignore=shutil.ignore_patterns(*leave_out)))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shard(folder: Path, count: int = 3) -> list[str]:
    """Cut the folder's one file of weights into `count`, with their index; returns their names."""
    weights, files = load_file(folder / "model.safetensors"), []
    names = sorted(weights)
    for i in range(count):
        files.append(f"model-{i + 1:05d}-of-{count:05d}.safetensors")
        save_file({name: weights[name] for name in names[i::count]}, folder / files[-1], {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[i % count] for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return files


# What is loaded


def test_loaded_model_is_ready_and_frozen(any_vlm) -> None:
    assert any_vlm.dtype == torch.float32
    assert not any_vlm.model.training
    assert not any(p.requires_grad for p in any_vlm.model.parameters())
    any_vlm.warmup()


def test_the_shipped_model_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = load("scenes")
    assert (vlm.model_id, vlm.title) == (str(SHIPPED), "scenes-vlm")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    with pytest.raises(ModelError, match=r"config\.json"):  # a folder of that name is meant then
        load("scenes")


def test_import_is_light() -> None:
    code = "import sys, pruning.models; sys.exit('transformers' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_device_and_dtype_choice() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cuda", "mps", "cpu")
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(ValueError, match=r"'tpu9'.*auto, cpu"):
        choose_device("tpu9")
    with pytest.raises(ValueError, match="'cuda:99' is not available"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match=r"'int8'.*float32"):
        choose_dtype("int8", torch.device("cpu"))


def test_threads_are_limited_for_small_models_only(tiny_vlm, monkeypatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    limit_threads(tiny_vlm)
    assert given == [1]
    monkeypatch.setattr("pruning.models.loading.SMALL", 1000)
    limit_threads(tiny_vlm)
    assert given == [1]


def test_bfloat16_answers_too(tiny_folder: Path, noise) -> None:
    vlm = load(tiny_folder, dtype="bfloat16")
    encoded = vlm.encode([noise(90, 60)], frozenset({"scorer", ATTENTION}))
    assert encoded.tokens.features.dtype == torch.float32
    assert vlm.answer(encoded, "what", torch.tensor([0, 2]), max_new_tokens=2).ids


def test_attention_kernel_and_device_map_change_nothing_but_rounding(tiny_folder: Path, tiny_vlm, noise) -> None:
    plain = tiny_vlm.encode([noise(90, 60)])
    expected = tiny_vlm.answer(plain, "what color", max_new_tokens=4).ids
    eager = load(tiny_folder, attention="eager")
    spread = load(tiny_folder, device_map="auto")
    assert (eager.config._attn_implementation, spread.config._attn_implementation) == ("eager", "sdpa")
    for vlm in (eager, spread):
        encoded = vlm.encode([noise(90, 60)])
        torch.testing.assert_close(encoded.tokens.features, plain.tokens.features, rtol=1e-4, atol=1e-4)
        assert vlm.answer(encoded, "what color", max_new_tokens=4).ids == expected


def test_shards_load_like_one_file(tiny_folder: Path, tiny_vlm, tmp_path: Path, noise) -> None:
    folder = copy(tiny_folder, tmp_path)
    shard(folder)
    vlm = load(folder)
    assert "scorer" in vlm.signals
    expected = tiny_vlm.encode([noise(90, 60)]).tokens.features
    torch.testing.assert_close(vlm.encode([noise(90, 60)]).tokens.features, expected, rtol=0, atol=0)


def test_progress_tells_stage_and_share(tiny_folder: Path) -> None:
    said: list[tuple[str, float | None]] = []
    load(tiny_folder, progress=lambda stage, share: said.append((stage, share)))
    assert {stage for stage, _ in said} == {f"loading {tiny_folder.name}"}
    shares = [share for _, share in said if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 10
    from transformers.utils import logging

    assert logging.set_tqdm_hook(None) is None  # the library's own bars are as they were


# What it is called


@pytest.fixture
def cached(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint as the hub's cache holds it."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "models--maker--tiny-vl" / "snapshots" / "0f3a9c"))


def test_a_checkpoint_is_called_what_people_call_it(cached: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "qwen").symlink_to(cached)
    (tmp_path / "mine").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "mine")
    (tmp_path / "run" / "snapshots" / "0f").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    names = {
        ".": "mine", "./": "mine", "..": tmp_path.name, "../mine/": "mine", "../run/..": tmp_path.name,
        "~/mine": "mine", "../latest": "latest", "../qwen": "maker/tiny-vl", str(cached): "maker/tiny-vl",
        "../run/snapshots/0f": "run", "/": "/",
    }  # fmt: skip
    assert {given: sources.known_name(Path(given).expanduser()) for given in names} == names
    assert sources.known_name("maker/tiny-vl") == "maker/tiny-vl"


def test_the_title_is_the_name_people_know(cached: Path, monkeypatch) -> None:
    from app.model_pool.loader import listed

    monkeypatch.chdir(cached)
    assert load(".").title == "tiny-vl"  # as if it were named by its hub id
    (entry,) = listed(["."], lambda preset: False)
    assert (entry.name, entry.title, entry.model_id) == ("maker/tiny-vl", "tiny-vl", ".")


# What is refused


@pytest.mark.parametrize("model_id", ["no such model", "./absent/folder", Path("a/b")])
def test_unknown_ids_are_named(model_id: str | Path) -> None:
    with pytest.raises(ModelError, match="neither a folder") as caught:
        load(model_id)
    assert str(model_id) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["模型/模型", "Qwen/--x", "a/b..c", "a/b-", "a/b.git", "a/b/c", "-a/b", "a/" + "b" * 97]
)
def test_ids_that_the_hub_forbids_are_a_matter_of_spelling(name: str, tiny_folder: Path) -> None:
    for attempt in (lambda: load(name), lambda: load(tiny_folder, scorer=name)):
        with pytest.raises(ModelError, match=r"nor a hub id such as .* OWNER/NAME in plain .*check the spelling"):
            attempt()


def test_folders_that_are_no_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(ModelError, match="is a file"):
        load(tiny_folder / "config.json")
    with pytest.raises(ModelError, match="no weights"):
        load(copy(tiny_folder, tmp_path, "model.safetensors"))


def test_missing_shards_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    files = shard(folder)
    (folder / files[1]).unlink()
    with pytest.raises(ModelError, match=f"1 of 3 files of weights are missing: {files[1]}"):
        load(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="the index of its weights, cannot be read"):
        load(folder)


def test_damaged_checkpoints(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors, a file of its weights, cannot be read"):
        load(folder)
    weights.write_bytes(whole)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = 3
    settings["text_config"].pop("layer_types", None)
    edit(folder / "config.json", text_config=settings["text_config"])
    with pytest.raises(ModelError, match="tensors are missing"):
        load(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json, its configuration, cannot be read"):
        load(folder)


VERSIONS = r"transformers \d[\w.]+ and tokenizers \d[\w.]+"


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json",
        "generation_config.json", "model.safetensors.index.json",
    ],
)  # fmt: skip
def test_files_that_hold_something_else_are_named(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    if name.endswith("index.json"):
        shard(folder)
    for held in (b"[]", b"null", b'{"a": ', b"\xff\xfe{", b'{"a":' + b"[" * 100_000):
        (folder / name).write_bytes(held)
        with pytest.raises(
            ModelError, match=rf"{re.escape(name)}, (its|the index of its) .*cannot be read \(.*read by {VERSIONS}\)"
        ) as said:
            load(folder)
        assert "download the checkpoint again" in str(said.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokenizer.json", {"normalizer": {"type": "FutureNormalizer"}}),
        ("tokenizer.json", {"model": None}),
        ("tokenizer_config.json", {"added_tokens_decoder": 5}),
        ("preprocessor_config.json", {"patch_size": "x"}),
        ("preprocessor_config.json", {"size": []}),
        ("config.json", {"text_config": []}),
        ("config.json", {"vision_config": 7}),
    ],
)
def test_files_that_newer_versions_might_read_say_so(
    name: str, changes: dict[str, object], tiny_folder: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_folder, tmp_path)
    edit(folder / "config.json", transformers_version="99.1")
    edit(folder / name, **changes)
    with pytest.raises(
        ModelError, match=f"{name}.*read by {VERSIONS}, saved by transformers 99.1.*pip install --upgrade"
    ):
        load(folder)


def test_a_template_that_is_no_text_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "chat_template.jinja").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ModelError, match=r"chat_template\.jinja, its processor, cannot be read \('utf-8' codec"):
        load(folder)


def test_what_panics_is_told_and_what_stops_the_program_does() -> None:
    panic = type("PanicException", (BaseException,), {})
    with (
        pytest.raises(ModelError, match=r"here: its tokenizer cannot be read \(index out of range\)"),
        reading("here", "its tokenizer", ()),
    ):
        raise panic("index out of range")
    for error in (KeyboardInterrupt, MemoryError, SystemExit):
        with pytest.raises(error), reading("here", "its tokenizer", ()):
            raise error


# Weights and configuration that do not belong together


def reweigh(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Put tensors into the folder's weights, or take them out (None). Names: `__` for a dot."""
    held = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        held.pop(name.replace("__", "."), None)
        if tensor is not None:
            held[name.replace("__", ".")] = tensor
    save_file(held, folder / "model.safetensors", {"format": "pt"})


EMBEDDINGS, PROJECTION = "model__embed_tokens__weight", "model__layers__0__self_attn__q_proj__weight"


def test_sizes_that_differ_are_given_both(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder / "config.json", text_config={**text, "vocab_size": text["vocab_size"] + 7})
    rows = text["vocab_size"]
    with pytest.raises(
        ModelError, match=rf"embed_tokens\.weight.*{rows}×48 in the weights, {rows + 7}×48 by the conf"
    ) as said:
        load(folder)
    assert "both from the same release" in str(said.value)
    assert "ignore_mismatched" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "tensor", "shown"),
    [
        (PROJECTION, torch.zeros(1152, 1, dtype=torch.uint8), "U8 of 1152×1"),
        (PROJECTION, torch.zeros(48, 48, dtype=torch.int8), "I8 of 48×48"),
        (PROJECTION, torch.zeros(48, 48).to(torch.float8_e4m3fn), "F8_E4M3 of 48×48"),
        (PROJECTION.replace("__weight", "__qweight"), torch.zeros(6, 48, dtype=torch.int32), "I32 of 6×48"),
        (PROJECTION + "_packed", torch.zeros(48, 6, dtype=torch.int32), "I32 of 48×6"),
    ],
    ids=["4bit", "int8", "fp8", "gptq", "compressed"],
)
def test_packed_weights_of_which_nobody_says_how(
    name: str, tensor: torch.Tensor, shown: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_folder, tmp_path)
    reweigh(folder, **{PROJECTION: None, name: tensor})
    with pytest.raises(ModelError, match=rf"its weights are quantised \(.* is {shown}\).* no quantization_config"):
        load(folder)


def test_a_configuration_of_a_far_larger_model_takes_no_memory(tiny_folder: Path, tmp_path: Path, monkeypatch) -> None:
    folder = copy(tiny_folder, tmp_path)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder / "config.json", text_config={**text, "vocab_size": 10**9})
    monkeypatch.setattr(
        "transformers.AutoModelForImageTextToText.from_pretrained", lambda *v, **n: pytest.fail("built")
    )
    with pytest.raises(
        ModelError, match=r"by config\.json the model has 48,000,.* parameters, but the weights hold \d+,\d+"
    ):
        load(folder)


def test_tensors_that_nothing_takes_are_told(tiny_folder: Path, tmp_path: Path, caplog) -> None:
    folder = copy(tiny_folder, tmp_path)
    reweigh(folder, model__extra_head__weight=torch.zeros(2, 2))
    load(folder)
    assert f"{folder}: 1 tensors are not used by the model, model.language_model.extra_head.weight" in caplog.text
    caplog.clear()
    reweigh(folder, model__extra_head__weight=None, model__importance_scorer__q_proj__weight=torch.zeros(2, 2))
    (folder / "scorer.safetensors").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="is no scorer for this model"):
        load(folder)


# Checkpoints that come quantised


@pytest.mark.parametrize("method", GPU_ONLY)
def test_a_quantisation_for_gpus_alone_is_not_a_missing_package(method: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    edit(folder / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(
        ModelError, match=f"quantised with {method}, which runs on a GPU only, not on cpu: take device cuda"
    ) as said:
        load(folder, device="cpu")
    assert "install" not in str(said.value)


@pytest.mark.parametrize(
    ("how", "options", "reason"),
    [
        ({"quant_method": "paroquant"}, {}, "quantised with paroquant, which the model library does not know: update"),
        ({"quant_method": "awq"}, {}, r"cannot run here \(.*pip install gptqmodel.*\): install it, or choose"),
        ({"quant_method": "nonsense", "load_in_8bit": True}, {}, "bitsandbytes_8bit, which cannot run here"),
        (
            {"quant_method": "fp8"},
            {"quantization": "4bit"},
            r"comes quantised already \(fp8\): leave quantization at none",
        ),
    ],
    ids=["unknown", "package", "flag", "twice"],
)
def test_a_quantisation_that_cannot_run_here(
    how: dict[str, object], options: dict[str, str], reason: str, tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("pruning.models.loading.check_packages", lambda *values: None)
    folder = copy(tiny_folder, tmp_path)
    edit(folder / "config.json", quantization_config=how)
    with pytest.raises(ModelError, match=reason):
        load(folder, device="cpu", **options)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "qwen2"}, "text-only"),
        ({"model_type": "blip"}, "mm_encoder_outputs"),
        ({"model_type": "their_own", "auto_map": {"AutoConfig": "theirs.Config"}}, "code from its own repository"),
    ],
    ids=["text-only", "closed", "own-code"],
)
def test_models_of_other_kinds(settings: dict[str, Any], reason: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(ModelError, match=reason) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


LIST = "{% for m in messages %}{{ m['role'] }}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (f"{LIST}\n{{{{ m['content'] ", r"TemplateSyntaxError: .*; line 2: {{ m\['content'\]"),
        (f"{LIST}\n  {{{{ raise_exception('no system role') }}}}{{% endfor %}}",
         r"TemplateError: no system role; line 2: {{ raise_exception\('no system role'\) }}{% endfor %}\)"),
        (f"{LIST}{{{{ '<user>' + m['content'] }}}}{{% endfor %}}", "TypeError: .*line 1: .*for text alone do not fit"),
        ("a\n\n{{ strftime_now2('%d') }}", "UndefinedError: 'strftime_now2' is undefined; line 3: {{ strftime_now2"),
        ("{{ 1 // 0 }}" + "x" * 500, "ZeroDivisionError: .*line 1: {{ 1 // 0 }}x+…"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        (f"{LIST}{{{{ m['content'] }}}}{{% endfor %}}", r"writes 0 image tokens '<\|image_pad\|>' for 1 pictures"),
        ("<|image_pad|><|image_pad|>", "writes 2 image tokens"),
        ("<|image_pad|>", "leaves out the question"),
        ({"rag": "a", "tool_use": "b"}, "must be one text or named 'default', not templates by the names 'rag', 'tool"),
    ],
    ids=["syntax", "raises", "text-only", "undefined", "long", "unsafe", "no-image", "twice", "no-question", "names"],
)  # fmt: skip
def test_chat_templates_are_tried_when_a_model_is_loaded(
    template: str | dict[str, str], reason: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_folder, tmp_path, "chat_template.jinja")
    if isinstance(template, str):
        (folder / "chat_template.jinja").write_text(template)
    else:
        listed = [{"name": name, "template": text} for name, text in template.items()]
        edit(folder / "tokenizer_config.json", chat_template=listed)
    with pytest.raises(ModelError, match=reason) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: the chat template")


@pytest.mark.parametrize("given", [None, 7, ["a"], b"<|image_pad|>"])
def test_what_is_no_text_is_no_prompt(given: object, tiny_vlm, noise, monkeypatch) -> None:
    encoded = tiny_vlm.encode([noise(90, 60)])
    monkeypatch.setattr(tiny_vlm.tokenizer, "apply_chat_template", lambda *_, **__: given)
    with pytest.raises(ModelError, match=f"gives {type(given).__name__} in place of text"):
        tiny_vlm.prompt(encoded, "what")


def test_a_template_that_fails_on_a_later_turn_is_told_there(tiny_folder: Path, tmp_path: Path, noise) -> None:
    folder = copy(tiny_folder, tmp_path)
    more = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(more + (folder / "chat_template.jinja").read_text())
    vlm = load(folder)
    encoded = vlm.encode([noise(90, 60)])
    assert vlm.prompt(encoded, "what").n
    with pytest.raises(ModelError, match="one turn only; line 1"):
        vlm.prompt(encoded, "what", [Turn("how many", "two")])


def test_of_several_templates_the_default_is_taken(tiny_folder: Path, tmp_path: Path, noise) -> None:
    folder = copy(tiny_folder, tmp_path)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    listed = [{"name": "default", "template": template}, {"name": "rag", "template": "none"}]
    edit(folder / "tokenizer_config.json", chat_template=listed)
    vlm = load(folder)
    assert vlm.answer(vlm.encode([noise(90, 60)]), "what", max_new_tokens=1).ids


@pytest.mark.parametrize("ends", [-1, [-1]])
def test_a_negative_end_token_is_none_and_an_answer_runs_to_its_limit(
    ends: Any, tiny_folder: Path, tmp_path: Path, noise
) -> None:
    folder = copy(tiny_folder, tmp_path)
    none: dict[str, Any] = {"eos_token_id": ends, "pad_token_id": -1, "bos_token_id": -1}
    edit(folder / "generation_config.json", **none)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder / "config.json", text_config=text | none)
    vlm = load(folder)
    assert not stop_ids(vlm.model)
    answer = vlm.answer(vlm.encode([noise(90, 60)]), "what", max_new_tokens=40)
    assert len(answer.ids) == 40


def test_of_several_end_tokens_the_negative_ones_are_none(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    edit(folder / "generation_config.json", eos_token_id=[-1, 3])
    assert stop_ids(load(folder).model) == {3}
    edit(folder / "generation_config.json", eos_token_id=[-1, 900])
    with pytest.raises(ModelError, match="never end: the end token is number 900"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("config.json", {"image_token_id": 900}, "image token is number 900, but the tokenizer has 68 tokens and the"),
        ("config.json", {"image_token_id": -1}, "image token is number -1"),
        ("generation_config.json", {"eos_token_id": [900, 901]}, "never end: the end token is number 900, .* 68 embed"),
    ],
)
def test_tokens_that_every_prompt_needs_must_be_the_model_s(
    file: str, changes: dict[str, Any], reason: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_folder, tmp_path)
    edit(folder / file, **changes)
    with pytest.raises(ModelError, match=reason):
        load(folder)


def test_marks_of_the_template_must_be_the_model_s(tiny_folder: Path, tmp_path: Path, noise) -> None:
    from transformers import AutoTokenizer

    folder = copy(tiny_folder, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|turn|>"])
    tokenizer.chat_template = "<|turn|>" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"writes '<\|turn\|>', token number 68, .* 69 tokens and the model 68 emb"):
        load(folder)


def test_of_several_end_tokens_one_must_be_the_model_s(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path)
    edit(folder / "generation_config.json", eos_token_id=[900, 2])
    assert stop_ids(load(folder).model) == {2}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantization": "2bit"}, "unknown quantization '2bit': use none, 8bit, 4bit"),
        ({"attention": "flash"}, "unknown attention 'flash': use auto, sdpa"),
        ({"device_map": "both"}, "unknown device map 'both': use nothing or one of auto"),
        ({"quantization": "4bit", "device": "cpu"}, "runs on cuda only, not on cpu"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "needs cuda and the package flash-attn"),
    ],
)
def test_options_that_cannot_be(options: dict[str, str], reason: str, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        load(tiny_folder, **options)


@pytest.mark.parametrize(
    ("dtype", "quantization", "attention", "there", "reason"),
    [
        ("bfloat16", "8bit", "auto", False, "pip install bitsandbytes"),
        ("bfloat16", "none", "flash_attention_2", False, "pip install flash-attn"),
        ("float32", "none", "flash_attention_2", True, "bfloat16 or float16 only"),
        ("float16", "4bit", "flash_attention_2", True, None),
    ],
)
def test_packages_on_a_gpu(
    dtype: str, quantization: str, attention: str, there: bool, reason: str | None, monkeypatch
) -> None:
    from pruning.models.checkpoint.opening import check_packages

    for name in ("is_bitsandbytes_available", "is_flash_attn_2_available"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda: there)
    arguments = (torch.device("cuda"), getattr(torch, dtype), quantization, attention)
    if reason is None:
        check_packages(*arguments)
    else:
        with pytest.raises(ModelError, match=reason):
            check_packages(*arguments)


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantization_reaches_the_library(bits: str, tiny_folder: Path, monkeypatch) -> None:
    from pruning.models.checkpoint import opening

    given: dict[str, Any] = {}

    def spy(*args: object, **options: Any) -> None:
        given.update(options)
        raise ImportError("bitsandbytes")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", spy)
    device = torch.device("cuda")
    with pytest.raises(ModelError, match=r"not installed \(bitsandbytes\)"):
        opening.open_model(tiny_folder, "tiny", torch.bfloat16, bits, "auto", {"": device}, None)
    assert given["device_map"] == {"": device}
    assert given["trust_remote_code"] is False
    settings = given["quantization_config"]
    assert (settings.load_in_8bit, settings.load_in_4bit) == (bits == "8bit", bits == "4bit")
    assert bits == "8bit" or settings.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_kernel_that_the_family_lacks_is_named(tiny_folder: Path, monkeypatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise ValueError("TinyVL does not support an attention implementation of this kind yet.")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", refuse)
    with pytest.raises(ModelError, match="attention sdpa is not for this model"):
        load(tiny_folder, attention="sdpa")


# Memory


def test_too_large_a_model_is_refused_before_its_weights_are_read(tiny_folder: Path, monkeypatch) -> None:
    def read(*args: object, **options: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", read)
    monkeypatch.setattr("pruning.models.checkpoint.memory.free_bytes", lambda device: 1_500_000)
    with pytest.raises(ModelError, match=r"needs about \d+ MB in float32 .* but 2 MB are free on cpu: use "):
        load(tiny_folder)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (MemoryError, ""),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
    ids=["cuda", "python", "cpu", "mps"],
)
def test_running_out_of_memory_leaves_nothing_behind(
    kind: type[Exception], words: str, tiny_folder: Path, monkeypatch
) -> None:
    held: list[weakref.ref[torch.nn.Module]] = []

    def fill_up(*args: object, **options: object) -> None:
        model = torch.nn.Linear(10, 10)
        model.itself = [model]  # only the garbage collector can free it
        held.append(weakref.ref(model))
        raise kind(words)

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", fill_up)
    with pytest.raises(ModelError, match=r"did not fit while it was loaded .*smaller model"):
        load(tiny_folder)
    assert held[0]() is None


@pytest.mark.parametrize(("size", "words"), [(16_600_000_000, "16.6 GB"), (999_999_999, "1000 MB"), (0, "0 MB")])
def test_sizes_read_well(size: int, words: str) -> None:
    assert readable(size) == words


# The command line


def test_the_command_line_hands_its_options_on(tiny_folder: Path, tmp_path: Path, noise, monkeypatch, capsys) -> None:
    from pruning.cli.main import main

    given: dict[str, Any] = {}

    def spy(model_id: str, **options: Any) -> None:
        given.update(options)
        raise ModelError("seen")

    monkeypatch.setattr("pruning.cli.commands.load", spy)
    noise(60, 60).save(tmp_path / "picture.png")
    options = ["--quantization", "4bit", "--attention", "eager", "--device-map", "auto"]
    options += ["--scorer", "some/where", "--pruner", "else/where"]
    assert main(["answer", str(tmp_path / "picture.png"), "what", "--model", str(tiny_folder), *options]) == 2
    assert "seen" in capsys.readouterr().err
    expected = {"quantization": "4bit", "attention": "eager", "device_map": "auto"}
    expected |= {"scorer": "some/where", "pruner": "else/where"}
    assert {name: given[name] for name in expected} == expected

"""MDI and AEI: the formula by hand, and the attention behind them as the library's eager kernel has it."""

import pytest
import torch

from pruning.evaluation.dominance import dominance
from pruning.models import VLM, load
from pruning.models.language.modality import Attended
from pruning.plan import parse_plan
from tests.checkpoints.qwen3_vl import tiny_qwen3_5
from tests.helpers import library

QUESTION = "What color is the star?"
ANSWER = (7, 9, 11)


def test_the_formula_by_hand() -> None:
    told = dominance(Attended(3, 0.8, 0.2, 144, 576))
    assert (told.layer, told.text_tokens, told.visual_tokens) == (3, 144, 576)
    assert told.mdi == pytest.approx(16)
    assert (told.aei_text, told.aei_visual) == (pytest.approx(4), pytest.approx(0.25))
    assert told.mdi == pytest.approx(told.aei_text / told.aei_visual)
    # What the answer's own tokens receive is in neither.
    assert dominance(Attended(0, 0.4, 0.1, 144, 576)).aei_text == pytest.approx(4)
    assert dominance(Attended(0, 0.4, 0.0, 10, 5)).mdi is None
    assert dominance(Attended(0, 0.4, 0.0, 10, 5)).aei_visual == 0


def test_the_attention_is_the_library_s(any_vlm: VLM, noise) -> None:
    images = [noise(150, 90), noise(64, 40, seed=1)]
    encoded = any_vlm.encode(images)
    found = any_vlm.attended(encoded, QUESTION, ANSWER)
    eager = load(any_vlm.model_id, attention="eager")
    given = dict(library.inputs(eager, images, QUESTION))
    length = given["input_ids"].shape[1]
    visual = eager.prompt(encoded, QUESTION).visual
    text = torch.ones(length, dtype=torch.bool).index_fill(0, visual, False)
    # One token after the other, as the library itself would say them.
    maps, cache = [], None
    for step in range(len(ANSWER) + 1):
        rows = {"input_ids": torch.tensor([[ANSWER[step - 1]]])} if step else given
        if step:
            rows["attention_mask"] = torch.ones(1, length + step, dtype=torch.long)
            where = library.positions(eager, given).max() + step
            axes = library.positions(eager, given).shape[0]
            rows["position_ids"] = where.expand(axes, 1, 1) if axes > 1 else where.view(1, 1)
        with torch.no_grad():
            out = eager.model(**rows, past_key_values=cache, use_cache=True, output_attentions=True)
        cache = out.past_key_values
        if step:
            maps.append(out.attentions)
    assert [layer.layer for layer in found] == list(range(len(maps[0])))
    for i, layer in enumerate(found):
        if maps[0][i].shape[-1] < length:  # a window has let go of the picture
            continue
        share = torch.stack([each[i][0, :, 0, :length].mean(0) for each in maps]).mean(0)
        assert layer.text == pytest.approx(float(share[text].sum()), abs=1e-5)
        assert layer.visual == pytest.approx(float(share[visual].sum()), abs=1e-5)
        assert (layer.text_tokens, layer.visual_tokens) == (int(text.sum()), len(visual))


def test_pruning_counts_what_each_layer_holds(tiny_vlm: VLM, noise) -> None:
    encoded = tiny_vlm.encode([noise(224, 168)])
    n, whole = encoded.tokens.n, tiny_vlm.attended(encoded, QUESTION, ANSWER)
    staged = tiny_vlm.attended(encoded, QUESTION, ANSWER, parse_plan("1:fastv:0.25"))
    assert [layer.visual_tokens for layer in staged] == [n, n // 4]
    assert staged[0] == whole[0]
    assert staged[1].visual < whole[1].visual
    one_shot = tiny_vlm.attended(encoded, QUESTION, ANSWER, torch.arange(n // 4))
    assert [layer.visual_tokens for layer in one_shot] == [n // 4] * 2
    assert all(0 < layer.text + layer.visual < 1 for layer in (*whole, *staged, *one_shot))


def test_layers_without_attention_and_answers_without_words(tmp_path, tiny_vlm: VLM, noise) -> None:
    hybrid = load(tiny_qwen3_5(tmp_path / "tiny-qwen3.5"))
    kinds = [hasattr(layer, "self_attn") for layer in hybrid.model.get_decoder().layers]
    found = hybrid.attended(hybrid.encode([noise(150, 90)]), QUESTION, ANSWER)
    assert [layer.layer for layer in found] == [i for i, has in enumerate(kinds) if has]
    encoded = tiny_vlm.encode([noise(150, 90)])
    with pytest.raises(ValueError, match="no tokens but its end"):
        tiny_vlm.attended(encoded, QUESTION, [tiny_vlm.model.generation_config.eos_token_id])
    before = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny_vlm.model.modules()]
    with pytest.raises(ValueError, match="lies beyond the model"):
        tiny_vlm.attended(encoded, QUESTION, ANSWER, parse_plan("9:fastv:0.5"))
    assert before == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny_vlm.model.modules()]

"""Analytic cost against a count of what PyTorch really multiplies, and of what a real cache really holds."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning.evaluation.cost import kv_cache_bytes, prefill_flops
from pruning.models.language.forward import cache_name


@pytest.fixture(scope="module")
def language_model():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=90,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.mark.parametrize("n", [1, 7, 40])
def test_flops_are_those_of_the_model(language_model, n: int) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = language_model(torch.zeros((1, n), dtype=torch.long), logits_to_keep=1, use_cache=True)
    # The eager kernel multiplies the whole n × n square, half of which the causal mask throws away.
    square = 3 * (4 * n * n - 2 * n * (n + 1)) * 48
    assert prefill_flops(language_model.config, n) == counter.get_total_flops() - square
    held = sum(
        t.nbytes
        for layer in getattr(output, cache_name(type(language_model).forward)).layers
        for t in (layer.keys, layer.values)
    )
    assert kv_cache_bytes(language_model.config, n, torch.float32) == held


def test_tokens_of_each_layer_cost_what_they_cost_there(language_model) -> None:
    config, head = language_model.config, 2 * 48 * 90
    alone = [(prefill_flops(config, n) - head) // 3 for n in (40, 20, 7)]
    assert prefill_flops(config, [40, 20, 7]) == sum(alone) + head
    assert prefill_flops(config, [40] * 3) == prefill_flops(config, 40)
    held = [kv_cache_bytes(config, n, torch.bfloat16) // 3 for n in (40, 20, 7)]
    assert kv_cache_bytes(config, [40, 20, 7], torch.bfloat16) == sum(held)
    for counts in ([40, 20], [40, 20, 0], []):
        with pytest.raises(ValueError, match=r"one for each layer|at least 1"):
            prefill_flops(config, counts)


def test_qwen2_5_vl_7b_by_hand() -> None:
    from transformers import Qwen2_5_VLConfig

    text = {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    }
    config = Qwen2_5_VLConfig(text_config=text)
    assert kv_cache_bytes(config, 1000, torch.bfloat16) == 57_344_000  # 56 KiB a token
    # 6.53 billion non-embedding parameters in the products, 2 FLOPs each, 1,000 tokens; attention adds 0.2 T.
    assert prefill_flops(config, 1000) == pytest.approx(13.05e12 + 0.2e12, rel=5e-3)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_impossible_lengths_are_refused(language_model, n: object) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prefill_flops(language_model.config, n)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        kv_cache_bytes(language_model.config, n, torch.float32)  # type: ignore[arg-type]

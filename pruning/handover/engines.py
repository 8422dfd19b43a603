"""Recipes for other people's engines, in their own options. What they cannot serve is refused with the reason.

AngelSlim: https://github.com/Tencent/AngelSlim, configs/qwen2_5_vl/pruning
OpenVINO GenAI: https://openvinotoolkit.github.io/openvino.genai/docs/concepts/optimization-techniques/visual-token-pruning
vLLM: https://docs.vllm.ai/en/latest/configuration/engine_args.html (video_pruning_rate)
"""

from __future__ import annotations

import shlex

from pruning.choosing import needs_of
from pruning.encoding import EncodingMethod
from pruning.grids import SCOPES
from pruning.handover.wanted import Recipe, Wanted, knobs_of, refused
from pruning.method import Method
from pruning.models.values import POSITIONS
from pruning.signals import ASKING

QWEN = ("qwen2_vl", "qwen2_5_vl")
BETWEEN = "tokens leave between the layers of the language model, and it prunes before it alone"
ANEW = "the pictures are encoded anew for a budget of tokens, and it limits pixels: the budget would not be exact"


def angelslim(wanted: Wanted) -> Recipe:
    name, title, asked = "angelslim", "AngelSlim", wanted.asked
    if reason := _beyond(wanted):
        return refused(name, title, "yaml", reason)
    assert isinstance(asked, Method)
    if wanted.model_type != "qwen2_5_vl":
        return refused(name, title, "yaml", f"its wrappers for this are of Qwen2.5-VL, not of {wanted.model_type}")
    if asked.name not in ("idpruner", "vision_selector"):
        return refused(
            name, title, "yaml", f"its settings for Qwen2.5-VL are IDPruner and VisionSelector, not {asked.title}"
        )
    knobs = knobs_of(asked)
    if knobs.pop("importance", "scorer") != "scorer":
        return refused(name, title, "yaml", "its importance comes from a trained selector alone")
    if more := sorted(knobs.keys() - {"mmr_lambda"}):
        return refused(name, title, "yaml", f"it has no counterpart of {', '.join(more)}")
    mmr = [f"        mmr_lambda: {asked.lambda_:g}", "        parallel_k: 1"] if asked.name == "idpruner" else []
    lines = [
        "model_mapping:",
        *_mapping("vl_model", "model", "Prunable_Qwen2_5_VLModel"),
        *_mapping("text_model", "model.language_model", "Prunable_Qwen2_5_VLTextModel"),
        "compressor:",
        "  requirements:",
        "    inputs_embeds: true",
        *(["    vision_token_mask: true"] if asked.name == "vision_selector" else []),
        "  strategies:",
        "    global:",
        f"      strategy: {asked.name}",
        "      params:",
        f"        ratio: {_removed(wanted):g}",
        *mmr,
        "      model_related_params:",
        "        selector_path:",
        "          3b: <folder of the selector's weights>",
        "          7b: <folder of the selector's weights>",
    ]
    note = (
        f"Its ratio is the share removed: {_removed(wanted):g} keeps {wanted.retention:g}. Name the selector's "
        "weights; its rounding of the budget and its own prompt may differ."
    )
    return Recipe(name, title, "yaml", "\n".join(lines) + "\n", note)


def openvino(wanted: Wanted) -> Recipe:
    name, title, asked = "openvino", "OpenVINO GenAI", wanted.asked
    if reason := _beyond(wanted):
        return refused(name, title, "python", reason)
    assert isinstance(asked, Method)
    if wanted.sampling is not None:
        return refused(name, title, "python", "it prunes tokens of pictures, and this is a clip")
    if asked.name != "cdpruner":
        return refused(name, title, "python", f"it prunes by CDPruner alone, not by {asked.title}")
    if knobs_of(asked):
        return refused(name, title, "python", "it has one form of CDPruner, and this setting takes another")
    if wanted.model_type not in QWEN:
        return refused(name, title, "python", f"it prunes in Qwen-VL models alone, not in {wanted.model_type}")
    percent = min(99, round(100 * _removed(wanted)))
    lines = [
        "import os",
        "",
        'os.environ["CDPRUNER_SPLIT_THRESHOLD"] = "0"  # one kernel for all tokens, as in the paper',
        "import numpy as np",
        "import openvino_genai",
        "from openvino import Tensor",
        "from PIL import Image",
        "",
        'pipe = openvino_genai.VLMPipeline("<folder of the model, exported by optimum-cli>", "CPU")',
        "config = pipe.get_generation_config()",
        f"config.pruning_ratio = {percent}  # percent removed",
        "config.relevance_weight = 0.5",
        f"image = Tensor(np.array(Image.open({wanted.image!r}).convert('RGB'))[None])",
        f"print(pipe.generate({wanted.question!r}, images=[image], generation_config=config))",
    ]
    note = (
        f"The budget is a whole percentage: {percent} % removed. Relevance is mixed in by a weight that the method "
        "here does not have, so other tokens are kept; 0.5 is its own default."
    )
    return Recipe(name, title, "python", "\n".join(lines) + "\n", note)


def vllm(wanted: Wanted) -> Recipe:
    name, title, asked = "vllm", "vLLM", wanted.asked
    if reason := _beyond(wanted):
        return refused(name, title, "bash", reason)
    needs = needs_of(asked)
    if needs & ASKING:
        reason = "the method asks for the question, and its cache of encoded pictures does not know it"
        return refused(name, title, "bash", reason)
    if any(need.startswith("vision_attention") for need in needs):
        reason = "the method needs attention maps of the vision tower, which its kernels do not form"
        return refused(name, title, "bash", reason)
    if wanted.retention == 1:
        return refused(name, title, "bash", "nothing is pruned at a retention of 1: serve the model as it is")
    text = shlex.join(["vllm", "serve", wanted.model, "--video-pruning-rate", f"{_removed(wanted):g}"]) + "\n"
    same = isinstance(asked, Method) and asked.name == "evs"
    rule = "by the same method (EVS)" if same else "by a rule of its own (EVS), not this method"
    note = (
        f"Clips alone are pruned, pictures keep all tokens: the rate is the share removed, {rule}; families with "
        "positions of one axis renumber what is kept."
    )
    return Recipe(name, title, "bash", text, note)


def _beyond(wanted: Wanted) -> str:
    """Why no engine that prunes once, before the language model, serves it; "" where one may."""
    if wanted.staged:
        return BETWEEN
    if isinstance(wanted.asked, EncodingMethod):
        return ANEW
    if wanted.per != SCOPES[0]:
        return f"it has one budget for all pictures, not one per {wanted.per}"
    return "" if wanted.positions == POSITIONS[0] else "it does not offer the positions that were chosen here"


def _removed(wanted: Wanted) -> float:
    return round(1 - wanted.retention, 6)


def _mapping(name: str, path: str, wrapper: str) -> list[str]:
    return [
        f"  - name: {name}",
        f"    path: {path}",
        "    wrapper_module: .models.qwen2_5_vl",
        f"    wrapper_class: {wrapper}",
    ]

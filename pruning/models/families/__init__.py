"""Families that differ from the generic adapter, each in a file that says how."""

from __future__ import annotations

import inspect
from typing import Any

from pruning.models.families.base import Family
from pruning.models.families.gemma3 import Gemma3
from pruning.models.families.granite4_vision import Granite4Vision
from pruning.models.families.granite_docling import GraniteDocling
from pruning.models.families.hunyuan_vl import HunYuanVL
from pruning.models.families.idefics3 import Idefics3, SmolVLM
from pruning.models.families.internvl import InternVL
from pruning.models.families.llava import Llava
from pruning.models.families.llava_next import LlavaNext
from pruning.models.families.llava_video import LlavaNextVideo, LlavaOneVision
from pruning.models.families.ovis2 import Ovis2
from pruning.models.families.qwen_vl import Packed, Qwen3VL, QwenVL
from pruning.models.values import ModelError, unsupported

FAMILIES: tuple[type[Family], ...] = (
    QwenVL, Qwen3VL, InternVL, Idefics3, SmolVLM, Gemma3, Llava, LlavaNext, LlavaNextVideo, LlavaOneVision,
    Ovis2, HunYuanVL, GraniteDocling, Granite4Vision,
)  # fmt: skip


def family_of(config: Any) -> type[Family]:
    """The adapter for a model's configuration: its family's own, else a generic one, of which `check` tells if it fits.

    Raises ModelError, naming the reason, for models that cannot be pruned from outside.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    kind = config.model_type
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(f"models of type {kind} are not supported because they are text-only: choose one that sees")
    if getattr(config, "vision_config", None) is None:
        raise unsupported(kind, "they have no vision tower apart from the language model")
    forward = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].forward
    if "mm_encoder_outputs" not in inspect.signature(forward).parameters:
        raise unsupported(kind, "the model library lets nobody hand them image rows (mm_encoder_outputs)")
    tower = config.vision_config.model_type
    own = next((f for f in FAMILIES if kind in f.model_types and (not f.towers or tower in f.towers)), None)
    return own or (Packed if hasattr(config.vision_config, "spatial_merge_size") else Family)

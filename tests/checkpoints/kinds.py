"""Every other type of model that sees and answers, each as what differs of its tiny checkpoint: settings, no code.

Widths and depths are small; token names, templates' marks, and the kinds of settings are those of released checkpoints.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.checkpoints.others import CHAT_TEMPLATE, HALF, PERCEIVER
from tests.checkpoints.saving import save, text_settings, word_tokenizer

Settings = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A type of model.

    marks: special tokens. ids: name of a setting -> the token whose number it is. names: attributes of the tokenizer.
    writes: what the chat template writes for a picture; None: there is no template. vision, text, more: of the
    configuration. images, processor: of the image processor and the processor; without a type of the first, the file
    is left out.
    """

    marks: tuple[str, ...]
    ids: dict[str, str]
    images: Settings
    vision: Settings = field(default_factory=dict)
    text: Settings = field(default_factory=dict)
    more: Settings = field(default_factory=dict)
    processor: Settings = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    writes: str | None = ""
    bos: str | None = None
    prepared: Callable[[Any], None] | None = None


def _vit(**more: Any) -> Settings:
    wide = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    return {**wide, "image_size": 64, "patch_size": 8, "initializer_range": 0.2, **more}


def _packed(**more: Any) -> Settings:
    wide = {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 48}
    return {**wide, "initializer_range": 0.2, **more}


def _square(kind: str, **more: Any) -> Settings:
    return {"image_processor_type": f"{kind}ImageProcessor", "size": {"height": 64, "width": 64}, **HALF, **more}


def _pixels(kind: str, cell: int, **more: Any) -> Settings:
    size = {"shortest_edge": 4 * cell**2, "longest_edge": 64 * cell**2}
    return {"image_processor_type": f"{kind}ImageProcessor", "size": size, **HALF, **more}


SIGLIP = _vit(model_type="siglip_vision_model", vision_use_head=False)
CLIP = _vit(model_type="clip_vision_model")
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
HALVED = {**MROPE, "partial_rotary_factor": 0.5}
FEW_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

_QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_QWEN_IDS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
_QWEN_ENDS = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
_QWEN_WRITES = "<|vision_start|><|image_pad|><|vision_end|>"
_GLM = tuple(
    f"<|{mark}|>" for mark in ("image", "begin_of_image", "end_of_image", "video", "begin_of_video", "end_of_video")
)
_GLM_IDS = dict(
    zip(
        (
            "image_token_id",
            "image_start_token_id",
            "image_end_token_id",
            "video_token_id",
            "video_start_token_id",
            "video_end_token_id",
        ),
        _GLM,
        strict=True,
    )
)
_GLM_WRITES = "<|begin_of_image|><|image|><|end_of_image|>"
_OMNI = (
    "<|VISION|>",
    "<|AUDIO|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
)
_OMNI_NAMES = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_OMNI_WRITES = "<|vision_bos|><|IMAGE|><|vision_eos|>"
_AUDIO = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 32, "output_dim": 48}
_MINICPM = ("<|image_pad|>", "<|video_pad|>", "<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>")
_MINICPM_NAMES = dict(
    zip(
        (
            "image_token",
            "video_token",
            "image_start_token",
            "image_end_token",
            "slice_start_token",
            "slice_end_token",
            "image_id_start_token",
            "image_id_end_token",
        ),
        _MINICPM,
        strict=True,
    )
)
_IDEFICS = (
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
_SAM = {
    "hidden_size": 32,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 16,
    "window_size": 2,
    "global_attn_indexes": [1],
    "mlp_dim": 48,
    "initializer_range": 0.2,
}
_SLOT = {"rope_type": "default", "rope_theta": 10000.0}


def _awake(model: Any) -> None:
    """Weights that are zero, or nearly, in a new model and not in a trained one."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and float(parameter.detach().abs().max()) < 1e-6:
            parameter.data.normal_(std=0.2)


KINDS: dict[str, Kind] = {
    "glm4v_moe": Kind(
        _GLM,
        _GLM_IDS,
        _pixels("Glm4v", 28, patch_size=14, temporal_patch_size=2, merge_size=2),
        _packed(image_size=56),
        {
            "head_dim": 24,
            "num_attention_heads": 2,
            "rope_parameters": HALVED,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        },
        processor={"processor_class": "Glm4vProcessor"},
        writes=_GLM_WRITES,
    ),
    "glm46v": Kind(
        _GLM,
        _GLM_IDS,
        _pixels("Glm46V", 28, patch_size=14, temporal_patch_size=2, merge_size=2),
        _packed(model_type="glm4v_vision", image_size=56),
        {"model_type": "glm4v_text", "num_attention_heads": 2, "rope_parameters": HALVED},
        processor={"processor_class": "Glm46VProcessor"},
        writes=_GLM_WRITES,
    ),
    "glm_ocr": Kind(
        _GLM,
        _GLM_IDS,
        _pixels("Glm46V", 28, patch_size=14, temporal_patch_size=2, merge_size=2),
        _packed(image_size=56),
        {"head_dim": 12, "rope_parameters": MROPE},
        processor={"processor_class": "Glm46VProcessor"},
        writes=_GLM_WRITES,
    ),
    "qwen3_vl_moe": Kind(
        _QWEN,
        {**_QWEN_IDS, **_QWEN_ENDS},
        _pixels("Qwen2VL", 32, patch_size=16, temporal_patch_size=2, merge_size=2),
        _packed(num_position_embeddings=64, deepstack_visual_indexes=[0, 1]),
        {"rope_parameters": {**MROPE, "mrope_interleaved": True}, "head_dim": 12, **FEW_EXPERTS},
        writes=_QWEN_WRITES,
    ),
    "qwen3_5_moe": Kind(
        _QWEN,
        {**_QWEN_IDS, **_QWEN_ENDS},
        _pixels("Qwen2VL", 32, patch_size=16, temporal_patch_size=2, merge_size=2),
        _packed(num_position_embeddings=64),
        {
            "rope_parameters": {**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
            "head_dim": 12,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "shared_expert_intermediate_size": 32,
            **FEW_EXPERTS,
        },
        writes=_QWEN_WRITES,
    ),
    "qwen2_5_omni": Kind(
        _OMNI,
        {
            "image_token_index": "<|IMAGE|>",
            "audio_token_index": "<|AUDIO|>",
            "video_token_index": "<|VIDEO|>",
            "audio_start_token_id": "<|audio_bos|>",
            "audio_end_token_id": "<|audio_eos|>",
            "vision_start_token_id": "<|vision_bos|>",
            "vision_end_token_id": "<|vision_eos|>",
        },
        _pixels("Qwen2VL", 28, patch_size=14, temporal_patch_size=2, merge_size=2),
        _packed(window_size=56, fullatt_block_indexes=[2]),
        {"rope_parameters": MROPE},
        {"audio_config": _AUDIO},
        names=_OMNI_NAMES,
        writes=_OMNI_WRITES,
    ),
    "qwen3_omni_moe": Kind(
        _OMNI,
        {
            "image_token_id": "<|IMAGE|>",
            "audio_token_id": "<|AUDIO|>",
            "video_token_id": "<|VIDEO|>",
            "audio_start_token_id": "<|audio_bos|>",
            "vision_start_token_id": "<|vision_bos|>",
        },
        _pixels("Qwen2VL", 32, patch_size=16, temporal_patch_size=2, merge_size=2),
        _packed(num_position_embeddings=64, deepstack_visual_indexes=[0, 1]),
        {"rope_parameters": {**MROPE, "mrope_interleaved": True}, "head_dim": 12, **FEW_EXPERTS},
        {"audio_config": {**_AUDIO, "downsample_hidden_size": 16}},
        names=_OMNI_NAMES,
        writes=_OMNI_WRITES,
    ),
    "exaone4_5": Kind(
        _QWEN,
        _QWEN_IDS,
        _pixels("Qwen2VL", 28, patch_size=14, temporal_patch_size=2, merge_size=2),
        _packed(window_size=56, fullatt_block_indexes=[2], num_key_value_heads=1),
        {"model_type": "exaone4"},
        names={"image_token": "<|image_pad|>"},
        writes=_QWEN_WRITES,
    ),
    "lfm3_vl": Kind(
        _QWEN,
        {**_QWEN_IDS, **_QWEN_ENDS},
        _pixels("Qwen2VL", 32, patch_size=16, temporal_patch_size=2, merge_size=2),
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "layer_types": ["conv", "full_attention"],
            "initializer_range": 0.2,
        },
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        {"projector_hidden_size": 48},
        writes=_QWEN_WRITES,
    ),
    "paddleocr_vl": Kind(
        ("<|IMAGE_START|>", "<|IMAGE_END|>", "<|IMAGE_PLACEHOLDER|>", "<|video_pad|>"),
        {
            "image_token_id": "<|IMAGE_PLACEHOLDER|>",
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": "<|IMAGE_START|>",
            "vision_end_token_id": "<|IMAGE_END|>",
        },
        _pixels("PaddleOCRVL", 28, patch_size=14, temporal_patch_size=1, merge_size=2),
        _vit(image_size=56, patch_size=14),
        {"head_dim": 12, "rope_parameters": MROPE},
        names={"image_token": "<|IMAGE_PLACEHOLDER|>"},
        writes="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    ),
    "ernie4_5_vl_moe": Kind(
        (
            "<|IMAGE_START|>",
            "<|IMAGE_END|>",
            "<|IMAGE_PLACEHOLDER|>",
            "<|VIDEO_START|>",
            "<|VIDEO_END|>",
            "<|VIDEO_PLACEHOLDER|>",
        ),
        {
            "image_token_id": "<|IMAGE_PLACEHOLDER|>",
            "image_start_token_id": "<|IMAGE_START|>",
            "image_end_token_id": "<|IMAGE_END|>",
            "video_token_id": "<|VIDEO_PLACEHOLDER|>",
            "video_start_token_id": "<|VIDEO_START|>",
            "video_end_token_id": "<|VIDEO_END|>",
        },
        _pixels("Ernie4_5_VLMoe", 28, patch_size=14, merge_size=2),
        {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "initializer_range": 0.2},
        {
            "moe_intermediate_size": [32, 24],
            "moe_k": 2,
            "moe_num_experts": 4,
            "num_hidden_layers": 3,
            "rope_parameters": {**_SLOT, "mrope_section": [2, 2, 2]},
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
        names={
            "image_token": "<|IMAGE_PLACEHOLDER|>",
            "image_start_token": "<|IMAGE_START|>",
            "image_end_token": "<|IMAGE_END|>",
            "video_token": "<|VIDEO_PLACEHOLDER|>",
            "video_start_token": "<|VIDEO_START|>",
            "video_end_token": "<|VIDEO_END|>",
        },
        writes="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    ),
    "video_llama_3": Kind(
        _QWEN,
        _QWEN_IDS,
        _pixels("VideoLlama3", 28, patch_size=14, merge_size=2),
        _vit(patch_size=14),
        {"model_type": "qwen2"},
        writes="<|image_pad|>",
    ),
    "hunyuan_vl": Kind(
        ("<img_start>", "<img_end>", "<img_pad>", "<img_newline>"),
        {
            "image_token_id": "<img_pad>",
            "im_start_id": "<img_start>",
            "im_end_id": "<img_end>",
            "im_newline_id": "<img_newline>",
        },
        _pixels("HunYuanVL", 32, patch_size=16, merge_size=2),
        {**_vit(patch_size=16), "out_hidden_size": 48, "text_hidden_size": 48, "max_image_size": 256},
        {
            "head_dim": 16,
            "rope_parameters": {
                **_SLOT,
                "rope_type": "dynamic",
                "factor": 1.0,
                "alpha": 1000.0,
                "xdrope_section": [2, 2, 2, 2],
            },
        },
        names={"image_token": "<img_pad>", "image_start_token": "<img_start>", "image_end_token": "<img_end>"},
        writes="<img_start><img_pad><img_end>",
    ),
    "lighton_ocr": Kind(
        ("<|image_pad|>", "<|vision_pad|>", "<|vision_end|>"),
        {"image_token_id": "<|image_pad|>"},
        {"image_processor_type": "PixtralImageProcessorFast", "size": {"longest_edge": 128}, "patch_size": 8, **HALF},
        _vit(model_type="pixtral", image_size=128),
        {"model_type": "qwen3", "head_dim": 12},
        processor={"processor_class": "LightOnOcrProcessor", "patch_size": 8, "spatial_merge_size": 2},
        names={
            "image_token": "<|image_pad|>",
            "image_break_token": "<|vision_pad|>",
            "image_end_token": "<|vision_end|>",
        },
        writes="<|image_pad|>",
    ),
    "deepseek_vl_hybrid": Kind(
        ("<image_placeholder>",),
        {"image_token_id": "<image_placeholder>"},
        _square(
            "DeepseekVLHybrid",
            min_size=14,
            high_res_size={"height": 256, "width": 256},
            high_res_image_mean=[0.5] * 3,
            high_res_image_std=[0.5] * 3,
        ),
        SIGLIP,
        {"model_type": "llama"},
        {"high_res_vision_config": {**_SAM, "model_type": "sam_vision_model", "image_size": 256}},
        processor={"processor_class": "DeepseekVLHybridProcessor", "num_image_tokens": 64},
        names={"image_token": "<image_placeholder>"},
        writes="<image_placeholder>",
        prepared=_awake,
    ),
    "deepseek_ocr2": Kind(
        ("<image>",),
        {"image_token_id": "<image>"},
        _square("DeepseekOcr2", size={"height": 1024, "width": 1024}, tile_size=768),
        {
            "sam_config": {**_SAM, "window_size": 14, "image_size": 1024, "downsample_channels": [16, 32]},
            "encoder_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "vocab_size": 8,
            },
        },
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_shared_experts": 1,
            "mlp_layer_types": ["dense", "sparse"],
        },
        processor={"processor_class": "DeepseekOcr2Processor"},
        names={"image_token": "<image>"},
        writes="<image>",
        prepared=_awake,
    ),
    "got_ocr2": Kind(
        ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"),
        {"image_token_index": "<imgpad>"},
        _square("GotOcr2", size={"height": 256, "width": 256}),
        {**_SAM, "image_size": 256},
        {"model_type": "qwen2"},
        {"image_seq_length": 16},
        processor={"processor_class": "GotOcr2Processor"},
        writes=None,
        prepared=_awake,
    ),
    "janus": Kind(
        ("<image_placeholder>", "<begin_of_image>", "<end_of_image>"),
        {"image_token_id": "<image_placeholder>"},
        _square("Janus", min_size=14),
        {**_vit(), "projection_dim": 48, "num_image_tokens": 64, "model_type": "janus_vision_model"},
        {"model_type": "llama"},
        {
            "vq_config": {
                "embed_dim": 8,
                "num_embeddings": 16,
                "latent_channels": 32,
                "base_channels": 32,
                "channel_multiplier": [1, 1],
                "num_res_blocks": 1,
                "num_patches": 8,
                "projection_dim": 48,
                "image_token_embed_dim": 48,
            }
        },
        processor={"processor_class": "JanusProcessor", "num_image_tokens": 64},
        names={"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"},
        writes="<image_placeholder>",
    ),
    "ovis2": Kind(
        ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"),
        {"image_token_id": "<IMG_ATOM>"},
        _square("Ovis2", crop_to_patches=True, max_patches=4),
        _vit(vocab_size=40, hidden_stride=2),
        {"model_type": "qwen2"},
        {"hidden_size": 48},
        processor={"processor_class": "Ovis2Processor", "image_seq_length": 16},
        names={"image_token": "<image>"},
        writes="<image>",
    ),
    "minicpmv4_6": Kind(
        _MINICPM,
        {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        {
            "image_processor_type": "MiniCPMV4_6ImageProcessor",
            "scale_resolution": 64,
            "patch_size": 8,
            "max_slice_nums": 4,
            **HALF,
        },
        _vit(insert_layer_id=1),
        {"model_type": "qwen2"},
        {"image_size": 64, "insert_layer_id": 1},
        names=_MINICPM_NAMES,
        writes="<|image_pad|>",
    ),
    "minicpmv4_7": Kind(
        _MINICPM,
        {
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
            "image_start_id": "<image>",
            "image_end_id": "</image>",
            "slice_start_id": "<slice>",
            "slice_end_id": "</slice>",
        },
        {
            "image_processor_type": "MiniCPMV4_6ImageProcessor",
            "scale_resolution": 64,
            "patch_size": 8,
            "max_slice_nums": 4,
            **HALF,
        },
        _vit(insert_layer_id=1),
        {
            "model_type": "qwen3_5_text",
            "head_dim": 12,
            "layer_types": ["linear_attention", "full_attention"],
            "rope_parameters": {**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
        {"image_size": 64, "insert_layer_id": 1},
        names=_MINICPM_NAMES,
        writes="<|image_pad|>",
    ),
    "granite4_vision": Kind(
        ("<image>",),
        {"image_token_index": "<image>"},
        _square(
            "LlavaNext",
            size={"shortest_edge": 64},
            crop_size={"height": 64, "width": 64},
            image_grid_pinpoints=[[64, 128], [128, 64], [128, 128]],
        ),
        {**SIGLIP, "hidden_size": 64, "num_attention_heads": 2},
        {"num_hidden_layers": 3},
        {
            "image_grid_pinpoints": [[64, 128], [128, 64], [128, 128]],
            "downsample_rate": "1/2",
            "image_seq_length": 16,
            "vision_feature_select_strategy": "full",
            "deepstack_layer_map": [[-1, 0], [-2, 1]],
            "spatial_target_layers": [1, 2],
            "qformer_config": {
                "model_type": "blip_2_qformer",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "encoder_hidden_size": 32,
            },
        },
        processor={
            "processor_class": "Granite4VisionProcessor",
            "patch_size": 8,
            "downsample_rate": "1/2",
            "vision_feature_select_strategy": "full",
        },
        writes="<image>",
        prepared=_awake,
    ),
    "granite_docling": Kind(
        _IDEFICS,
        {"image_token_id": "<image>"},
        _square("GraniteDocling", max_patches=4),
        _vit(out_hidden_size=48, scale_factor=4, deepstack_visual_indexes=[0, 1], use_fine_route=True),
        {"num_hidden_layers": 3},
        processor={"processor_class": "GraniteDoclingProcessor", "image_seq_len": 4},
        writes="<image>",
    ),
    "idefics2": Kind(
        _IDEFICS[:3],
        {"image_token_id": "<image>"},
        {
            "image_processor_type": "Idefics2ImageProcessor",
            "do_image_splitting": False,
            "size": {"shortest_edge": 64, "longest_edge": 64},
            **HALF,
        },
        _vit(),
        {"model_type": "mistral"},
        {"perceiver_config": PERCEIVER},
        processor={"processor_class": "Idefics2Processor", "image_seq_len": 16},
        writes="<image>",
    ),
    "aria": Kind(
        ("<fim_prefix>", "<|img|>", "<fim_suffix>"),
        {"image_token_index": "<|img|>"},
        {
            "image_processor_type": "AriaImageProcessor",
            "max_image_size": 980,
            "min_image_size": 336,
            "split_image": False,
            **HALF,
        },
        _vit(model_type="idefics3_vision", image_size=980, patch_size=70),
        {"moe_num_experts": 4, "moe_num_shared_experts": 1},
        {"projector_patch_to_query_dict": {"196": 16}},
        processor={"processor_class": "AriaProcessor", "size_conversion": {"980": 16}},
        names={"image_token": "<|img|>"},
        writes="<fim_prefix><|img|><fim_suffix>",
    ),
    "paligemma": Kind(
        ("<image>", "<bos>"),
        {"image_token_index": "<image>"},
        _square("Siglip", image_seq_length=64),
        {**SIGLIP, "projection_dim": 48},
        {"model_type": "gemma", "head_dim": 12},
        {"projection_dim": 48, "hidden_size": 48},
        names={"image_token": "<image>"},
        processor={"processor_class": "PaliGemmaProcessor"},
        bos="<bos>",
        writes=None,
    ),
    "qianfan_ocr": Kind(
        ("<img>", "</img>", "<IMG_CONTEXT>", "<image>"),
        {"image_token_id": "<IMG_CONTEXT>"},
        _square("GotOcr2", crop_to_patches=True, max_patches=4),
        _vit(image_size=[64, 64], patch_size=[8, 8]),
        {"model_type": "qwen3", "head_dim": 12},
        {"image_seq_length": 16},
        processor={"processor_class": "QianfanOCRProcessor", "image_seq_length": 16},
        names={"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"},
        writes="<image>",
        prepared=_awake,
    ),
    "video_llava": Kind(
        ("<image>", "<video>"),
        {"image_token_index": "<image>", "video_token_index": "<video>"},
        {
            "image_processor_type": "VideoLlavaImageProcessor",
            "size": {"shortest_edge": 64},
            "crop_size": {"height": 64, "width": 64},
            **HALF,
        },
        CLIP,
        {"model_type": "llama"},
        processor={"processor_class": "VideoLlavaProcessor", "patch_size": 8},
        writes="<image>",
    ),
}
"""Type -> what its tiny checkpoint is made of. A name in brackets says which tower, where a type has several."""


def tiny(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a random checkpoint of a type in KINDS."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    own = KINDS[kind]
    first = ("<pad>", "</s>", "<user>", "<assistant>", *own.marks)
    template = None if own.writes is None else CHAT_TEMPLATE.replace("IMAGE", own.writes)
    tokenizer = word_tokenizer(first, template, eos="</s>", pad="<pad>", bos=own.bos, **own.names)
    text = {**text_settings(tokenizer), **own.text}
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in own.ids.items()}
    parts = {"vision_config": own.vision} if own.vision else {}
    model_type = kind.split()[0]
    thinker = f"{model_type}_thinker" if "omni" in model_type else model_type
    config = AutoConfig.for_model(thinker, **parts, text_config=text, **own.more, **ids)

    def build() -> Any:
        model = AutoModelForImageTextToText.from_config(config)
        if own.prepared is not None:
            own.prepared(model)
        return model

    files = {"preprocessor_config": own.images} | ({"processor_config": own.processor} if own.processor else {})
    save(folder, build, tokenizer, seed, **files)
    if thinker != model_type:
        _in_the_whole(folder, model_type, config)
    return folder


def _in_the_whole(folder: Path, kind: str, config: Any) -> None:
    """Make a thinker's folder one of the whole model, which can also speak: as such it is released."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig

    weights = load_file(folder / "model.safetensors")
    save_file({f"thinker.{name}": w for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    AutoConfig.for_model(kind, thinker_config=config.to_dict(), enable_audio_output=False).save_pretrained(folder)


BARE: dict[str, Settings] = {
    "blip-2": _square("Blip"),
    "chameleon": _square("Chameleon"),
    "cohere2_vision": _square("Cohere2Vision"),
    "emu3": {"image_processor_type": "Emu3ImageProcessor"},
    "fast_vlm": _square("CLIP", crop_size={"height": 64, "width": 64}),
    "florence2": _square("CLIP"),
    "fuyu": {"image_processor_type": "FuyuImageProcessor"},
    "gemma3n": _square("Siglip"),
    "gemma4_unified": {"image_processor_type": "Gemma4UnifiedImageProcessor"},
    "instructblip": _square("Blip"),
    "kimi_k25": {"image_processor_type": "Kimi_K25ImageProcessor"},
    "lfm2_vl": {"image_processor_type": "Lfm2VlImageProcessor"},
    "llama4": _square("Llama4"),
    "llava (Pixtral)": {"image_processor_type": "PixtralImageProcessor"},
    "minicpm_ocr": {"image_processor_type": "MiniCPMOcrImageProcessor"},
    "mistral3": {"image_processor_type": "PixtralImageProcessor"},
    "mistral_large4": {"image_processor_type": "PixtralImageProcessor"},
    "mllama": {"image_processor_type": "MllamaImageProcessor"},
    "molmo2": {"image_processor_type": "Molmo2ImageProcessor"},
    "perception_lm": {"image_processor_type": "PerceptionLMImageProcessor"},
    "step3p7": {"image_processor_type": "Step3p7ImageProcessor"},
}
"""Type -> its image processor, of those that are refused before a weight is read."""

PROCESSORS = {
    "fast_vlm": "LlavaProcessor",
    "llava (Pixtral)": "PixtralProcessor",
    "mistral3": "PixtralProcessor",
    "mistral_large4": "PixtralProcessor",
}
"""Type in BARE -> the processor that released checkpoints name, where it is another one than the type's."""


UNASKED = ("blip-2", "instructblip")  # types that are released without a chat template


def bare(kind: str, folder: Path) -> Path:
    """Save the settings of a type in BARE as the library has them, a tokenizer, and no weights to speak of."""
    import torch
    from transformers import AutoConfig

    template = None if kind in UNASKED else CHAT_TEMPLATE.replace("IMAGE", "<image>")
    names = {
        name: "<image>" for name in ("image_token", "boi_token", "eoi_token", "audio_token", "boa_token", "eoa_token")
    }
    tokenizer = word_tokenizer(("<pad>", "</s>", "<image>"), template, eos="</s>", pad="<pad>", **names)
    tokenizer.save_pretrained(folder)
    seeing: Settings = {"vision_config": {}} if kind == "gemma4_unified" else {}  # which the library leaves out
    AutoConfig.for_model(kind.split()[0], **seeing).save_pretrained(folder)
    torch.save({}, folder / "pytorch_model.bin")
    named = {"processor_class": PROCESSORS[kind]} if kind in PROCESSORS else {}
    for name, settings in {"preprocessor_config": BARE[kind], "processor_config": named}.items():
        (folder / f"{name}.json").write_text(json.dumps(settings))
    return folder

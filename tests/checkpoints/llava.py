"""LLaVA-1.5, ViP-LLaVA, LLaVA-NeXT, LLaVA-NeXT-Video and LLaVA-OneVision as converted for the model library.

All but the last have a CLIP tower with a CLS place, of which the second last layer is used; OneVision has SigLIP.
"""

from pathlib import Path
from typing import Any

from tests.checkpoints.saving import save, text_settings, word_tokenizer

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PATCH = 8
IMAGES_FIRST = (
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}"
)
VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    f"{IMAGES_FIRST}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ 'ASSISTANT:' }}}}{{% endif %}}"
)
MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    f"{IMAGES_FIRST}{{{{ '[/INST]' }}}}{{% else %}}{{{{ ' ' + message['content'][0]['text'] + '</s> ' }}}}"
    "{% endif %}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _llama_tokenizer(template: str, **more: str) -> Any:
    specials = ("<unk>", "<s>", "</s>", "<image>", "<pad>", *more.values())
    return word_tokenizer(specials, template, eos="</s>", pad="<pad>", bos="<s>", image_token="<image>", **more)


def _tower(kind: str, side: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": PATCH,
        "initializer_factor": 2.0,
        "initializer_range": 0.2,
    }


def _clip_images(kind: str, side: int, **more: Any) -> dict[str, Any]:
    return {
        "image_processor_type": kind,
        "processor_class": "LlavaProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        **more,
    }


def _clip_processor(kind: str) -> dict[str, Any]:
    return {
        "processor_class": kind,
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
    }


def tiny_llava(folder: Path, *, pad: bool = False, seed: int = 0) -> Path:
    """Save a random LLaVA-1.5: 25 tokens of the square in the image's middle; `pad`: of the image padded to a square.

    Its chat template lies in a file of its own, as the released one does.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    tokenizer = _llama_tokenizer(VICUNA)
    config = LlavaConfig(
        vision_config=_tower("clip_vision_model", 5 * PATCH),
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=25,
    )
    tokenizer.chat_template = None
    images = _clip_images("LlavaImageProcessor" if pad else "CLIPImageProcessor", 5 * PATCH)
    return save(
        folder,
        lambda: LlavaForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config={**images, "do_pad": pad} if pad else images,
        processor_config=_clip_processor("LlavaProcessor"),
        chat_template={"chat_template": VICUNA},
    )


def tiny_vipllava(folder: Path, *, seed: int = 0) -> Path:
    """Save a random ViP-LLaVA, which joins the outputs of several vision layers; no adapter of ours knows its name."""
    from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

    tokenizer = _llama_tokenizer(VICUNA)
    config = VipLlavaConfig(
        vision_config=_tower("clip_vision_model", 5 * PATCH),
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=[-2, 1],
    )
    images = _clip_images("CLIPImageProcessor", 5 * PATCH)
    processor = _clip_processor("LlavaProcessor")
    return save(
        folder,
        lambda: VipLlavaForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )


def tiny_llava_next(folder: Path, *, seed: int = 0) -> Path:
    """Save a random LLaVA-NeXT: tiles of 16 tokens, 2 to 4 of them beside the thumbnail."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    tokenizer, side = _llama_tokenizer(MISTRAL), 4 * PATCH
    grids = [[side * rows, side * columns] for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
    config = LlavaNextConfig(
        vision_config=_tower("clip_vision_model", side),
        text_config={"model_type": "mistral", **text_settings(tokenizer, sliding_window=None)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
    )
    images = _clip_images("LlavaNextImageProcessor", side, do_pad=True, image_grid_pinpoints=grids)
    return save(
        folder,
        lambda: LlavaNextForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=_clip_processor("LlavaNextProcessor"),
    )


def tiny_llava_next_video(folder: Path, *, seed: int = 0) -> Path:
    """Save a random LLaVA-NeXT-Video: pictures as LLaVA-NeXT, frames of 16 patches pooled to 4 tokens."""
    from transformers import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

    tokenizer, side = _llama_tokenizer(VICUNA, video_token="<video>"), 4 * PATCH
    grids = [[side * rows, side * columns] for rows, columns in ((1, 2), (2, 1), (2, 2))]
    config = LlavaNextVideoConfig(
        vision_config=_tower("clip_vision_model", side),
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
    )
    clips = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, "num_frames": 8}
    return save(
        folder,
        lambda: LlavaNextVideoForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=_clip_images("LlavaNextImageProcessor", side, do_pad=True, image_grid_pinpoints=grids),
        processor_config={**_clip_processor("LlavaNextVideoProcessor"), "video_token": "<video>"},
        video_preprocessor_config=clips,
    )


def tiny_llava_onevision(folder: Path, *, seed: int = 0) -> Path:
    """Save a random LLaVA-OneVision: tiles of 16 tokens, whose last two rows of pixels no patch covers, at most 64.

    Nine tiles are the most that an image is cut into; more than four are scaled down to four tiles' tokens.
    """
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
    tokenizer = word_tokenizer(
        specials, CHATML, eos="<|im_end|>", pad="<|endoftext|>", image_token="<image>", video_token="<video>"
    )
    side, ratio = 4 * PATCH + 2, "anyres_max_4"
    grids = [[side * rows, side * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    tower = {**_tower("siglip_vision_model", side), "vision_use_head": False}
    config = LlavaOnevisionConfig(
        vision_config=tower,
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        vision_aspect_ratio=ratio,
    )
    images = {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "processor_class": "LlavaOnevisionProcessor",
        "size": {"height": side, "width": side},
        "do_pad": True,
        "image_grid_pinpoints": grids,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "image_token": "<image>",
        "video_token": "<video>",
        "num_image_tokens": 16,
        "vision_aspect_ratio": ratio,
        "vision_feature_select_strategy": "full",
    }
    return save(
        folder,
        lambda: LlavaOnevisionForConditionalGeneration(config),
        tokenizer,
        seed,
        preprocessor_config=images,
        processor_config=processor,
    )

"""The checkpoint's own processor, in two halves: images apart from text, as an image is encoded before any question.

Processor classes of families that also take videos insist on a video processor, which needs torchvision. Here they are
built without one: only pictures are ever given to them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from PIL import Image

from pruning.models.checkpoint.damage import CLIPS, IMAGES, PROCESSOR, TOKENIZER, reading
from pruning.models.checkpoint.video import ClipLimits, clip_limits
from pruning.models.language import template
from pruning.models.values import Kind, ModelError, Turn

# SmolVLM's processor is Idefics3's plus video captions, for which alone it insists on another package. Thinkers go by
# the name of the whole model.
SAME_FOR_IMAGES = {
    "smolvlm": "idefics3",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe",
}
NAMING = (*PROCESSOR[:1], *IMAGES[:1], "tokenizer_config.json")  # files that may name the processor's class


class Processing:
    """Pictures -> tower inputs and the text that stands for them; conversation -> token ids."""

    def __init__(self, processor: Any, clips: ClipLimits | None = None, clip_template: str = "") -> None:
        self.processor = processor
        self.clips = clips or ClipLimits()
        self.tokenizer: Any = processor.tokenizer
        self.image_processor: Any = processor.image_processor
        # What its class asks of the image processor, whatever that one's own file says.
        self.asked: dict[str, Any] = dict(getattr(processor, "images_kwargs", None) or {})
        # What the chat template writes for an image.
        self.placeholder: str = str(getattr(processor, "image_placeholder_token", None) or processor.image_token)
        # HunYuan-VL's processor takes no image without the marks that its template writes around.
        around = ("image_start_token", "image_end_token") if hasattr(processor, "cat_extra_token") else ()
        start, end = (getattr(processor, name) for name in around) if around else ("", "")
        self._written = f"{start}{self.placeholder}{end}"  # what an image is written as before a processor sees it
        named = getattr(processor, "video_token", None) or getattr(self.tokenizer, "video_token", None)
        self.marks: dict[Kind, str] = {"image": self.placeholder, "video": named or "<video>"}
        self.template: Any = template.default(processor.chat_template or self.tokenizer.chat_template)
        self.clip_template: Any = clip_template or self.template  # of conversations with clips

    def images(self, images: Sequence[Image.Image], options: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Inputs of the model for RGB images (`pixel_values`, …), and for each image its text in the prompt.

        options: of the image processor. Raises ValueError for an image that the processor refuses.
        """
        batch = self.processor(
            images=[list(images)],
            text=[self._written * len(images)],
            return_tensors="pt",
            return_text_replacement_offsets=True,
            images_kwargs=options,
        )
        if "text_replacement_offsets" not in batch:
            raise ValueError("the processor does not tell what stands for an image in the prompt")
        texts = tuple(piece["replacement"] for piece in batch.pop("text_replacement_offsets")[0])
        words = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}
        return {name: value for name, value in batch.items() if name not in words}, texts

    def whole(self, images: Sequence[Image.Image], question: str) -> dict[str, Any]:
        """The library's own inputs for one question about images: what `images` and `ids` must amount to."""
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        return dict(inputs)

    def ids(
        self, question: str, history: Sequence[Turn], texts: Sequence[str], kinds: Sequence[Kind] = ()
    ) -> list[int]:
        """Token ids of the conversation up to the answer to `question`; images and clips come before its first
        question, each with its text.

        kinds: of each text's medium; (): images. Raises ModelError where the chat template fails on it.
        """
        image: Kind = "image"
        every = kinds or [image] * len(texts)
        media = [(kind, self.marks[kind]) for kind in every]
        written = self.clip_template if "video" in every else self.template
        rendered = template.render(self.tokenizer, written, question, history, media)
        text = ""
        for (_, mark), medium in zip(media, texts, strict=True):
            before, _, rendered = rendered.partition(mark)
            text += before + medium
        text += rendered
        begin = self.tokenizer.bos_token
        written = begin is not None and text.startswith(begin)  # by the template: the tokenizer must not repeat it
        ids: list[int] = self.tokenizer(text, add_special_tokens=not written).input_ids
        return ids


def build(source: str, config: Any) -> Processing:
    """The processor of a checkpoint's folder.

    Raises:
        ModelError: a file of it that cannot be read. ImportError: a package that it needs. ValueError: a type without.
    """
    import transformers
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = SAME_FOR_IMAGES.get(config.model_type, config.model_type)
    named = None if kind != config.model_type else _named(source)
    if named is None and kind not in PROCESSOR_MAPPING_NAMES:
        raise ValueError(f"the model library has no processor for models of type {config.model_type}")
    base = getattr(transformers, named or PROCESSOR_MAPPING_NAMES[kind])

    class ImagesOnly(base):  # type: ignore[misc, valid-type]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            same = argument is None or argument_name == "video_processor"
            return None if same else super().check_argument_for_proper_class(argument_name, argument)

    ImagesOnly.__name__ = base.__name__  # which the library looks its settings up by
    with reading(source, "its processor", PROCESSOR):
        settings, _ = base.get_processor_dict(source)
    settings |= _unsaid(base, settings, config)
    for what, files in (("image processor", IMAGES), ("tokenizer", (*TOKENIZER, "tokenizer.model", "tekken.json"))):
        if not any((Path(source) / name).is_file() for name in files):
            raise ModelError(
                f"{source} has no {what}, of which {files[0]} says what it is: copy it from the original checkpoint"
            )
    with reading(source, "its image processor", IMAGES):
        try:
            images = AutoImageProcessor.from_pretrained(source, backend="pil", trust_remote_code=False)
        except ValueError as error:
            alone = re.search(r"torchvision: (\w+)", str(error))
            if alone is None or find_spec("torchvision") is not None:
                raise
            raise ImportError(f"{alone[1]} requires the Torchvision library") from error
    with reading(source, "its tokenizer", TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    parts = {"image_processor": images, "tokenizer": tokenizer}
    arguments = {name: parts.get(name) for name in base.get_attributes()}
    with reading(source, "its processor", (*PROCESSOR, *IMAGES[:1])):
        try:
            made = ImagesOnly.from_args_and_dict(list(arguments.values()), settings)
        except AttributeError:  # it looks at settings of the video processor, which are those of pictures
            filled = [images if name == "video_processor" else value for name, value in arguments.items()]
            made = ImagesOnly.from_args_and_dict(filled, settings)
    return with_clips(made, source, config)


def _named(source: str) -> str | None:
    """The class of processor that a checkpoint's own files name, where the model library has it."""
    import transformers

    for name in NAMING:
        file = Path(source) / name
        if file.is_file():
            with reading(source, "its processor", (name,)):
                said = json.loads(file.read_text("utf-8"))
            named = said.get("processor_class") if isinstance(said, dict) else None
            if isinstance(named, str) and named.endswith("Processor") and hasattr(transformers, named):
                return named
    return None


def _unsaid(base: Any, settings: dict[str, Any], config: Any) -> dict[str, Any]:
    """What a processor must know of the tower and checkpoints of its first years do not tell it, from the model's own
    settings: the library then looked at them when the model ran.
    """
    known = {
        "patch_size": getattr(config.vision_config, "patch_size", None),
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
        "num_additional_image_tokens": int(config.vision_config.model_type == "clip_vision_model"),  # CLS
    }
    if known.keys() - signature(base.__init__).parameters.keys():
        return {}
    return {name: value for name, value in known.items() if settings.get(name) is None}


def with_clips(processor: Any, folder: Path | str | None, config: Any) -> Processing:
    """The processor, with what its checkpoint says of clips. folder: of the checkpoint; None where it is not known.

    Raises ModelError for a file that cannot be read, or says of clips what cannot be.
    """
    own = _smolvlm() if config.model_type == "smolvlm" else ""
    if folder is None:
        return Processing(processor, None, own)
    with reading(folder, "what it says of clips", CLIPS):
        return Processing(processor, clip_limits(folder), own)


def needs_torchvision(model_type: str) -> bool:
    """Whether the library's own processor of this type takes clips too: without torchvision it is not built."""
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    return model_type in VIDEO_PROCESSOR_MAPPING_NAMES


def _smolvlm() -> str:
    """The template that the library takes for every conversation of SmolVLM with a clip: released ones know none."""
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

    return str(DEFAULT_CHAT_TEMPLATE)

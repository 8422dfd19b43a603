"""A model that somebody loaded, with the model library and for their own use: taken as it is, or refused with a reason.

Nothing of it is changed, moved or wrapped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from pruning.models.checkpoint.processing import Processing, with_clips
from pruning.models.families import family_of
from pruning.models.language import template, vocabulary
from pruning.models.proof.adapter import prove
from pruning.models.scorer import beside, load_scorer
from pruning.models.trained import beside as pruners_beside
from pruning.models.trained import load_pruner
from pruning.models.values import ModelError
from pruning.models.vlm import VLM

UNLIMITED = 1 << 24  # visual tokens of an image: the processor's own limits hold
OURS = ("transformers.", "accelerate.", "pruning.models.")  # their hooks record outputs, move tensors, or are ours


def adopt(
    model: Any,
    processor: Any,
    scorer: str | Path = "",
    pruner: str | Path = "",
    max_visual_tokens: int | None = None,
) -> VLM:
    """A VLM around a loaded model and its processor.

    scorer: folder or hub id of scorer weights; pruner: folder of modules that were trained to prune the model; "" looks
    beside the checkpoint, where that lies here. max_visual_tokens: of an image; None leaves it to the processor.

    Raises:
        ModelError: no model or processor of the model library, one that is compiled, wrapped, hooked, in training mode
            or on several devices, a family that cannot be pruned, a processor of another model, a scorer of another
            width, a trained pruner of another model.
    """
    check(model)
    family_type = family_of(model.config)
    width = int(model.config.get_text_config().hidden_size)
    folder = _folder(model)
    importance = load_scorer(scorer, width) if scorer else None if folder is None else beside(folder, width)
    vlm = VLM(
        family_type(model, _processing(processor, folder, model.config)),
        importance.to(model.device) if importance else None,
        model_id=str(model.name_or_path or type(model).__name__),
        title=Path(model.name_or_path or type(model).__name__).name,
        max_visual_tokens=max_visual_tokens or UNLIMITED,
        pruners=load_pruner(pruner, model) if pruner else None if folder is None else pruners_beside(folder, model),
        weights={"scorer": str(scorer), "pruner": str(pruner)},
    )
    vocabulary.check(vlm.family)
    if family_type.proves or model.config.model_type not in family_type.model_types:
        prove(vlm)
    return vlm


def check(model: Any) -> None:
    """Raise ModelError, with the remedy, for a model whose passes are not the model library's own."""
    from transformers import PreTrainedModel

    if hasattr(model, "_orig_mod"):
        raise _compiled("torch.compile(model) gave a wrapper", "hand over the model that you gave to torch.compile")
    if not isinstance(model, PreTrainedModel):
        remedy = "model.merge_and_unload()" if hasattr(model, "merge_and_unload") else "the model that it wraps"
        raise ModelError(
            f"the model is a {type(model).__name__}, not a model of the transformers library: hand over {remedy}"
        )
    if model.training:
        raise ModelError("the model is in training mode, where dropout changes every answer: call model.eval() first")
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise _compiled(f"{_called(name)} was compiled in place", "load the model anew and do not compile it")
        if "forward" in vars(module) and not hasattr(module, "_hf_hook"):
            raise ModelError(
                f"the forward of {_called(name)} has been replaced, so what this model does is not known: load it "
                "anew, without what patches it"
            )
        if hook := _foreign(module):
            raise ModelError(
                f"{_called(name)} has a forward hook already ({hook}): another tool is at work on this model; remove "
                "the hook (handle.remove()) or load the model anew"
            )
    devices = sorted({str(weight.device) for weight in model.parameters()})
    if (len(devices) > 1 or devices == ["meta"]) and not getattr(model, "hf_device_map", None):
        raise ModelError(
            f"the model's weights are on {' and '.join(devices)}, and nothing moves what passes between them: call "
            "model.to(device), or load it with device_map"
        )


def _compiled(what: str, remedy: str) -> ModelError:
    return ModelError(
        f"the model is compiled ({what}): its graph is made for one length and knows no hooks, and every pruned prompt "
        f"has another length; {remedy}"
    )


def _called(name: str) -> str:
    return f"the module {name}" if name else "the model"


def _foreign(module: nn.Module) -> str:
    """The name of a forward hook that no library of the model's own put there; "" without."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    known = [(getattr(hook, "__module__", "") or "", getattr(hook, "__qualname__", repr(hook))) for hook in hooks]
    return next((f"{home}.{name}" for home, name in known if not home.startswith(OURS)), "")


def _processing(processor: Any, folder: Path | None, config: Any) -> Processing:
    parts = ("tokenizer", "image_processor", "image_token")
    missing = [part for part in parts if getattr(processor, part, None) is None]
    if missing:
        raise ModelError(
            f"the processor is a {type(processor).__name__}, which has no {missing[0]}: hand over what "
            "AutoProcessor.from_pretrained gives for this checkpoint"
        )
    processing = with_clips(processor, folder, config)
    if processing.template is None:
        raise ModelError("the processor has no chat template: use the instruction-tuned checkpoint of this model")
    template.check(processing.tokenizer, processing.template, processing.placeholder)
    return processing


def _folder(model: Any) -> Path | None:
    """Of the model's checkpoint, where it lies on this machine: nothing is downloaded."""
    import huggingface_hub

    source = str(model.name_or_path or "")
    folder = Path(source)
    if source and not folder.is_dir():
        try:
            cached = huggingface_hub.try_to_load_from_cache(
                source, "config.json", revision=getattr(model.config, "_commit_hash", None)
            )
        except ValueError:  # no name that the hub could have
            return None
        folder = Path(cached).parent if isinstance(cached, str) else Path()
    return folder if source and (folder / "config.json").is_file() else None

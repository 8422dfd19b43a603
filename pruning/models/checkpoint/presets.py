"""Checkpoints that people run, with their size: the model menu, and what to suggest where a model does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pruning.models.checkpoint.devices import QUANTIZATIONS, check_choice, choose_device, choose_dtype
from pruning.models.checkpoint.footprint import Footprint, Need, Shape, Weights
from pruning.models.checkpoint.sources import SHIPPED

CLIP_L, SIGLIP_B, SIGLIP_SO, INTERN_VIT = (1024, 4096), (768, 3072), (1152, 4304), (1024, 4096)
QWEN2_VIT, QWEN2_5_VIT, QWEN3_VIT = (1280, 5120), (1280, 3420), (1024, 4096)
CONFIGURATION = "its configuration"


@dataclass(frozen=True)
class Preset:
    """A checkpoint of a supported family.

    Attributes:
        model_id: what `load` takes.
        family: its `model_type`.
        parameters: how many, about.
        embeddings: those of them in embeddings and vocabulary head, about; quantisation leaves them as they are.
        licence: its name.
        terms: what to know before using it, "" for free use.
        stored: bytes of a number in its files on the hub; 0: it needs no download.
        gated: to be had after its terms were accepted on the hub, by those who are logged in.
        photographs: whether it reads them, and not drawn pictures alone.
        documents: whether its makers say that it reads them; False: not known.
        source: where its sizes are from.
    """

    model_id: str
    title: str
    family: str
    parameters: int
    embeddings: int
    shape: Shape
    licence: str = "Apache 2.0"
    terms: str = ""
    stored: int = 2
    gated: bool = False
    photographs: bool = True
    documents: bool = False
    source: str = CONFIGURATION

    @property
    def download(self) -> int:
        """About how many bytes come from the hub."""
        return self.parameters * self.stored

    @property
    def footprint(self) -> Footprint:
        return Footprint(Weights(self.parameters - self.embeddings, self.embeddings), self.shape)

    def need(self, dtype: str = "auto", quantization: str = "none", device: str = "auto") -> Need:
        """About what it takes on the device. ValueError for an unknown dtype or quantization."""
        check_choice("quantization", quantization, QUANTIZATIONS)
        return self.footprint.need(choose_dtype(dtype, choose_device(device)), quantization)


def _hub(
    model_id: str,
    family: str,
    billions: tuple[float, float],
    language: tuple[int, int, int, int],
    tower: tuple[int, int],
    licence: str = "Apache 2.0",
    terms: str = "",
    stored: int = 2,
    gated: bool = False,
    documents: bool = False,
    source: str = CONFIGURATION,
) -> Preset:
    """billions: of all parameters, of embeddings and head. language: layers, hidden, MLP and key-value width."""
    parameters, embeddings = (round(b * 1e9) for b in billions)
    title, shape = model_id.rpartition("/")[2], Shape(*language, *tower)
    return Preset(
        model_id, title, family, parameters, embeddings, shape, licence, terms, stored, gated, True, documents, source
    )


FLOAT32 = 4  # bytes
QUICK = {"cpu": 300_000_000}
"""Kind of device -> parameters of a model that still answers there while a visitor waits; no entry: any."""

_LLAMA2 = ("Llama 2 Community License", "Llama 2 Community License: Meta's terms")
_COUNTED = "its configuration as bykof/peekaboolean counts it"
_INTERN = "its documentation, for totals; the configuration of its Qwen3 language model"
_OCR = "its configuration, which makes more than the 0.9 billion that its makers name"
_E4B = "the configuration of google/gemma-4-E4B, from which it was tuned"
_QWEN_7B, _QWEN_05B = (28, 3584, 18944, 512), (24, 896, 4864, 128)
_VICUNA_7B = (32, 4096, 11008, 4096)

PRESETS: tuple[Preset, ...] = (
    Preset(
        str(SHIPPED),
        "scenes-vlm, ships with the project",
        "qwen2_5_vl",
        parameters=2_960_000,
        embeddings=20_000,
        shape=Shape(4, 192, 512, 64, 128, 384),
        terms="knows drawn scenes only, no photographs",
        stored=0,
        photographs=False,
    ),
    _hub("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", (3.75, 0.31), (36, 2048, 11008, 256), QWEN2_5_VIT,
         "Qwen Research License", "Qwen Research License: not for commercial use", documents=True),
    _hub("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", (8.29, 1.09), _QWEN_7B, QWEN2_5_VIT, documents=True),
    _hub("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", (2.13, 0.31), (28, 2048, 6144, 1024), QWEN3_VIT, documents=True),
    _hub("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", (4.44, 0.39), (36, 2560, 9728, 1024), QWEN3_VIT, documents=True),
    _hub("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", (8.77, 1.25), (36, 4096, 12288, 1024), SIGLIP_SO, documents=True),
    _hub("Qwen/Qwen3.5-0.8B", "qwen3_5", (0.85, 0.25), (24, 1024, 3584, 512), SIGLIP_B, source=_COUNTED),
    _hub("llava-hf/llava-1.5-7b-hf", "llava", (7.06, 0.26), _VICUNA_7B, CLIP_L, *_LLAMA2),
    _hub("llava-hf/llava-v1.6-vicuna-7b-hf", "llava_next", (7.06, 0.26), _VICUNA_7B, CLIP_L, *_LLAMA2),
    _hub("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava_onevision", (0.89, 0.14), _QWEN_05B, SIGLIP_SO),
    _hub("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava_onevision", (8.03, 1.09), _QWEN_7B, SIGLIP_SO),
    _hub("OpenGVLab/InternVL3_5-1B-HF", "internvl", (1.06, 0.31), (28, 1024, 3072, 1024), INTERN_VIT, source=_INTERN),
    _hub("OpenGVLab/InternVL3_5-2B-HF", "internvl", (2.35, 0.62), (28, 2048, 6144, 1024), INTERN_VIT, source=_INTERN),
    _hub("OpenGVLab/InternVL3_5-4B-HF", "internvl", (4.73, 0.78), (36, 2560, 9728, 1024), INTERN_VIT, source=_INTERN),
    _hub("OpenGVLab/InternVL3_5-8B-HF", "internvl", (8.53, 1.24), (36, 4096, 12288, 1024), INTERN_VIT, source=_INTERN),
    _hub("openbmb/MiniCPM-V-4.6", "minicpmv4_6", (1.3, 0.25), (24, 1024, 3584, 512), SIGLIP_SO, documents=True),
    _hub("zai-org/GLM-OCR", "glm_ocr", (1.11, 0.18), (16, 1536, 4608, 1024), (1024, 4096), "MIT", source=_OCR,
         documents=True),
    _hub("zai-org/GLM-4.6V-Flash", "glm4v", (10.29, 1.24), (40, 4096, 13696, 256), (1536, 4096), "MIT",
         documents=True),
    _hub("google/gemma-4-E2B-it", "gemma4", (5.1, 2.75), (35, 1536, 12288, 512), (768, 3072)),
    _hub("google/gemma-4-E4B-it", "gemma4", (8.0, 3.49), (42, 2560, 10240, 1024), (768, 3072), source=_E4B),
    _hub("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "smolvlm", (0.256, 0.057), (30, 576, 1536, 192), SIGLIP_B,
         stored=FLOAT32),
    _hub("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "smolvlm", (0.507, 0.095), (32, 960, 2560, 320), SIGLIP_B,
         stored=FLOAT32),
    _hub("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm", (2.25, 0.2), (24, 2048, 8192, 2048), SIGLIP_SO,
         stored=FLOAT32),
    _hub("google/gemma-3-4b-it", "gemma3", (4.3, 0.67), (34, 2560, 10240, 1024), SIGLIP_SO,
         "Gemma Terms of Use", "Gemma Terms of Use: accept them on the hub first, and run `hf auth login`", gated=True),
)  # fmt: skip
"""The shipped model first, then family by family, small before large."""


def known(model_id: str) -> Preset | None:
    """The preset of that id."""
    return next((preset for preset in PRESETS if preset.model_id == model_id), None)


def best_that_fits(fits: Callable[[Preset], bool], kind: str = "") -> Preset | None:
    """The preset with the most parameters of those that read photographs, can be had by everyone, and fit.

    kind: of the device, "cpu" and so on, where it shall also answer while somebody waits.
    """
    most = QUICK.get(kind)
    found = (p for p in PRESETS if p.photographs and not p.gated and (most is None or p.parameters <= most) and fits(p))
    return max(found, key=lambda preset: preset.parameters, default=None)

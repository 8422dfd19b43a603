"""Tiny, randomly initialised checkpoints, written to disk like any released one (under a second, well below 1 MB).

They answer nonsense. What they prove is the plumbing: loading, positions, pruning, signals, streaming.
"""

from collections.abc import Callable
from pathlib import Path

from tests.checkpoints.gemma3 import tiny_gemma3
from tests.checkpoints.idefics3 import tiny_idefics3, tiny_smolvlm
from tests.checkpoints.internvl import tiny_internvl
from tests.checkpoints.llava import (
    tiny_llava,
    tiny_llava_next,
    tiny_llava_next_video,
    tiny_llava_onevision,
    tiny_vipllava,
)
from tests.checkpoints.qwen3_vl import tiny_qwen3_vl
from tests.checkpoints.qwen_vl import tiny_qwen2_5_vl, tiny_qwen2_vl

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen2-vl": tiny_qwen2_vl,
    "qwen2.5-vl": tiny_qwen2_5_vl,
    "qwen3-vl": tiny_qwen3_vl,
    "llava": tiny_llava,
    "vipllava": tiny_vipllava,
    "llava-next": tiny_llava_next,
    "llava-next-video": tiny_llava_next_video,
    "llava-onevision": tiny_llava_onevision,
    "internvl": tiny_internvl,
    "idefics3": tiny_idefics3,
    "smolvlm": tiny_smolvlm,
    "gemma3": tiny_gemma3,
}
"""Name -> function that saves a checkpoint into a folder and returns that folder."""

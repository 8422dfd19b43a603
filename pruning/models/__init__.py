"""Vision-language models as pruning sees them: encode once, prune, generate on the kept tokens.

`load` opens a checkpoint, `VLM` is what it returns. What a family does differently sits in a file of its own.
"""

from pruning.models.checkpoint.sources import SHIPPED
from pruning.models.language.kv_cache import ConversationCache
from pruning.models.loading import hide_progress, limit_threads, load
from pruning.models.scorer import Scorer
from pruning.models.values import Answer, Chunk, Encoded, Kept, ModelError, Prompt, Sample, Turn
from pruning.models.vlm import VLM
from pruning.models.world import InWorld, in_world

__all__ = [
    "SHIPPED",
    "VLM",
    "Answer",
    "Chunk",
    "ConversationCache",
    "Encoded",
    "InWorld",
    "Kept",
    "ModelError",
    "Prompt",
    "Sample",
    "Scorer",
    "Turn",
    "hide_progress",
    "in_world",
    "limit_threads",
    "load",
]

"""From training checkpoints to the folder that `pruning.models.load` reads."""

from __future__ import annotations

from pathlib import Path

from pruning.models import Scorer
from pruning.training import language, loop
from pruning.training.shipped import save_model


def export(folder: Path, out: Path) -> None:
    """Write the model in `folder`, and its scorer where there is one, to `out`.

    Raises FileNotFoundError when it is not trained yet.
    """
    model = language.trained(folder)
    out.mkdir(parents=True, exist_ok=True)
    save_model(model.half(), out)
    width = model.config.text_config.hidden_size
    scorer = Scorer(width, width // 2)
    if loop.restore(folder / "scorer.pt", {"scorer": scorer}):
        scorer.save(out)

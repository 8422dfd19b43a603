"""From training checkpoints to the folder that `pruning.models.load` reads."""

from __future__ import annotations

from pathlib import Path

from pruning.models import Scorer
from pruning.training import loop
from pruning.training.shipped import new_model, save_model


def export(folder: Path, out: Path) -> None:
    """Write the model of the latest stage in `folder`, and its scorer where there is one, to `out`.

    Raises FileNotFoundError when nothing was trained yet.
    """
    model = new_model()
    visual, language = model.model.visual, model.model.language_model
    if not loop.restore(folder / "joint.pt", {"visual": visual, "language": language}):
        trained = loop.restore(folder / "vision.pt", {"visual": visual})
        if not (trained and loop.restore(folder / "language.pt", {"language": language})):
            raise FileNotFoundError(f"{folder} has no trained model: run `python -m pruning.training model` first")
    out.mkdir(parents=True, exist_ok=True)
    save_model(model.half(), out)
    width = model.config.text_config.hidden_size
    scorer = Scorer(width, width // 2)
    if loop.restore(folder / "scorer.pt", {"scorer": scorer}):
        scorer.save(out)

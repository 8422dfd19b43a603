"""How models come into memory here: the operator's options, the sizes of what they allow, the load itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.settings import AUTO, Settings

if TYPE_CHECKING:
    from pruning.models import VLM
    from pruning.models.checkpoint.presets import Preset

Tell = Callable[[str, "float | None"], None]


@dataclass(frozen=True)
class Listed:
    """A model that visitors may choose.

    name: what the page and the API call it (a hub id, or the name of a folder: no visitor sees the server's paths)
    model_id: what `load` takes; parameters: None where it is not known before loading; note: what to know before it
    is used; licence: its name, "" where it is not known.
    """

    name: str
    model_id: str
    title: str
    parameters: int | None = None
    note: str = ""
    licence: str = ""


class Loader:
    """Loads with the same options every time; `--scorer` and `--pruner` belong to the start-up model alone."""

    def __init__(self, settings: Settings) -> None:
        import torch

        from pruning.models.checkpoint.devices import choose_device

        self._settings = settings
        self.device = str(choose_device(settings.device))
        self._needs: dict[str, int | None] = {}
        self._threads, self._all_small = torch.get_num_threads(), True

    def load(self, model_id: str, tell: Tell | None = None) -> VLM:
        """Raises ValueError that names cause and remedy."""
        from pruning.models import SHIPPED, load

        s = self._settings
        starts = model_id == (s.model or str(SHIPPED))
        vlm = load(
            model_id,
            device=s.device,
            dtype=s.dtype,
            quantization=s.quantization,
            attention=s.attention,
            device_map=s.device_map,
            scorer=s.scorer if starts else "",
            pruner=s.pruner if starts else "",
            progress=tell,
        )
        self._share_threads(vlm)
        return vlm

    def need(self, model_id: str, ask_hub: bool = False) -> int | None:
        """Bytes that it takes, weights and work; None where that cannot be known, or only from the hub.

        ask_hub: ask there too, which takes its time; the answer is remembered.
        """
        from pruning.models.checkpoint import memory
        from pruning.models.checkpoint.presets import known

        s = self._settings
        if self._needs.get(model_id) is None:
            preset = known(model_id)
            footprint = None
            if preset is not None:
                footprint = preset.need(s.dtype, s.quantization, s.device)
            elif ask_hub or (model_id not in self._needs and Path(model_id).expanduser().is_dir()):
                with suppress(ValueError):  # what is wrong with it is said when it is loaded
                    footprint = memory.estimate(model_id, s.dtype, s.quantization, device=s.device)
            self._needs[model_id] = None if footprint is None else footprint.total
        return self._needs[model_id]

    def download(self, model_id: str) -> int:
        """About how many bytes of it are still to come from the hub; 0 where that is not known."""
        from pruning.models.checkpoint import hub
        from pruning.models.checkpoint.presets import known

        preset = known(model_id)
        return 0 if preset is None or not preset.download or hub.present(model_id) else preset.download

    def disk(self) -> int:
        """Bytes that the folder of downloads has to spare."""
        from pruning.models.checkpoint import transfer

        return transfer.room()

    def fits(self, preset: Preset) -> bool:
        """Whether a preset that is not loaded fits on device and disk now."""
        need = preset.need(self._settings.dtype, self._settings.quantization, self._settings.device)
        return need.total <= self.free() and self.download(preset.model_id) <= self.disk()

    def _share_threads(self, vlm: VLM) -> None:
        """One CPU thread as long as all models are small, else as many as there were."""
        import torch

        from pruning.models import limit_threads
        from pruning.models.loading import SMALL

        self._all_small &= vlm.model.num_parameters() < SMALL
        torch.set_num_threads(self._threads)
        if self._all_small:
            limit_threads(vlm)

    def free(self) -> int:
        """Bytes that the device has to spare now; with a device map, all devices together."""
        import torch

        from pruning.models.checkpoint.memory import free_bytes

        devices = [torch.device(self.device)]
        if self._settings.device_map:
            gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
            devices = [*gpus, torch.device("cpu")]
        return sum(free_bytes(device) for device in devices)


def listed(ids: Sequence[str], fits: Callable[[Preset], bool]) -> tuple[Listed, ...]:
    """The models behind ids, folders and the words "presets" and "auto", each once, in the order given.

    fits: whether a preset shall be among those that "auto" stands for, which come smallest first.

    Raises ValueError for what can be neither a checkpoint's folder nor a hub id, and for two folders of one name.
    """
    from pruning.models import SHIPPED
    from pruning.models.checkpoint import sources
    from pruning.models.checkpoint.presets import PRESETS, known

    words = {
        "presets": [preset.model_id for preset in PRESETS],
        AUTO: [p.model_id for p in sorted(PRESETS, key=lambda p: p.parameters) if fits(p)] if AUTO in ids else [],
    }
    wanted = [m for given in ids for m in words.get(given, [given or str(SHIPPED)])]
    by_name: dict[str, Listed] = {}
    for model_id in dict.fromkeys(wanted):
        preset, source = known(model_id), sources.checked(model_id)
        name = sources.known_name(source)
        if name in by_name:
            raise ValueError(f"--models names two checkpoints called {name!r}: rename one, so that visitors can choose")
        title = preset.title if preset else name.rpartition("/")[2]
        told = (preset.parameters, preset.terms, preset.licence) if preset else (None, "", "")
        by_name[name] = Listed(name, model_id, title, *told)
    return tuple(by_name.values())

"""Command line and environment → one frozen `Settings`. Knows neither Gradio nor a model.

Every option has an environment variable: `IDPRUNER_` + its name in capitals (`IDPRUNER_UPLOAD_LIMIT=10`). The command
line wins over the environment. On a Hugging Face Space (`SPACE_ID` is set) and in containers that set
`GRADIO_SERVER_NAME`, `GRADIO_SERVER_PORT` or `GRADIO_ROOT_PATH`, these give host, port and root path unless an option
or `IDPRUNER_…` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.engine.joining import MOST_TOKENS
from app.web import address
from pruning.assets import version
from pruning.cli import console

PREFIX = "IDPRUNER_"
NAME = "idpruner-lab"  # of the installed script
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "8bit", "4bit")
ATTENTIONS = ("auto", "sdpa", "eager", "flash_attention_2")
AUTO = "auto"
RUNS = "runs"  # where the command line's examples put them
DEVICE_MAPS = ("", "auto", "balanced", "balanced_low_0", "sequential")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the app is served. Raises ValueError, naming value, rule and remedy, for anything out of range."""

    model: str = ""  # empty: the model that ships with the project
    models: str = AUTO  # what else visitors may load: hub ids and folders with commas between; "presets"; "auto"
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    attention: str = "auto"
    device_map: str = ""  # empty: the whole model on one device
    scorer: str = ""  # empty: the one beside the checkpoint
    pruner: str = ""  # empty: those beside the checkpoint
    host: str = "127.0.0.1"
    port: int = 7860
    root_path: str = ""  # "/lab" or "https://example.org/lab": where a proxy serves the page, no slash at its end
    share: bool = False
    mcp: bool = False
    auth: str = ""  # "user:password", several separated by commas
    upload_limit: float = 20.0  # megabytes
    cache: float = 1024.0  # megabytes
    joined: int = MOST_TOKENS  # tokens
    runs: str = AUTO  # folder with runs of race and training; "auto": RUNS on one person's own machine, elsewhere none

    def __post_init__(self) -> None:
        kind = self.device.split(":")[0]
        _require(kind in DEVICES, "device", self.device, f"one of {', '.join(DEVICES)}, or cuda:1 and so on")
        _require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        _require(
            self.quantization in QUANTIZATIONS, "quantization", self.quantization, f"one of {', '.join(QUANTIZATIONS)}"
        )
        _require(self.attention in ATTENTIONS, "attention", self.attention, f"one of {', '.join(ATTENTIONS)}")
        maps = f"empty, or one of {', '.join(DEVICE_MAPS[1:])}"
        _require(self.device_map in DEVICE_MAPS, "device-map", self.device_map, maps)
        empty = self.models.strip() and any(not part.strip() for part in self.models.split(","))
        _require(not empty, "models", self.models, "hub ids or folders with one comma between, presets, or auto")
        object.__setattr__(self, "host", address.host(self.host))
        object.__setattr__(self, "root_path", address.root_path(self.root_path))
        _require(0 <= self.port <= 65535, "port", self.port, "a whole number from 0 to 65535")
        _require(0 < self.upload_limit <= 1000, "upload-limit", self.upload_limit, "megabytes above 0, at most 1000")
        _require(0 < self.cache <= 1_000_000, "cache", self.cache, "megabytes above 0")
        _require(0 <= self.joined <= 1_000_000, "joined", self.joined, "a whole number of tokens, 0 for one by one")
        self.credentials()
        safe = not (self.mcp and self.auth.strip())
        _require(
            safe, "mcp", self.mcp, "off where --auth is set: its clients cannot log in, and would be let in unasked"
        )

    @property
    def prefix(self) -> str:
        """What the paths of a visitor's requests begin with: "/lab", or nothing."""
        return urlsplit(self.root_path).path

    @property
    def model_ids(self) -> list[str]:
        """What visitors may choose, the start-up model first; AUTO stands for what fits one person's own machine."""
        named = (part.strip() for part in self.models.split(",") if part.strip())
        return [self.model, *(part for part in named if part != AUTO or self.own_machine)]

    @property
    def runs_folder(self) -> Path | None:
        """The folder with the runs that the page shows; None where it shows none."""
        if self.runs == AUTO:
            return Path(RUNS) if self.own_machine else None
        return Path(self.runs).expanduser() if self.runs.strip() else None

    @property
    def own_machine(self) -> bool:
        """Whether it is one person's own: nobody comes from elsewhere, by a proxy's path or a link, or logs in."""
        return address.is_loopback(self.host) and not (self.share or self.root_path or self.auth.strip())

    def credentials(self) -> list[tuple[str, str]] | None:
        """The (user, password) pairs of `auth`; None where the app is open to all who reach the port."""
        if not self.auth.strip():
            return None
        pairs = [entry.strip().partition(":") for entry in self.auth.split(",")]
        # The value is a secret: the message must not repeat it.
        _require(all(u and p for u, _, p in pairs), "auth", "(not shown)", "user:password, several with commas between")
        return [(user, password) for user, _, password in pairs]


_HELP: Mapping[str, str] = {
    "model": "hub id or local folder of the checkpoint (default: the small model that ships with the project)",
    "models": "what else visitors may load: hub ids or folders with commas between, or presets for all known ones; "
    "auto offers those that fit on one person's own machine (a loopback --host without --root-path, --share and "
    "--auth), and nothing elsewhere; empty: nothing",
    "device": "auto picks cuda, then mps, then cpu; or name one",
    "dtype": "auto picks what suits device and checkpoint; or name one",
    "quantization": "8bit or 4bit weights (needs cuda and bitsandbytes)",
    "attention": "attention kernel of all models; auto leaves it to the model library",
    "device_map": "auto, balanced, balanced_low_0 or sequential spread a model over all devices; empty: one device",
    "scorer": "folder or hub id of importance scorer weights for --model (default: those beside the checkpoint)",
    "pruner": "folder of modules trained to prune --model (default: those beside the checkpoint)",
    "host": "address to listen on; 0.0.0.0 lets other machines in",
    "port": "port to listen on; 0 takes any that is free",
    "root_path": "path such as /lab under which a proxy serves the page; or its whole address, where it does not tell",
    "share": "also open a public link through Gradio's relay",
    "mcp": "also serve the named endpoints as MCP tools (needs requirements-mcp.txt)",
    "auth": "user:password that visitors must give; several with commas between",
    "upload_limit": "largest image file a visitor may send, in megabytes",
    "cache": "memory for encoded images and results, in megabytes",
    "joined": "most tokens of visitors' questions that go through a model in one pass, padding included; 0: one by one",
    "runs": "folder with runs of the race and of training, which all visitors see; auto is none, but on one person's "
    f"own machine {RUNS}, where races are started on the page too",
}


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from `arguments` (without the program's name) over `environment`.

    Exits with code 2 and a message on standard error where a value is wrong, as argparse does.
    """
    program = console.program(NAME, "python app.py")
    parser = argparse.ArgumentParser(prog=program, description="IDPruner Lab: visual token pruning, on a page.")
    parser.add_argument("--version", action="version", version=f"IDPruner Lab {version()}")
    values = _from_hosting(environment)
    for field in fields(Settings):
        flag, name, variable = f"--{field.name.replace('_', '-')}", field.name, PREFIX + field.name.upper()
        help_text = f"{_HELP[name]} [{variable}; default: {field.default!r}]".replace("%", "%%")
        convert = _CONVERT[type(field.default)]
        if field.type == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=help_text)
        else:
            parser.add_argument(flag, type=_named(convert, flag), default=None, metavar="VALUE", help=help_text)
        if variable in environment:
            try:
                values[name] = convert(environment[variable])
            except ValueError as error:
                shown = "(not shown)" if name == "auth" else repr(environment[variable])
                parser.error(f"environment variable {variable}={shown}: {error}; correct or unset it")
    given = vars(parser.parse_args(list(arguments)))
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        return Settings(**values)
    except ValueError as error:
        parser.error(str(error))


def _from_hosting(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if environment.get("SPACE_ID"):
        values["host"] = "0.0.0.0"  # the Space's proxy reaches the app from another address
    if environment.get("GRADIO_SERVER_NAME"):
        values["host"] = environment["GRADIO_SERVER_NAME"]
    if environment.get("GRADIO_SERVER_PORT", "").isdigit():
        values["port"] = int(environment["GRADIO_SERVER_PORT"])
    if environment.get("GRADIO_ROOT_PATH"):
        values["root_path"] = environment["GRADIO_ROOT_PATH"]
    return values


def _flag(text: str) -> bool:
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise ValueError("must be true or false (1, yes, on / 0, no, off)")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


_CONVERT: Mapping[type, Callable[[str], Any]] = {str: str, int: _whole, float: _number, bool: _flag}


def _named(convert: Callable[[str], Any], flag: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    read.__name__ = flag.lstrip("-")
    return read


def _require(good: bool, name: str, value: object, rule: str) -> None:
    if not good:
        raise ValueError(f"--{name} is {value!r}: must be {rule}")

"""The package: what it declares is what the code needs, and what it carries works far from the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from app.examples import EXAMPLES
from app.web import scripts, theme
from benchmarks.server import PATIENCE, READY
from pruning import METHODS, assets, templates
from pruning.bibliography import bibtex
from pruning.models import SHIPPED, load

ROOT = assets.PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULES = {
    "xdist": "pytest-xdist",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
}  # imported by another name than that of their package
PLUGINS = {  # imported where it is there: by a program that brings what it plugs into, or with the PyTorch of a GPU
    "pruning/race/harness.py": {"lmms_eval"},
    "pruning/ops/persistent_kernel.py": {"triton"},
}
QUESTION = "how many crosses are there?"
NOBODY = 65534


def requirements(name: str) -> list[str]:
    """The requirements that a file states itself, without their comments."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-r ")]


def plain(requirement: str) -> str:
    """The name of the package, as everyone spells it."""
    return re.split(r"[\[<>=!~ ;]", requirement)[0].lower().replace("_", "-")


def test_requirements_are_those_of_the_package() -> None:
    extras = PROJECT["optional-dependencies"]
    assert requirements("requirements.txt") == PROJECT["dependencies"]
    assert requirements("requirements-mcp.txt") == extras["mcp"]
    assert ["idpruner-lab[mcp]", *requirements("requirements-dev.txt")] == extras["dev"]
    for name in ("requirements.txt", "requirements-mcp.txt", "requirements-dev.txt"):
        stated = [line for line in (ROOT / name).read_text("utf-8").splitlines() if line[:1].isalpha()]
        assert all("  # " in line for line in stated), f"{name}: say what each is for"


def test_all_that_is_imported_is_declared() -> None:
    runtime = set(map(plain, PROJECT["dependencies"]))
    dev = runtime | {plain(each) for extra in PROJECT["optional-dependencies"].values() for each in extra} | {"mcp"}
    for top, declared in (("app", runtime), ("pruning", runtime), ("benchmarks", dev), ("tests", dev)):
        for path in (ROOT / top).rglob("*.py"):
            brought = PLUGINS.get(path.relative_to(ROOT).as_posix(), set())
            missing = {name for name in imported(path) - brought if plain(MODULES.get(name, name)) not in declared}
            assert not missing, f"{path} imports {missing}: pyproject.toml and the requirements don't name it"


def imported(path: Path) -> set[str]:
    """The packages of others that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - {
        *sys.stdlib_module_names,
        "app",
        "pruning",
        "benchmarks",
        "tests",
    }


def test_the_lock_is_within_the_requirements_and_serves_every_device() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    pins = dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in text.splitlines()[1:])
    locked = {plain(name): Version(version) for name, version in pins.items()}
    for stated in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"][1:]]:
        required = Requirement(stated)
        assert required.specifier.contains(locked[plain(required.name)]), stated
    for script in (".ci/run", ".ci/lock"):
        source = (ROOT / script).read_text("utf-8").replace('"', "")
        assert f"/pip install -q --no-compile torch=={locked['torch']}\n" in source.replace("  # as in .ci/run", "")
    assert "requirements-dev.txt -c constraints.txt" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_hooks_are_the_checks_of_ci() -> None:
    checks = re.findall(r"\.venv/bin/((?:ruff|mypy)[^&)\n]*[^&)\s])", (ROOT / ".ci" / "run").read_text("utf-8"))
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert hooks == checks
    assert len(checks) == 4


def test_documents_state_the_version_and_the_licence() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {PROJECT['version']}\nlicense: {PROJECT['license']}\n" in citation
    assert f"\n## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "\nlicense: apache-2.0\n" in (ROOT / "README.md").read_text("utf-8").split("\n---\n")[0]
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text("utf-8")


def test_the_image_is_made_of_files_that_are_there() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert {"constraints.txt", "pyproject.toml", "app", "pruning", "assets"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    assert f'ENTRYPOINT ["{list(PROJECT["scripts"])[1]}"]' in lines


def test_assets_are_found_in_one_place() -> None:
    for path in [path for top in ("app", "pruning", "benchmarks") for path in (ROOT / top).rglob("*.py")]:
        assert "__file__" not in path.read_text("utf-8"), f"{path}: files that come along are found by pruning.assets"
    with pytest.raises(assets.AssetError, match=r"examples/none\.png.*install it again"):
        assets.found("examples", "none.png")


def test_the_version_is_the_package_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert assets.version() == PROJECT["version"]
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "pruning")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "9"\n', "utf-8")
    monkeypatch.setattr("importlib.metadata.version", {"idpruner-lab": "1.2.3"}.__getitem__)
    assert assets.version() == "1.2.3"


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    pytest.importorskip("hatchling", reason="requirements-dev.txt has it")
    with tempfile.TemporaryDirectory() as folder:
        pip("wheel", ROOT, "--wheel-dir", folder, "--no-build-isolation")
        (built,) = Path(folder).glob("*.whl")
        yield built


def pip(*arguments: object) -> None:
    """Without a network, and with nothing that the environment does not have already."""
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments), *options], check=True)


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """A fresh environment with the wheel, far from the checkout; what it needs is found where this one has it."""
    folder = Path(tempfile.mkdtemp(prefix="idpruner-installed-"))
    try:
        folder.chmod(0o755)
        venv.create(folder / ".venv", with_pip=False)  # hidden, as many have it
        site = packages(folder)
        here = [path for path in sys.path if path.endswith("-packages")]
        (site / "shared.pth").write_text("\n".join(here), "utf-8")
        pip("--python", folder / ".venv", "install", wheel, "--ignore-installed")  # what is here must stay
        (folder / "elsewhere").mkdir()
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


def packages(folder: Path) -> Path:
    (site,) = (folder / ".venv").glob("lib/python*/site-packages")
    return site


def environment(**changes: str) -> dict[str, str]:
    """Without what could lead back to the checkout, or to the folder for uploads of a page that other tests opened."""
    left_out = ("PYTHONPATH", "IDPRUNER_", "GRADIO_")
    return {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | changes


def call(installed: Path, script: str, *arguments: object, **named: object) -> subprocess.CompletedProcess[str]:
    command = [installed / ".venv" / "bin" / script, *map(str, arguments)]
    named = {"cwd": installed / "elsewhere", "env": environment(), "timeout": PATIENCE, **named}
    return subprocess.run(command, capture_output=True, text=True, **named)


def opened(installed: Path, **named: object) -> None:
    """Start the page as a user does, look at it, and stop it."""
    command = [installed / ".venv" / "bin" / "idpruner-lab", "--port", "0"]
    named = {"cwd": installed / "elsewhere", "env": environment(), **named}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith(READY), line + server.stderr.read()
            url = line.removeprefix(READY).strip()
            page = httpx.get(url)
            assert page.status_code == 200
            assert "IDPruner Lab" in page.text
            script = httpx.get(f"{url}{scripts.place()}/canvas.js")
            assert script.content == assets.found("scripts", "canvas.js").read_bytes()
            example = packages(installed) / "pruning" / "_assets" / "examples" / "crowd.png"
            shown = httpx.get(f"{url}gradio_api/file={example}")
            assert shown.content == Path(EXAMPLES[1].path).read_bytes()
        finally:
            server.terminate()
        assert "Traceback" not in server.stderr.read()


def test_the_wheel_carries_what_it_needs(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.partition("/")[0] for name in names if ".dist-info" in name}
        told = message_from_string(archive.read(f"{info}/METADATA").decode())
    assert {name.partition("/")[0] for name in names} == {"app", "pruning", info}
    carried = {path.relative_to(assets.ROOT) for path in assets.ROOT.rglob("*") if path.is_file()}
    assert {f"pruning/_assets/{path.as_posix()}" for path in carried} <= names
    assert {"app/py.typed", "pruning/py.typed", f"{info}/licenses/LICENSE"} <= names
    assert (told["Version"], told["License-Expression"]) == (PROJECT["version"], "Apache-2.0")


@pytest.mark.slow
def test_the_installed_programs_work_in_another_folder(installed: Path) -> None:
    version = call(installed, "idpruner", "--version")
    assert (version.stdout, version.stderr) == (f"IDPruner Lab {PROJECT['version']}\n", "")
    assert call(installed, "idpruner", "answer", "--help").stdout.startswith("usage: idpruner answer ")
    picture = shutil.copy(EXAMPLES[1].path, installed / "elsewhere")
    answered = call(installed, "idpruner", "answer", Path(picture).name, QUESTION, "--json")
    assert answered.returncode == 0, answered.stderr
    result = json.loads(answered.stdout)
    assert (result["model"], result["n"], result["budget"]) == ("scenes-vlm", 256, 64)
    opened(installed)


@pytest.mark.slow
def test_it_works_where_nothing_can_be_written(installed: Path) -> None:
    """Neither the packages, nor the working folder, nor a home: only a folder for temporary files."""
    temporary = installed / "temporary"
    temporary.mkdir()
    subprocess.run(["chmod", "-R", "a-w", installed], check=True)
    temporary.chmod(0o777)
    named = {"env": environment(HOME="/nonexistent", TMPDIR=str(temporary))}
    if os.geteuid() == 0:  # to whom no permission matters
        named |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if subprocess.run([installed / ".venv" / "bin" / "python", "-c", "import torch"], **named).returncode:
        pytest.skip("a user without rights cannot even read the packages here")
    answered = call(installed, "idpruner", "answer", EXAMPLES[1].path, QUESTION, "--json", **named)
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["budget"] == 64
    refused = call(installed, "idpruner", "answer", EXAMPLES[1].path, QUESTION, "--overlay", "a.png", **named)
    assert refused.returncode == 1
    assert "Permission denied: 'a.png'" in refused.stderr
    assert "Traceback" not in refused.stderr
    opened(installed, **named)
    assert list(temporary.glob("idpruner-kernels-*/*/*.nbi")), "it is not compiled anew at every start"


@pytest.mark.slow
@pytest.mark.parametrize(("script", "gone"), [("idpruner", "."), ("idpruner-lab", "styles/style.css")])
def test_assets_that_are_gone_are_told(installed: Path, script: str, gone: str) -> None:
    subprocess.run(["chmod", "-R", "u+w", installed], check=True)
    path, away = packages(installed) / "pruning" / "_assets" / gone, packages(installed) / "away"
    path.rename(away)
    try:
        arguments = ("answer", EXAMPLES[1].path, QUESTION) if script == "idpruner" else ("--port", "0")
        done = call(installed, script, *arguments)
    finally:
        away.rename(path)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    told = done.stderr.splitlines()[-1]
    assert "is missing" in told
    assert "install it again" in told


def test_each_asset_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(templates, "_environment", templates._environment.__wrapped__)  # nothing that was read before
    asked = {
        "examples/crowd.png": lambda: EXAMPLES[1].path,
        "styles/style.css": theme.stylesheet,
        "scripts/canvas.js": lambda: scripts.start("canvas"),
        "templates/canvas.html": lambda: templates.render("canvas.component"),
        "references.bib": lambda: bibtex([METHODS["idpruner"]]),
        "models/scenes-vlm/config.json": load,
    }
    for name, work in asked.items():
        with pytest.raises(assets.AssetError, match=f"^{name}, .*install it again"):
            work()
    (tmp_path / SHIPPED.parent.name / SHIPPED.name).mkdir(parents=True)
    shutil.copy(SHIPPED / "config.json", tmp_path / SHIPPED.parent.name / SHIPPED.name)
    with pytest.raises(assets.AssetError, match=r"^models/scenes-vlm/model\.safetensors, "):
        load()

"""What a stranger can reach through the server: no file but uploads and examples, no other host, nothing too large; and
how long what they brought stays. All requests are written by hand: a client of Gradio's would tidy them up.
"""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from app.examples import EXAMPLES, FOLDER
from app.settings import Settings
from app.ui import launch_options
from app.web import request_limits, uploads
from tests.helpers import documents
from tests.helpers.checkout import NOWHERE, ROOT, start_app
from tests.helpers.serving import UPLOAD_MB

OUTSIDE = [
    *("/etc/passwd", "/proc/self/environ", "/proc/self/cmdline", "/dev/null", str(Path.home() / ".bashrc")),
    *(str(ROOT / name) for name in ("app.py", "README.md", "app/settings.py", "pyproject.toml", ".git/config")),
    *(str(ROOT / "assets" / name) for name in ("styles/style.css", "models/scenes-vlm/config.json", "README.md")),
]


@pytest.fixture(scope="module")
def web(served):
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def png(seed=0, size=32):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def upload(web, data, name="mine.png"):
    response = web.post("gradio_api/upload", files={"files": (name, data)})
    assert response.status_code == 200, response.text
    (path,) = response.json()
    return path


def get(web, path):
    """The answer to a request for this very path: httpx itself would tidy the dots away."""
    return web.get(httpx.URL(web.base_url).copy_with(raw_path=path.encode()))


# Files


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/gradio_api/stream/"]
)
def test_no_file_outside_is_served(web, route, path):
    for written in (path, quote(path), quote(path, safe=""), "/" + path):
        response = get(web, route + written)
        assert response.status_code in (400, 403, 404, 405), (route + written, response.status_code)


@pytest.mark.parametrize(
    "climb", ["../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "..\\" * 12, "....//" * 12, "%252e%252e%252f" * 12]
)
def test_no_climbing_out_of_the_folders(web, climb):
    own, example = Path(upload(web, png())).parent, FOLDER
    for start in (own, example, own.parent, "", "assets/examples"):
        for target in ("etc/passwd", "app.py", "proc/self/environ"):
            for route in ("/gradio_api/file=", "/static/", "/assets/", "/gradio_api/file=/"):
                response = get(web, f"{route}{start}/{climb}{target}")
                assert response.status_code in (400, 403, 404), (climb, start, target, route)
                assert b"root:" not in response.content


def test_a_link_out_of_the_upload_folder_is_not_followed(web):
    own = Path(upload(web, png(1)))
    for target in ("/etc/passwd", ROOT / "app.py"):
        link = own.parent / f"link-{Path(target).name}.png"
        link.symlink_to(target)
        assert web.get(f"gradio_api/file={link}").status_code == 403
        link.unlink()
    assert web.get(f"gradio_api/file={own}").status_code == 200


def test_folders_are_not_listed(web):
    own = Path(upload(web, png(2)))
    for folder in (own.parent, own.parent.parent, FOLDER, ROOT, "/"):
        assert web.get(f"gradio_api/file={folder}").status_code == 403


def test_uploads_and_examples_are_served_and_cannot_run_in_a_page(web):
    assert web.get(f"gradio_api/file={EXAMPLES[0].path}").status_code == 200
    page = web.get(f"gradio_api/file={upload(web, b'<script>alert(1)</script>', 'page.html')}")
    drawing = web.get(f"gradio_api/file={upload(web, b'<svg onload=alert(1)/>', 'drawing.svg')}")
    for response in (page, drawing):
        assert response.headers["content-disposition"].startswith("attachment")


def test_an_upload_s_name_cannot_leave_its_folder(web):
    for name in ("../../evil.png", "/tmp/evil.png", "..\\evil.png", "a/b/../../../evil.png", ".bashrc"):
        path = Path(upload(web, png(3), name))
        assert path.resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()), name


def ask(web, endpoint="select", **values):
    """What an endpoint answers, as it comes."""
    headers = {"content-type": "application/json"}
    body = json.dumps({"question": "why?", **values})  # which writes halves of characters as well
    event = web.post(f"gradio_api/call/v2/{endpoint}", content=body, headers=headers).json()["event_id"]
    return web.get(f"gradio_api/call/v2/{endpoint}/{event}").text


def file(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_uploads_can_be_asked_about(web):
    assert "event: complete" in ask(web, image=file(upload(web, png(4))))


HALF = "a\ud83db"


@pytest.mark.parametrize(
    ("endpoint", "values"),
    [
        ("answer", {"question": HALF}),
        *(("select", {name: HALF}) for name in ("method", "importance", "diversity", "retention", "model", "per")),
        *(("select", {"knobs": knobs}) for knobs in (HALF, {HALF: 1}, {"importance": HALF})),
        ("pareto", {"methods": [HALF]}),
        *(("compare", {"others": others}) for others in (HALF, [HALF], [{"method": HALF}], [{HALF: 1}])),
        ("inspect", {"token": HALF}),
    ],
)
def test_half_a_character_is_told_in_every_field(web, endpoint, values):
    told = ask(web, endpoint, **{"image": file(upload(web, png(4))), **values})
    assert "event: error" in told
    assert "\\ud83d" in told
    assert "Please check" in told


@pytest.mark.parametrize(
    "path",
    [
        "a\ud83db.png",
        "a\0b.png",
        "x" * 5000,
        *OUTSIDE,
        "assets/examples/../../app.py",
        "../../../../etc/passwd",
        "app.py",
        ".git/config",
    ],
)
def test_endpoints_open_uploads_alone(web, path):
    for values in ({"image": file(path)}, {"image": None, "more_images": [file(path)]}):
        told = ask(web, **values)
        assert "event: error" in told
        assert "was not uploaded here: upload it" in told
        assert "root:" not in told


def test_the_page_s_own_events_open_uploads_alone(web):
    """What the page sends can be sent by anybody: every event, asked for a file that nobody uploaded."""
    config = web.get("config").json()
    images = {c["id"] for c in config["components"] if c["type"] in ("image", "uploadbutton", "file", "downloadbutton")}
    asked = [event for event in config["dependencies"] if images & set(event["inputs"])]
    assert asked
    for event in asked:
        data = [file("/etc/passwd") if component in images else None for component in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": "stranger", "event_data": None}
        web.post("gradio_api/queue/join", json=body).raise_for_status()
    with web.stream("GET", "gradio_api/queue/data?session_hash=stranger") as stream:
        told = b"".join(chunk for chunk in stream.iter_bytes())
    assert told.count(b"process_completed") == len(asked)
    assert b'"success":true' not in told.replace(b" ", b"")
    assert b"root:" not in told


def test_a_saved_page_state_is_asked_for_by_its_own_name_alone(web):
    for name in ("../../etc/passwd", "..", "x/../../state.json", quote("../", safe="") * 3 + "etc/passwd"):
        assert "root:" not in web.get(f"?deep_link={name}").text


# Other hosts


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/x.png",
        "https://example.com/x.png",
        "HTTP://example.com",
        "ftp://example.com/x",
        "file:///etc/passwd",
    ],
)
def test_the_server_fetches_nothing_for_a_stranger(web, address, monkeypatch):
    from gradio import processing_utils

    def fetched(*_values, **_named):
        raise AssertionError("it goes out")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetched)
    for written in (address, quote(address), quote(address, safe="")):
        response = get(web, f"/gradio_api/file={written}")
        assert (response.status_code, response.text) == (403, "This server hands out no pages of other hosts.")
    assert web.get(f"gradio_api/proxy={address}").status_code in (400, 403, 404)
    told = ask(web, image=file(address))
    assert "event: error" in told
    if address.startswith("http"):  # Gradio takes the others for paths, and nobody uploaded such
        assert "fetches no files" in told


def test_a_component_that_is_built_anew_for_a_visitor_fetches_nothing_either():
    for component in (gr.Image(), gr.File(), gr.UploadButton()):
        with pytest.raises(gr.Error, match="fetches no files"):
            component.async_move_resource_to_block_cache("https://example.com/x.png").send(None)


def test_the_address_of_an_upload_here_is_as_good_as_the_upload(web, served):
    path = upload(web, png(5))
    assert "event: complete" in ask(web, image=file(f"{served.url}gradio_api/file={path}"))
    for other in ("/etc/passwd", f"{path}/../../../etc/passwd", path + "x", str(Path(path).parent)):
        assert "fetches no files" in ask(web, image=file(f"{served.url}gradio_api/file={other}"))


def test_other_sites_cannot_read_answers_of_a_page_on_this_machine(web):
    told = web.get("config", headers={"Origin": "https://evil.example"}).headers
    assert "access-control-allow-origin" not in told
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in web.options("gradio_api/queue/join", headers=asked).headers


# Sizes


def test_a_file_over_the_limit_is_refused_and_not_kept(web):
    before = held()
    response = web.post("gradio_api/upload", files={"files": ("big.png", os.urandom(int(UPLOAD_MB * 2**20) + 1))})
    assert response.status_code == 413
    assert held() <= before


def held() -> int:
    """Bytes in the folder of uploads."""
    return sum(path.stat().st_size for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file())


def test_requests_are_bounded_with_and_without_a_stated_length(web):
    most = int(request_limits.BASE64 * UPLOAD_MB * 2**20) + request_limits.WORDS
    assert web.post("gradio_api/queue/join", content=b"[" * (most + 1)).status_code == 413
    piece = b"[" * (1 << 20)
    told = {"content-type": "application/json"}
    long = web.post("gradio_api/queue/join", content=iter([piece] * (most // len(piece) + 2)), headers=told)
    assert long.status_code == 413
    assert web.post("gradio_api/call/select", content=iter([b'{"data": []}']), headers=told).status_code < 500


def test_many_files_in_one_upload_are_bounded(web):
    most = request_limits.FILES * int(UPLOAD_MB * 2**20) + request_limits.WORDS
    connection = HTTPConnection(web.base_url.host, web.base_url.port, timeout=10)
    for length, refused in ((most + 1, True), (10, False)):
        connection.putrequest("POST", "/gradio_api/upload")
        connection.putheader("content-length", str(length))
        connection.endheaders(b"" if refused else b"0123456789")
        response = connection.getresponse()
        assert (response.status == 413) == refused
        response.read()
        connection.close()


def test_limits_are_the_operator_s():
    options = launch_options(Settings(upload_limit=3))
    middleware, _ = options["app_kwargs"]["middleware"]
    assert options["max_file_size"] == middleware.kwargs["upload_bytes"] == 3 << 20


# How long files stay


@pytest.fixture
def folder(tmp_path):
    """An upload an hour and a half old, a new one, a folder long empty, a new empty one, a link out."""
    for name in ("old", "new", "empty", "fresh"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for name in ("old", "new"):
        (tmp_path / "own" / name / "picture.png").write_bytes(b"x")
    (tmp_path / "precious").write_text("not ours")
    (tmp_path / "own" / "link").symlink_to(tmp_path)
    return tmp_path / "own"


def test_what_is_old_goes_and_what_is_new_stays(folder, monkeypatch):
    """A file's age is that of its last change of any kind, which no test can set back: so the clock is."""
    real = os.lstat

    def aged(path):
        found = real(path)
        back = 5400 if {"old", "empty"} & set(Path(path).relative_to(folder.parent).parts) else 0
        return os.stat_result([*found[:8], found.st_mtime - back, found.st_ctime - back])

    monkeypatch.setattr(os, "lstat", aged)
    assert uploads.sweep(folder, time.time() - uploads.KEPT) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["fresh", "link", "new"]


def test_a_shortened_time_deletes_all_but_what_links_lead_to(folder):
    assert uploads.sweep(folder, time.time() + 1) == 3
    assert list(folder.iterdir()) == []
    assert (folder.parent / "precious").read_text() == "not ours"
    assert uploads.sweep(folder, time.time() + 1) == 0
    assert folder.exists()


def test_swept_uploads_are_gone_from_the_server_and_said_to_be(web):
    path = upload(web, png(9))
    assert web.get(f"gradio_api/file={path}").status_code == 200
    uploads.sweep(Path(os.environ["GRADIO_TEMP_DIR"]), time.time() + 1)
    assert web.get(f"gradio_api/file={path}").status_code == 403
    assert "event: error" in ask(web, image=file(path))
    assert web.get("").status_code == 200  # nothing of the page's own lay there


def test_the_time_is_the_one_that_is_promised():
    assert uploads.KEPT == 3600
    assert uploads.EVERY <= 600
    assert "about an hour" in documents.text("docs/hosting.md").split("Uploads")[1][:300]


def test_the_folder_is_private_and_goes_with_the_process(tmp_path):
    code = (
        "import os; from app.web import uploads\n"
        "folder = uploads.private_folder(os.environ); (folder / 'x').write_text('x')\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0); print(folder, os.environ['GRADIO_TEMP_DIR'], (folder / 'x').exists())\n"
    )
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "outer")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    folder, named, there = done.stdout.split()
    assert folder == named
    assert there == "True", "a fork took it away"
    assert Path(folder).parent == tmp_path / "outer"
    assert list((tmp_path / "outer").iterdir()) == []


def test_the_folder_is_closed_to_others(monkeypatch):
    environment = {}
    folder = uploads.private_folder(environment)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert environment == {"GRADIO_TEMP_DIR": str(folder)}


@pytest.mark.slow
def test_the_app_says_nothing_and_leaves_no_file_behind_when_it_is_told_to_end(tmp_path):
    """Nor has it asked a proxy of the machine's for itself."""
    with start_app("--port", "0", GRADIO_TEMP_DIR=str(tmp_path), **NOWHERE) as app:
        url = app.stdout.readline().split()[-1]
        assert url.startswith("http://127.0.0.1:")
        path = httpx.post(f"{url}gradio_api/upload", files={"files": ("x.png", png())}, trust_env=False).json()[0]
        assert Path(path).is_relative_to(tmp_path)
        assert Path(path).exists()
        assert httpx.get(f"{url}config", trust_env=False).json()["root"] == url.rstrip("/")
        assert httpx.get(url, trust_env=False).status_code == 200
        app.send_signal(signal.SIGTERM)
        assert app.wait(20) == 0
        assert app.stderr.read() == ""  # no warning of a library either
    assert list(tmp_path.iterdir()) == []

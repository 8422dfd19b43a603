"""Behind a proxy that serves the page under a path of its own: nginx, with the lines that docs/hosting.md has."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.test_mcp import session
from tests.app.test_security import OUTSIDE
from tests.helpers import documents
from tests.helpers.checkout import ROOT
from tests.helpers.serving import serve
from tests.helpers.visits import crawling, visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (Debian's package nginx-light)"),
]


def free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return any_free.getsockname()[1]


@contextmanager
def nginx(folder: Path, port: int, location: str) -> Iterator[None]:
    """nginx with one location, on a port of this machine."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    configuration = f"""daemon off; master_process off; pid {folder}/pid; events {{}}
        http {{ access_log off; {places} server {{ listen 127.0.0.1:{port}; {location} }} }}"""
    (folder / "nginx.conf").write_text(configuration)
    command = ["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(100):
                assert process.poll() is None, process.stderr.read()
                with socket.socket() as knocking:
                    if knocking.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def proxied(tiny_vlm, uploads, tmp_path_factory):
    """proxied(root_path, change, **settings) -> (address behind the proxy, address of the app itself).

    root_path: `{lab}` in it is the address behind the proxy. change: (old, new) in that configuration.
    """
    with ExitStack() as running:

        def start(root_path: str = "/lab", *changes: tuple[str, str], **settings) -> tuple[str, str]:
            (location,) = documents.blocks("docs/hosting.md", "nginx")
            port = free_port()
            lab = f"http://127.0.0.1:{port}/lab/"
            app = running.enter_context(serve(tiny_vlm, root_path=root_path.format(lab=lab), **settings)).url
            for old, new in (*changes, ("127.0.0.1:7860", urlsplit(app).netloc)):
                assert old in location
                location = location.replace(old, new)
            running.enter_context(nginx(tmp_path_factory.mktemp("nginx"), port, location))
            return lab, app

        yield start


@pytest.fixture(scope="module")
def lab(proxied) -> str:
    return proxied(mcp=True)[0]


def asked(lab: str, client: httpx.Client, **values) -> str:
    """What /select answers, as it comes."""
    sent = {"question": "what color is the star?", "image": None, **values}
    event = client.post(f"{lab}gradio_api/call/v2/select", json=sent).json()["event_id"]
    return client.get(f"{lab}gradio_api/call/v2/select/{event}").text


def test_the_page_works_and_asks_for_nothing_beside_its_path(lab, chromium, tiny_vlm, tmp_path, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 800, 3), np.uint8)).save(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").stat().st_size > 1 << 20  # nginx itself takes no more than that
    with visit(chromium, lab) as tab:
        wrong = []
        tab.on("response", lambda got: wrong.append((got.status, got.url)) if got.status >= 400 else None)
        tab.on("request", lambda sent: wrong.append(sent.url) if beside(sent.url, lab) else None)
        tab.reload()
        tab.wait_for_selector("#report .badge.same, #report .badge.other")
        with crawling(tiny_vlm, monkeypatch, 0.1):
            tab.fill("#question textarea", "what color is the star?")
            tab.click("#ask")
            tab.wait_for_function("document.querySelector('#report .running p')?.textContent.length > 1")  # it streams
        tab.wait_for_selector("#report .badge.same, #report .badge.other")
        tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
        tab.set_input_files("#image input[type=file]", tmp_path / "mine.png")
        tab.wait_for_function("document.querySelector('#image img')?.naturalWidth === 800")
        tab.click("#examples button:nth-child(2)")
        tab.wait_for_function("document.querySelector('#question textarea').value !== 'what color is the star?'")
        tab.wait_for_selector("#report .badge.same, #report .badge.other")
        tab.get_by_role("button", name="Copy link").click()
        link = tab.locator(".tool-panel input")
        link.wait_for()
        tab.wait_for_function("document.querySelector('.tool-panel input').value")
        shared = link.input_value()
        tab.keyboard.press("Escape")
        tab.keyboard.press("p")
        tab.wait_for_selector(".presenter[data-stage=done][data-waits=no]")
        tab.keyboard.press("Escape")
        tab.get_by_role("button", name="Export").click()
        tab.wait_for_selector("#export-panel a[href], #export-panel button:has-text('Download')")
        assert tab.locator(".toast-body").count() == 0
        assert wrong == []
        question = tab.input_value("#question textarea")
    assert shared.startswith(f"{lab}?")
    with visit(chromium, shared + "&") as tab:
        tab.wait_for_function("asked => document.querySelector('#question textarea').value === asked", arg=question)
        assert tab.locator(".tool-panel:popover-open").count() == 0


def beside(url: str, lab: str) -> bool:
    return url.startswith("http") and not url.startswith(lab)


def test_the_endpoints_and_files_are_below_the_path(lab):
    with httpx.Client(timeout=30) as client:
        assert client.get(f"{lab}config").json()["root"] == lab.rstrip("/")
        path = client.post(f"{lab}gradio_api/upload", files={"files": ("x.png", small())}).json()[0]
        assert client.get(f"{lab}gradio_api/file={path}").status_code == 200
        given = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "event: complete" in asked(lab, client, image=given)
        by_address = {"path": f"{lab}gradio_api/file={path}", "meta": {"_type": "gradio.FileData"}}
        assert "event: complete" in asked(lab, client, image=by_address)


def small() -> bytes:
    return (ROOT / "assets/examples/hearts.png").read_bytes()


def test_what_is_refused_is_refused_below_the_path_too(lab):
    with httpx.Client(timeout=30) as client:
        for path in (*OUTSIDE, "https://example.org/", "/lab/etc/passwd"):
            assert client.get(f"{lab}gradio_api/file={path}").status_code in (403, 404), path
    connection = HTTPConnection(urlsplit(lab).netloc, timeout=10)
    connection.putrequest("POST", "/lab/gradio_api/upload")
    connection.putheader("content-length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_tools_are_below_the_path(lab):
    assert "select" in {tool.name for tool in session(lab, lambda client: client.list_tools()).tools}
    told = httpx.get(f"{lab}gradio_api/mcp/", headers={"accept": "text/html"}).text
    assert f"{lab}gradio_api/mcp/" in told


@pytest.mark.parametrize(
    ("root_path", "changes"),
    [
        ("lab/", ()),
        ("/lab", ((":7860/;", ":7860;"),)),  # a proxy that leaves the path whole
        ("{lab}", (("    proxy_set_header X-Forwarded-Host $http_host;\n", ""), ("Host $http_host", "Host nowhere"))),
    ],
    ids=["without its slash", "path left whole", "whole address, host not told"],
)
def test_other_proxies(proxied, chromium, tiny_vlm, monkeypatch, root_path, changes):
    address, app = proxied(root_path, *changes)
    for place in (address, app) if "{" not in root_path else (address,):  # by its own address as well
        with visit(chromium, place) as tab:
            tab.fill("#question textarea", f"how many stars are at {place}?")
            with crawling(tiny_vlm, monkeypatch, 0.1):
                tab.click("#ask")
                tab.wait_for_selector("#report .running .cursor")
            tab.wait_for_selector("#report .badge.same, #report .badge.other")
            assert tab.locator(".toast-body").count() == 0


def test_who_must_log_in_does_so_below_the_path(proxied):
    address, _ = proxied(auth="ann:secret")
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        assert client.get(f"{address}config").status_code == 401
        assert client.post(f"{address}login", data={"username": "ann", "password": "secret"}).status_code == 200
        assert client.get(f"{address}config").json()["root"] == address.rstrip("/")

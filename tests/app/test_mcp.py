"""The endpoints as MCP tools, through the protocol's own client over loopback."""

import asyncio
import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from app.api import mcp
from app.api.endpoints import ABOUT, Api
from app.settings import Settings, parse
from tests.app.test_api import RESULTS
from tests.helpers.serving import serve

QUESTION = "what color is the star?"


@pytest.fixture(scope="module")
def tools(tiny_vlm, uploads):
    """A page that is an MCP server as well."""
    with serve(tiny_vlm, mcp=True) as running:
        yield running


@pytest.fixture
def image(saved):
    with open(saved(3), "rb") as file:
        return file.read()


def data_url(image):
    return "data:image/png;base64," + base64.b64encode(image).decode()


def session(url, work):
    """What `work(session)` gives, in a session of a client of its own."""

    async def visit():
        async with streamable_http_client(url + mcp.PATH) as (read, write, _), ClientSession(read, write) as client:
            await client.initialize()
            return await work(client)

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests keeps a loop running in this thread
        return pool.submit(lambda: asyncio.run(visit())).result()


def call(url, name, **arguments):
    """(whether it failed, its text) of one call."""
    result = session(url, lambda client: client.call_tool(name, arguments))
    return result.isError, result.content[0].text


def test_the_tools_are_the_endpoints_and_nothing_else(tools):
    listed = session(tools.url, lambda client: client.list_tools()).tools
    assert {f"/{tool.name}" for tool in listed} == set(RESULTS)
    for tool in listed:
        endpoint = getattr(Api, tool.name)
        assert tool.description.startswith(endpoint.about)
        assert tuple(tool.inputSchema["properties"]) == endpoint.names
        for name, schema in tool.inputSchema["properties"].items():
            assert schema["description"] == ABOUT[name]
        assert set(tool.inputSchema["required"]) - {"token"} == {"image", "question"}


def test_a_picture_in_a_data_url_is_selected_from(tools, image):
    failed, text = call(tools.url, "select", image=data_url(image), question=QUESTION, retention=0.25)
    assert not failed
    told = json.loads(text)
    assert len(told["indices"]) == told["budget"] == round(told["n"] * 0.25)
    assert told["merge_into"] is None  # JSON's null, and not Python's None


def test_a_picture_that_was_uploaded_is_found_by_its_address(tools, image):
    (path,) = httpx.post(f"{tools.url}gradio_api/upload", files={"files": ("x.png", image)}).json()
    address = f"{tools.url}gradio_api/file={path}"
    failed, text = call(tools.url, "inspect", image=address, question=QUESTION, token=5)
    assert not failed
    assert json.loads(text)["token"] == 5


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("select", {"retention": 7}, "7 is greater than the maximum of 1"),  # by the schema already
        ("select", {"method": "magic"}, "'magic' is not one of"),
        ("select", {"importance": 0, "diversity": 0}, "both 0"),
        ("select", {"knobs": {"colour": 1}}, "no knob 'colour'"),
        ("inspect", {"token": 10**6}, "from 0 to"),
        ("answer", {"question": ""}, "empty"),
    ],
)
def test_bad_values_are_explained(tools, image, name, arguments, words):
    failed, text = call(tools.url, name, **{"image": data_url(image), "question": QUESTION, **arguments})
    assert failed
    assert words in text


@pytest.mark.parametrize(
    "address", ["http://example.com/x.png", "{url}gradio_api/file=/etc/passwd", "file:///etc/passwd"]
)
def test_no_address_is_fetched(tools, address):
    failed, text = call(tools.url, "select", image=address.format(url=tools.url), question=QUESTION)
    assert failed
    assert "root:" not in text
    assert "fetches no files" in text or "Invalid file data format" in text


def test_without_the_option_there_is_no_server(served):
    assert httpx.post(served.url + mcp.PATH, json={}).status_code in (404, 405)


def test_a_missing_package_is_named(monkeypatch):
    mcp.check_installed()
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ValueError, match=r"requirements-mcp\.txt"):
        mcp.check_installed()


def test_a_server_that_did_not_start_is_an_error():
    with pytest.raises(ValueError, match="too old"):
        mcp.finish(SimpleNamespace(mcp_server_obj=None, mcp_error="mcp is too old"))


def test_it_is_off_unless_asked_for_and_never_beside_a_password(capsys):
    assert not Settings().mcp
    assert parse(["--mcp"], {}).mcp
    with pytest.raises(SystemExit):
        parse(["--mcp", "--auth", "ann:secret"], {})
    message = capsys.readouterr().err
    assert "--auth" in message
    assert "secret" not in message

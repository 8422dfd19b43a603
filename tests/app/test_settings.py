"""Settings: command line over environment over hosting, and messages that name value and rule."""

import errno
import os
import socket
from pathlib import Path

import httpx
import pytest
from gradio import networking

from app.settings import Settings, parse
from app.web import address
from tests.helpers.checkout import NOWHERE, start_app
from tests.helpers.serving import serve


def test_defaults_listen_on_this_machine_only():
    settings = parse([], {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.share, settings.credentials()) == ("127.0.0.1", 7860, False, None)


def test_command_line_wins_over_environment():
    environment = {"IDPRUNER_PORT": "9000", "IDPRUNER_SHARE": "yes", "IDPRUNER_UPLOAD_LIMIT": "2.5"}
    settings = parse(["--port", "9001", "--no-share", "--auth", "ann:a:b,bob:c"], environment)
    assert (settings.port, settings.share, settings.upload_limit) == (9001, False, 2.5)
    assert settings.credentials() == [("ann", "a:b"), ("bob", "c")]


def test_the_models_on_offer_begin_with_the_one_to_start_with():
    assert parse(["--models", ""], {}).model_ids == [""]
    settings = parse(["--model", "x/y", "--models", "presets, /models/mine"], {"IDPRUNER_MODELS": "ignored"})
    assert settings.model_ids == ["x/y", "presets", "/models/mine"]


@pytest.mark.parametrize(
    ("arguments", "own"),
    [
        ([], True),
        (["--host", "::1"], True),
        (["--host", "localhost"], True),
        (["--host", "127.0.0.9"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "192.0.2.1"], False),
        (["--host", "lab.example"], False),
        (["--root-path", "/lab"], False),
        (["--share"], False),
        (["--auth", "ann:secret"], False),
    ],
)
def test_models_are_offered_by_themselves_on_ones_own_machine_alone(arguments, own):
    assert parse(arguments, {}).model_ids == (["", "auto"] if own else [""])
    assert parse([*arguments, "--models", "x/y, auto"], {}).model_ids == (["", "x/y", "auto"] if own else ["", "x/y"])
    assert parse([*arguments, "--models", "x/y"], {}).model_ids == ["", "x/y"]
    assert parse(arguments, {"SPACE_ID": "me/space", "IDPRUNER_MODELS": ""}).model_ids == [""]


def test_the_options_are_those_that_load_takes():
    from app import settings
    from pruning.models.checkpoint import devices

    for name in ("QUANTIZATIONS", "ATTENTIONS", "DEVICE_MAPS"):
        assert getattr(settings, name) == getattr(devices, name)
    assert set(settings.DTYPES) == {"auto", *devices.DTYPES}


@pytest.mark.parametrize(
    ("environment", "host", "port"),
    [
        ({"SPACE_ID": "me/space"}, "0.0.0.0", 7860),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7000"}, "0.0.0.0", 7000),
        ({"SPACE_ID": "me/space", "IDPRUNER_HOST": "::1"}, "::1", 7860),
    ],
)
def test_hosting_variables(environment, host, port):
    settings = parse([], environment)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "abc"], ["--port", "'abc'", "whole number"]),
        (["--port", "70000"], ["--port", "70000", "65535"]),
        (["--device", "tpu"], ["--device", "'tpu'", "cuda"]),
        (["--dtype", "int3"], ["--dtype", "'int3'", "bfloat16"]),
        (["--upload-limit", "nan"], ["--upload-limit", "nan", "megabytes"]),
        (["--joined", "-1"], ["--joined", "-1", "whole number of tokens"]),
        (["--cache", "0"], ["--cache", "0.0", "megabytes"]),
        (["--host", " "], ["--host", "address"]),
        (["--quantization", "2bit"], ["--quantization", "'2bit'", "4bit"]),
        (["--attention", "fast"], ["--attention", "'fast'", "sdpa"]),
        (["--device-map", "all"], ["--device-map", "'all'", "balanced"]),
        (["--models", "a/b,,c/d"], ["--models", "one comma", "presets"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_wrong_values_exit_with_a_message(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(arguments, {})
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("told", "taken", "prefix"),
    [
        ("", "", ""),
        ("/", "", ""),
        ("lab", "/lab", "/lab"),
        ("/lab/", "/lab", "/lab"),
        ("a/b.c/d-e", "/a/b.c/d-e", "/a/b.c/d-e"),
        ("https://example.org", "https://example.org", ""),
        ("https://example.org:8443/lab/", "https://example.org:8443/lab", "/lab"),
    ],
)
def test_root_paths(told, taken, prefix):
    for settings in (parse(["--root-path", told], {}), parse([], {"IDPRUNER_ROOT_PATH": told})):
        assert (settings.root_path, settings.prefix) == (taken, prefix)
    assert parse([], {"GRADIO_ROOT_PATH": told}).root_path == taken


@pytest.mark.parametrize(
    "told", ["//", "/a//b", "/lab//", "http://", "https:///lab", "ftp://x/lab", "/..", "../lab", "/a?b", "/a#b", "a b"]
)
def test_bad_root_paths(told, capsys):
    with pytest.raises(SystemExit):
        parse(["--root-path", told], {})
    message = capsys.readouterr().err
    assert all(word in message for word in ("--root-path", repr(told), "/lab")), message


@pytest.mark.parametrize("told", ["127.0.0.1:80", "[::1]:80", "http://127.0.0.1", "fe80::1%eth0", "a b", "[]"])
def test_bad_hosts(told, capsys):
    with pytest.raises(SystemExit):
        parse(["--host", told], {})
    message = capsys.readouterr().err
    assert all(word in message for word in ("--host", repr(told), "127.0.0.1", "::1", "--port")), message


def test_an_address_may_come_in_brackets():
    assert parse(["--host", " [::1] "], {}).host == "::1"
    assert [address.bracketed(name) for name in ("::1", "localhost", "0.0.0.0")] == ["[::1]", "localhost", "0.0.0.0"]


@pytest.mark.parametrize("host", ["999.1.1.1", "no-such-host.invalid", "a..b", "x" * 64 + ".example", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_named(host):
    with pytest.raises(ValueError, match="--host") as caught:
        address.free_port(host, 0)
    assert all(word in str(caught.value) for word in (repr(host), "127.0.0.1", "0.0.0.0"))
    assert "--port" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
def test_a_free_port_is_free_and_one_in_use_is_told(host):
    port = address.free_port(host, 0)
    assert port > 0
    assert address.free_port(host, port) == port
    here, family = ("::1", socket.AF_INET6) if ":" in host else ("127.0.0.1", socket.AF_INET)
    told = pytest.raises(ValueError, match=f"--port is {port}, which is in use on {host}: free it")
    with socket.create_server((here, port), family=family), told:
        address.free_port(host, port)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, ["--port is 80", "1024"]), (errno.EADDRNOTAVAIL, ["--host is '127.0.0.1'"]), (errno.EIO, [":80"])],
)
def test_what_the_system_refuses_is_told(number, words, monkeypatch):
    class Refusing(socket.socket):
        def bind(self, where):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ValueError, match="--") as caught:
        address.free_port("127.0.0.1", 80)
    assert all(word in str(caught.value) for word in words)


def test_a_wrong_host_ends_the_start_in_one_line():
    with start_app("--host", "999.1.1.1") as app:
        out, err = app.communicate(timeout=60)
    assert app.returncode == 1
    assert out == ""
    assert err.startswith("app.py: --host is '999.1.1.1'")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,127.0.0.1,lab"),
        ({"NO_PROXY": "example.org"}, "example.org,localhost,127.0.0.1,lab"),
        ({"no_proxy": "example.org"}, "example.org,localhost,127.0.0.1,lab"),
        ({"no_proxy": "127.0.0.1,lab", "NO_PROXY": "127.0.0.1,lab"}, "127.0.0.1,lab,localhost"),
    ],
)
def test_no_proxy_stands_between_the_app_and_itself(before, after):
    address.past_proxies("lab", before)
    assert before == {"no_proxy": after, "NO_PROXY": after}


def test_a_page_that_takes_long_to_draw_does_not_end_the_start(monkeypatch, tiny_vlm):
    monkeypatch.setattr(networking, "url_ok", lambda url: False)  # what Gradio makes of 3 s without an answer
    with serve(tiny_vlm) as running:
        assert httpx.get(running.url).status_code == 200


@pytest.mark.slow
def test_the_app_listens_on_the_other_loopback_whatever_proxy_the_machine_has(tmp_path):
    """On 127.0.0.1: test_security.py."""
    assert parse([], {"GRADIO_SERVER_NAME": "::1"}) == parse(["--host", "::1"], {})
    with start_app("--port", "0", "--host", "::1", GRADIO_TEMP_DIR=str(tmp_path), **NOWHERE) as app:
        try:
            url = (app.stdout.readline().split() or [""])[-1]
            assert url.startswith("http://[::1]:"), app.stderr.read()
            assert httpx.get(f"{url}config", trust_env=False).json()["root"] == url.rstrip("/")
        finally:
            app.terminate()


def test_wrong_environment_names_the_variable(capsys):
    with pytest.raises(SystemExit):
        parse([], {"IDPRUNER_SHARE": "perhaps"})
    assert "IDPRUNER_SHARE='perhaps'" in capsys.readouterr().err


def test_a_password_is_never_repeated(capsys):
    with pytest.raises(SystemExit):
        parse(["--auth", "hunter2"], {})
    message = capsys.readouterr().err
    assert "hunter2" not in message
    assert "user:password" in message


def test_help_names_every_option_and_variable(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"], {})
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown
        assert f"IDPRUNER_{name.upper()}" in shown


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [([], "runs"), (["--host", "0.0.0.0"], None), (["--share"], None), (["--root-path", "/lab"], None),
     (["--host", "0.0.0.0", "--runs", "/data/runs"], "/data/runs"), (["--runs", ""], None)],
)  # fmt: skip
def test_runs_are_shown_on_one_s_own_machine_or_where_they_are_named(arguments, folder):
    found = parse(arguments, {}).runs_folder
    assert found == (None if folder is None else Path(folder))

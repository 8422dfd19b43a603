"""Settings: command line over environment over hosting, and messages that name value and rule."""

import pytest

from app.settings import Settings, parse


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
    assert parse([], {}).model_ids == [""]
    settings = parse(["--model", "x/y", "--models", "presets, /models/mine"], {"IDPRUNER_MODELS": "ignored"})
    assert settings.model_ids == ["x/y", "presets", "/models/mine"]


def test_the_options_are_those_that_load_takes():
    from app import settings
    from pruning.models import devices

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

"""Bad configuration: refused whole, with every fault named where it stands."""

import json
import socket

import pytest

from support.ports import free_port
from support.proxy import command

GOOD = """\
version: 1
ingress:
  listen: 127.0.0.1:{port}
  backend: http://127.0.0.1:8000
  routes:
    - path: /api/challenges
      cache: {{ ttl: 30m, public: true }}
admin: {{ listen: "127.0.0.1:{admin}" }}
control: {{ listen: "127.0.0.1:{control}" }}
"""


def good() -> str:
    return GOOD.format(port=free_port(), admin=free_port(), control=free_port())


def run(tmp_path, text: str, *verb: str, **options):
    file = tmp_path / "proxy.yaml"
    file.write_text(text)
    return command(*(verb or ["run"]), "-c", str(file), **options)


def test_every_fault_is_reported_at_once_with_its_place_and_the_exit_code_is_1(tmp_path):
    text = """\
version: 1
ingress:
  listen: 127.0.0.1:8080
  backend: http://127.0.0.1:8000
  slow_aftr: 2s
  limits:
    body: 10 parsecs
  routes:
    - path: /api/challenges
      cache: { ttl: soon }
    - path: api/no-slash
cache:
  mode: servve
"""
    for verb in ("run", "check"):
        done = run(tmp_path, text, verb)

        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        for needle in (
            "slow_aftr",
            "slow_after",
            "10 parsecs",
            "soon",
            "api/no-slash",
            "servve",
            "proxy.yaml:5",
            "proxy.yaml:7",
            "proxy.yaml:10",
            "proxy.yaml:11",
            "proxy.yaml:13",
        ):
            assert needle in said, f"{needle} is missing in:\n{said}"
        assert "panicked" not in said


BAD = {
    "no version": ("version: 1\n", "", "version"),
    "a version of the future": ("version: 1\n", "version: 9\n", "9"),
    "an unknown section": ("version: 1\n", "version: 1\ningres: {}\n", "ingress"),
    "a duplicate key": ("version: 1\n", "version: 1\nversion: 1\n", "version"),
    "a backend without a scheme": ("backend: http://127.0.0.1:8000", "backend: 127.0.0.1:8000", "backend"),
    "an https backend": ("backend: http://127.0.0.1:8000", "backend: https://127.0.0.1:8000", "https"),
    "a time without a unit": ("ttl: 30m", "ttl: 30", "ttl"),
    "a negative time": ("ttl: 30m", "ttl: -5m", "ttl"),
    "a listener that is no address": ('"127.0.0.1:{admin}"', "nowhere", "nowhere"),
    "an unset variable": ("backend: http://127.0.0.1:8000", 'backend: "${E2E_NOT_SET}"', "E2E_NOT_SET"),
    "a variable that must be set": (
        "backend: http://127.0.0.1:8000",
        'backend: "${E2E_NOT_SET:?say where the app is}"',
        "say where the app is",
    ),
    "control on the pod address without a token": ('"127.0.0.1:{control}"', '"0.0.0.0:{control}"', "token"),
    "a broken template": ("path: /api/challenges", "path: /api/{unclosed", "unclosed"),
    "broken yaml": ("  routes:\n", "  routes: [\n", "proxy.yaml"),
    "a list where a map belongs": ("cache: {{ ttl: 30m, public: true }}", "cache: [ttl]", "cache"),
    "a tab as indentation": ("  backend:", "\tbackend:", "proxy.yaml"),
}


@pytest.mark.parametrize("fault", BAD)
def test_it_refuses(tmp_path, fault):
    old, new, needle = BAD[fault]
    ports = {"port": free_port(), "admin": free_port(), "control": free_port()}
    text = good_text(old, new, ports)

    done = run(tmp_path, text)

    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert needle in said
    assert "proxy.yaml:" in said
    assert "panicked" not in said


def good_text(old: str, new: str, ports: dict) -> str:
    """The good file with one fault. The names of ports are filled in last, where they stand alone."""
    assert old in GOOD, old
    text = GOOD.replace(old, new).replace("{{", "{").replace("}}", "}")
    for name, port in ports.items():
        text = text.replace("{" + name + "}", str(port))
    return text


def test_a_missing_file_is_named(tmp_path):
    done = command("run", "-c", str(tmp_path / "none.yaml"))

    assert done.returncode == 1
    assert "none.yaml" in done.stderr + done.stdout


def test_a_good_file_passes_the_check_and_defaults_are_shown(tmp_path):
    done = run(tmp_path, good(), "check", "--effective")

    assert done.returncode == 0, done.stderr
    assert "first_byte: 30s" in done.stdout


def test_variables_and_defaults_are_filled_in_and_secrets_are_not_echoed(tmp_path):
    text = (
        good()
        .replace("http://127.0.0.1:8000", "${E2E_BACKEND:-http://127.0.0.1:8000}")
        .replace("control: {", 'control: { token: "${E2E_TOKEN}",')
    )

    done = run(
        tmp_path,
        text,
        "check",
        "--effective",
        env={"E2E_TOKEN": "canary-secret", "E2E_BACKEND": "http://127.0.0.1:8123"},
    )

    assert done.returncode == 0, done.stderr
    assert "8123" in done.stdout
    assert "canary-secret" not in done.stdout + done.stderr


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run(tmp_path, GOOD.format(port=port, admin=free_port(), control=free_port()))

    assert done.returncode not in (0, 101)
    assert str(port) in done.stderr + done.stdout


def test_the_schema_is_json_schema_that_accepts_the_good_file():
    done = command("schema")

    assert done.returncode == 0
    assert "ingress" in json.loads(done.stdout)["properties"]


def test_help_and_version_are_for_people():
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        done = command(*arguments)

        assert done.returncode == 0
        assert "touchline" in done.stdout


def test_an_unknown_command_is_a_usage_error():
    assert command("flyy").returncode == 2

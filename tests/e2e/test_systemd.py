"""The example units: systemd understands them, and the executable does what they ask of it."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.proxy import ROOT, binary, command

UNITS = sorted((ROOT / "examples" / "systemd").glob("*.service"))
# Of systemd.exec(5), systemd.service(5) and systemd.unit(5), those that matter here: each has a value that is easy to get wrong.
TIMES = {"TimeoutStartSec", "TimeoutStopSec", "RestartSec"}


def settings(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit. A line that is no setting, comment or section fails the test."""
    found: dict[str, list[str]] = {}
    section = None
    for number, line in enumerate(unit.read_text().splitlines(), 1):
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = line
            assert section in ("[Unit]", "[Service]", "[Install]"), f"{unit.name}:{number}"
            continue
        name, is_set, value = line.partition("=")
        assert section and is_set and name.isalnum() and "\\" not in value, f"{unit.name}:{number}: {line}"
        found.setdefault(name, []).append(value)
    return found


def test_there_are_units() -> None:
    assert [unit.name for unit in UNITS] == ["touchline.service", "touchline@.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_about_it(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        # Its settings are read by the tests below, which need no systemd.
        settings(unit)
        return
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/bin/touchline", str(binary())))

    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_executable_understands_its_command_line(unit, tmp_path):
    (line,) = settings(unit)["ExecStart"]
    program, *words = shlex.split(line)
    assert program == "/usr/local/bin/touchline"
    words[words.index("/etc/touchline/proxy.yaml")] = str(tmp_path / "absent.yaml")

    done = command(*words)

    assert done.returncode == 1
    assert "absent.yaml" in done.stderr and "Usage" not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_leaves_time_for_the_drain_and_ends_without_a_restart(unit):
    found = settings(unit)

    seconds = {name: int(found[name][0].removesuffix("s")) for name in TIMES & found.keys()}
    assert seconds["TimeoutStopSec"] >= 5 + 25, "drain.delay and drain.timeout as they are by default"
    assert (found["Type"], found["KillSignal"], found["Restart"]) == (["notify"], ["SIGTERM"], ["on-failure"])
    # A configuration that is refused stays refused; a hand-over that did not work is not tried again behind one's back.
    assert found["RestartPreventExitStatus"] == ["1 2" if "@" in unit.name else "2"]
    (line,) = found["ExecStart"]
    if "--take-over" in line:
        patience = int(line.split("--take-over=")[1].split()[0].removesuffix("s"))
        assert seconds["TimeoutStartSec"] > patience
        assert found["User"], "both instances are of one user, or the kernel lets them share no address"

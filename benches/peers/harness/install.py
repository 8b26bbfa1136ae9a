"""Brings the peers and wrk onto the machine (Debian packages, a virtual environment for the rest) and builds touchline.

No service is ever started: packages are installed under a policy that forbids it.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

SEARCH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
DEBIAN = {
    "nginx": "nginx", "haproxy": "haproxy", "varnishd": "varnish", "wrk": "wrk",
    "redis-server": "redis-server", "redis-benchmark": "redis-tools", "valgrind": "valgrind",
}
POLICY = Path("/usr/sbin/policy-rc.d")


class Missing(Exception):
    """Something that cannot be set up from here; the message says what to do."""


def which(program):
    """The path of a program; system folders are searched even when they are not in PATH."""
    return shutil.which(program, path=SEARCH)


def debian(programs):
    """Installs the packages of those `programs` that are missing."""
    packages = sorted({DEBIAN[program] for program in programs if not which(program)})
    if packages:
        _apt(packages)


def _apt(packages):
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not which("apt-get"):
        raise Missing(f"these are missing and this is not Debian: {' '.join(packages)}")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and (not which("sudo") or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode):
        raise Missing(f"run as root, or install first: {command}")
    print(f"installing {' '.join(packages)} (no service is started)", flush=True)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    with _services_forbidden(prefix):
        for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run([*prefix, *environment, "apt-get", *step], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Missing(f"apt-get {step[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    if Path("/run/systemd/system").exists():
        # Nor at the next boot.
        units = [package for package in packages if package in ("nginx", "haproxy", "varnish", "redis-server")]
        subprocess.run([*prefix, "systemctl", "disable", *units], capture_output=True, check=False)


@contextmanager
def _services_forbidden(prefix):
    """Debian's own switch (policy-rc.d exiting 101) that keeps maintainer scripts from starting services."""
    if POLICY.exists():
        if subprocess.run([POLICY, "nginx", "start"], capture_output=True, check=False).returncode != 101:
            raise Missing(f"{POLICY} exists and allows services to start; install the packages by hand")
        yield
        return
    script = "#!/bin/sh\nexit 101\n"
    subprocess.run([*prefix, "tee", POLICY], input=script, text=True, stdout=subprocess.DEVNULL, check=True)
    subprocess.run([*prefix, "chmod", "755", POLICY], check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "rm", "-f", POLICY], check=True)


def python_wheels(requirements, folder):
    """A virtual environment with the pinned wheels; returns its bin folder."""
    stamp, wanted = folder / "installed.txt", requirements.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {requirements.name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        make = [sys.executable, "-m", "venv", folder]
        if subprocess.run(make, capture_output=True, check=False).returncode:
            # Debian's own Python comes without pip for new environments.
            _apt(["python3-venv"])
            made = subprocess.run([*make, "--clear"], capture_output=True, text=True, check=False)
            if made.returncode:
                raise Missing(f"python3 -m venv failed:\n{(made.stdout + made.stderr)[-1000:]}")
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"pip failed:\n{(done.stdout + done.stderr)[-2000:]}")
        stamp.write_text(wanted)
    return folder / "bin"


def touchline(root):
    """The touchline binary: TOUCHLINE_BIN, or built here. Cargo itself is asked where it put the result."""
    given = os.environ.get("TOUCHLINE_BIN")
    if given:
        if not os.access(given, os.X_OK):
            raise Missing(f"TOUCHLINE_BIN={given} is not an executable file")
        return str(Path(given).resolve())
    if not (root / "Cargo.toml").exists() or not which("cargo"):
        raise Missing("no cargo or no Cargo.toml; set TOUCHLINE_BIN, or leave touchline out with --only")
    print("building touchline (cargo build --profile bench --locked)", flush=True)
    command = ["cargo", "build", "--profile", "bench", "--locked", "--bin", "touchline"]
    done = subprocess.run([*command, "--message-format=json-render-diagnostics"], cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Missing("touchline does not build")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("target", {}).get("name") == "touchline":
            return message["executable"]
    raise Missing("cargo built no binary named touchline")

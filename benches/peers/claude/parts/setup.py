"""Brings LiteLLM and Portkey into target/peers-claude, pinned, and builds both ends of the bench there."""

import json
import shutil
import subprocess
from pathlib import Path

from harness import install

HERE = Path(__file__).resolve().parent.parent
# Portkey hands the header fields of a stream on with those of the API's answer, which Node 20 does not let it change: every stream
# becomes a 500. A copy of the fields is all that is missing.
IMMUTABLE = ":new Response(p,e)}const Ad="
MUTABLE = ":new Response(p,{status:e.status,headers:new Headers(e.headers)})}const Ad="


def everything(root):
    """Sets up what is missing; returns the paths of the programs by name."""
    target = root / "target" / "peers-claude"
    target.mkdir(parents=True, exist_ok=True)
    return {"wire": _wire(target), "litellm": _litellm(target), "portkey": _portkey(target), "node": install.which("node")}


def python(root):
    """The interpreter that LiteLLM runs on."""
    return root / "target" / "peers-claude" / "venv" / "bin" / "python3"


def version(name):
    """The version that is pinned."""
    if name == "litellm":
        return (HERE / "requirements.txt").read_text().rpartition("==")[2].strip()
    return json.loads((HERE / "package.json").read_text())["dependencies"]["@portkey-ai/gateway"]


def _wire(target):
    source, program = HERE / "wire.rs", target / "wire"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        if not install.which("rustc"):
            raise install.Missing("no rustc")
        done = subprocess.run(["rustc", "--edition", "2024", "-O", "-o", program, source], capture_output=True, text=True, check=False)
        if done.returncode:
            raise install.Missing(f"wire.rs does not build:\n{done.stderr[-2000:]}")
    return program


def _litellm(target):
    return install.python_wheels(HERE / "requirements.txt", target / "venv") / "litellm"


def _portkey(target):
    folder, wanted = target / "node", (HERE / "package.json").read_text()
    stamp = folder / "installed.json"
    if not (stamp.exists() and stamp.read_text() == wanted):
        if not install.which("npm"):
            raise install.Missing("Portkey needs Node.js with npm")
        print(f"installing package.json into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "package.json").write_text(wanted)
        done = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"],
                              cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise install.Missing(f"npm failed:\n{(done.stdout + done.stderr)[-2000:]}")
        stamp.write_text(wanted)
    original = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    text = original.read_text()
    if text.count(IMMUTABLE) != 1:
        return original
    # Beside the original, from where its imports are found.
    patched = original.with_name("start-server-streams.js")
    patched.write_text(text.replace(IMMUTABLE, MUTABLE))
    return patched

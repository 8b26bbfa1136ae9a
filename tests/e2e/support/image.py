"""The container image: made by the scripts of the repository, read without them."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from support.proxy import ROOT

TARGET = f"{os.uname().machine}-unknown-linux-musl"

# A build for the image takes minutes; what the tests say of the image does not depend on how much was optimised.
PROFILE = os.environ.get("IMAGE_PROFILE", "dev")

# Where this lies, so that an image from `make image` stays as it is.
FOLDER = ROOT / "target" / "image-e2e"


def missing() -> str | None:
    """Why no image can be made on this machine."""
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    if not (Path(sysroot) / "lib" / "rustlib" / TARGET).is_dir():
        return f"the toolchain has no {TARGET}, and scripts/setup-test could not add it"
    for program in ("musl-gcc", "buildah"):
        if not shutil.which(program):
            return f"{program} is missing: run scripts/setup-test"
    return None


def run(*command: str | Path, deadline_s: float = 120.0, **env: str) -> str:
    """What a command prints. Fails the test with both outputs when the command fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        env={**os.environ, **env},
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout


def compile_root() -> tuple[Path, list[dict]]:
    """The files of the image, and what cargo says that it compiled for them."""
    said = FOLDER / "compiled.json"
    FOLDER.mkdir(parents=True, exist_ok=True)
    root = FOLDER / "root"
    run("scripts/image-root", root, deadline_s=2400, IMAGE_PROFILE=PROFILE, IMAGE_TARGET=TARGET, IMAGE_COMPILED=str(said))
    return root, [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]


def make(binary: Path, folder: Path) -> str:
    """An image around a binary, by the script; what it prints."""
    folder.mkdir(parents=True, exist_ok=True)
    return run("scripts/image", IMAGE_BINARY=str(binary), IMAGE_DIR=str(folder), IMAGE_TARGET=TARGET, IMAGE_PROFILE=PROFILE)


class Image:
    """An OCI archive, read."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        with tarfile.open(archive) as tar:

            def blob(digest: str) -> bytes:
                data = tar.extractfile("blobs/" + digest.replace(":", "/")).read()
                assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
                return data

            (entry,) = json.loads(tar.extractfile("index.json").read())["manifests"]
            self.digest = entry["digest"]
            manifest = json.loads(blob(self.digest))
            self.config = json.loads(blob(manifest["config"]["digest"]))
            (layer,) = manifest["layers"]
            stored = blob(layer["digest"])
        self.compressed = len(stored)
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(stored))) as tar:
            self.entries = tar.getmembers()
            self.files = {f"/{one.name}": tar.extractfile(one).read() for one in self.entries if one.isfile()}

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


def sha256(data: bytes) -> str:
    """The hash of some bytes."""
    return hashlib.sha256(data).hexdigest()

"""The container image: how it is made, what is in it, and how it runs with nothing beside it."""

import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path

import cyclonedx.schema._res
import pytest
from jsonschema_rs import Draft7Validator, Registry

from support import image
from support.image import Image
from support.pod import ADMIN, INGRESS, Pod
from support.proxy import ROOT
from support.wait import until

BINARY = "/usr/local/bin/touchline"
USER = 65532
# What the real image is held to; another profile is built for speed of building.
IS_REAL = image.PROFILE == "image"
MOST_READY_MS = 50 if IS_REAL else 1000
MOST_RSS_KIB = 12 * 1024 if IS_REAL else 64 * 1024


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What was measured: printed with the results, and kept in target/image-e2e/figures.json."""
    measured: dict[str, str] = {"profile": image.PROFILE}
    yield measured
    image.FOLDER.mkdir(parents=True, exist_ok=True)
    (image.FOLDER / "figures.json").write_text(json.dumps(measured, indent=1) + "\n")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *(f"image: {name}: {value}" for name, value in measured.items()), sep="\n")


@pytest.fixture(scope="module")
def built() -> tuple[Path, list[dict]]:
    """The files of the image, compiled here, and what cargo compiled for them."""
    if reason := image.missing():
        pytest.skip(f"NOT RUN: {reason}")
    return image.compile_root()


@pytest.fixture(scope="module")
def root(built: tuple[Path, list[dict]]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def images(root: Path) -> tuple[Image, Image]:
    """Two images around one binary, made one after the other."""
    made = []
    for name in ("first", "second"):
        image.make(root / BINARY[1:], image.FOLDER / name)
        made.append(Image(image.FOLDER / name / "touchline.oci.tar"))
    return made[0], made[1]


@pytest.fixture(scope="module")
def sbom(images: tuple[Image, Image]) -> dict:
    """The list of what is in the first image."""
    return json.loads((image.FOLDER / "first" / "touchline.cdx.json").read_text())


def instructions(path: Path) -> list[str]:
    """A Dockerfile without its comments, one instruction a line."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", "").splitlines()


def test_both_dockerfiles_pass_the_linter_and_end_in_the_same_image() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    files = [ROOT / "Dockerfile", ROOT / "Dockerfile.prebuilt"]
    assert linter.is_file(), "hadolint is missing: run scripts/setup-test"

    image.run(linter, *files)

    full, prebuilt = map(instructions, files)
    end = prebuilt[prebuilt.index("FROM scratch") + 2 :]
    assert full[-len(end) :] == end
    assert end[0].startswith("ARG VERSION")


def test_the_dockerfile_builds_with_the_pinned_compiler() -> None:
    pinned = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]

    assert instructions(ROOT / "Dockerfile")[0] == f"ARG RUST={pinned}"


def test_the_context_of_the_dockerfile_holds_the_sources_and_nothing_else(tmp_path: Path) -> None:
    if reason := image.missing():
        pytest.skip(f"NOT RUN: {reason}")
    recipe = tmp_path / "Dockerfile"
    recipe.write_text("FROM scratch\nCOPY . /\n")
    store = ["--storage-driver", "vfs", "--root", tmp_path / "root", "--runroot", tmp_path / "run"]

    image.run("buildah", *store[:6], "bud", "--isolation", "chroot", "-t", "context", "-f", recipe, ROOT)
    image.run("buildah", *store[:6], "push", "context", f"oci-archive:{tmp_path}/context.tar")

    files = set(Image(tmp_path / "context.tar").files)
    sources = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()
    wanted = {"/Cargo.toml", "/Cargo.lock", "/rust-toolchain.toml", "/scripts/image-root"} | {f"/{path}" for path in sources}
    # What git ignores in src, __pycache__ say, is not asked about.
    assert {path for path in files if not path.startswith("/src/")} == {path for path in wanted if not path.startswith("/src/")}
    assert wanted <= files


def test_two_builds_give_one_image(images: tuple[Image, Image]) -> None:
    first, second = images

    assert first.digest == second.digest
    assert (image.FOLDER / "first" / "touchline.cdx.json").read_bytes() == (
        image.FOLDER / "second" / "touchline.cdx.json"
    ).read_bytes()


def test_the_image_says_who_runs_what(images: tuple[Image, Image]) -> None:
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    config = images[0].config

    assert config["created"].startswith("1970-01-01T00:00:00")
    assert config["os"] == "linux"
    assert config["config"]["User"] == f"{USER}:{USER}"
    assert config["config"]["Entrypoint"] == [BINARY]
    assert config["config"]["Cmd"] == ["run", "--config", "/etc/touchline/proxy.yaml"]
    labels = {name.rpartition(".")[2]: value for name, value in config["config"]["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == package["name"]
    assert labels["description"] == package["description"]
    assert labels["licenses"] == package["license"]
    assert labels["version"] == package["version"]
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?|unknown", labels["revision"])


def test_the_image_holds_the_binary_and_one_line_of_passwd(images: tuple[Image, Image], root: Path, figures: dict) -> None:
    made = images[0]

    assert {one.name.strip("/"): (one.type == b"5", f"{one.mode & 0o7777:o}", one.uid, one.gid, one.mtime) for one in made.entries} == {
        "etc": (True, "755", 0, 0, 0),
        "etc/passwd": (False, "644", 0, 0, 0),
        "usr": (True, "755", 0, 0, 0),
        "usr/local": (True, "755", 0, 0, 0),
        "usr/local/bin": (True, "755", 0, 0, 0),
        BINARY[1:]: (False, "755", 0, 0, 0),
    }
    assert made.files["/etc/passwd"] == f"touchline:x:{USER}:{USER}::/:/sbin/nologin\n".encode()
    assert made.files[BINARY] == (root / BINARY[1:]).read_bytes()
    figures["size"] = f"{made.size / 1e6:.2f} MB"
    figures["layer, compressed"] = f"{made.compressed / 1e6:.2f} MB"
    if IS_REAL:
        assert made.size <= 25_000_000
        assert made.compressed <= 12_500_000


def test_the_binary_needs_no_library_and_can_lie_anywhere(root: Path) -> None:
    headers = image.run("readelf", "--wide", "--file-header", "--program-headers", "--dynamic", root / BINARY[1:])

    assert "INTERP" not in headers
    assert "(NEEDED)" not in headers
    # Position independent, with a stack that cannot be executed and relocations that are read-only after the start.
    assert re.search(r"Type:\s+DYN", headers)
    assert re.search(r"GNU_STACK.* RW ", headers)
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in headers or "NOW" in headers


def test_the_binary_holds_no_path_of_the_machine_that_built_it(root: Path) -> None:
    data = (root / BINARY[1:]).read_bytes()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")).resolve()

    for path in {Path.home(), ROOT, target, cargo}:
        assert f"{path}/".encode() not in data, path
    assert b"index.crates.io" not in data
    # That paths are there at all, under other names, shows that the search could have found one.
    assert re.search(rb"/crates/tokio-[\d.]+/src/", data)


def test_the_list_of_contents_is_sound_cyclonedx(sbom: dict) -> None:
    folder = Path(cyclonedx.schema._res.__file__).parent
    names = [f"{name}.SNAPSHOT.schema.json" for name in ("bom-1.6", "spdx", "jsf-0.82")]
    texts = {name: json.loads((folder / name).read_text()) for name in names}
    # They refer to one another by the names of their files.
    registry = Registry([(f"http://cyclonedx.org/schema/{name}", text) for name, text in texts.items()])

    problems = list(Draft7Validator(texts[names[0]], registry=registry).iter_errors(sbom))

    assert not problems, "\n".join(f"{one.instance_path}: {one.message}" for one in problems)
    assert str(uuid.UUID(sbom["serialNumber"].removeprefix("urn:uuid:"))) in sbom["serialNumber"]


def test_the_list_of_contents_names_each_crate_that_was_compiled(sbom: dict, built: tuple[Path, list[dict]], root: Path) -> None:
    """Held against what cargo said while it compiled, not against what the list was made from."""
    linked, only_building = set(), set()
    for said in built[1]:
        if said["reason"] != "compiler-artifact":
            continue
        crate = re.search(r"[/#]([^/#@]+)@([^@]+)$", said["package_id"])
        name = crate.groups() if crate else ("touchline", said["package_id"].rpartition("#")[2])
        is_linked = any(f"/{image.TARGET}/" in path for path in said["filenames"]) and said["target"]["kind"] != ["custom-build"]
        (linked if is_linked else only_building).add(name)
    crates = {(one["name"], one["version"]): one for one in sbom["components"] if one["purl"].startswith("pkg:cargo/")}

    assert len(linked) > 100
    ours = {name for name in linked if name[0] == "touchline"}
    assert {name for name, one in crates.items() if one["scope"] == "required"} == linked - ours
    assert {name for name, one in crates.items() if one["scope"] == "excluded"} == only_building - linked - ours
    told = {found.decode() for found in re.findall(rb"/crates/([a-z0-9_-]+-\d+\.\d+\.\d+)/", (root / BINARY[1:]).read_bytes(), re.IGNORECASE)}
    assert told and told <= {f"{name}-{version}" for name, version in linked}


def test_the_list_of_contents_has_hash_licence_and_address_of_each(sbom: dict, images: tuple[Image, Image]) -> None:
    locked = {(one["name"], one["version"]): one for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    subject = sbom["metadata"]["component"]

    for one in sbom["components"]:
        assert one["licenses"][0]["expression"], one
        if one["purl"].startswith("pkg:cargo/"):
            crate = locked[one["name"], one["version"]]
            assert one["purl"] == f"pkg:cargo/{crate['name']}@{crate['version']}"
            assert one["hashes"] == [{"alg": "SHA-256", "content": crate["checksum"]}]
    assert {"rust-std", "musl", "preact"} <= {one["name"] for one in sbom["components"]}
    assert subject["hashes"][0]["content"] == image.sha256(images[0].files[BINARY])


def test_each_part_of_the_list_of_contents_is_needed_by_another(sbom: dict) -> None:
    needs = {edge["ref"]: set(edge.get("dependsOn", [])) for edge in sbom["dependencies"]}
    known = {one["bom-ref"] for one in sbom["components"]} | {sbom["metadata"]["component"]["bom-ref"]}

    assert set(needs) == known
    reached, new = set(), {"touchline"}
    while new:
        reached |= new
        new = set().union(*(needs[one] for one in new)) - reached
    assert reached == known


# A name service as pods see it, and what the kubelet writes for them.
RESOLV_CONF = "nameserver 127.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
HERE = ["127.0.0.1"]
TABLE = {
    "orders.shop.svc.cluster.local": HERE,
    "db.billing.svc.cluster.local": HERE,
    "api.example.com": HERE,
    # Over 512 bytes: the answer comes over TCP.
    "many.example.com": HERE * 60,
    # A search domain in which the name is, but without an address, and a later one that has it.
    "half.shop.svc.cluster.local": [],
    "half.cluster.local": HERE,
}


def inside(what: str, *arguments: Path) -> object:
    """What `support/inside.py` finds in a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: this needs root, for a network of its own")
    return json.loads(
        image.run("unshare", "--net", "--", sys.executable, "-m", "support.inside", what, *arguments, PYTHONPATH=str(ROOT / "tests/e2e"))
    )


@pytest.fixture(scope="module")
def resolved(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What touchline answers when its backend has each of some names, and what it asked for."""
    folder = tmp_path_factory.mktemp("names")
    hosts = ["orders", "db.billing.svc", "api.example.com", "many.example.com", "missing.example.com", "half"]
    (folder / "scene.json").write_text(json.dumps({"hosts": hosts, "table": TABLE, "resolv.conf": RESOLV_CONF}))
    return {one["host"]: one for one in inside("names", root, folder)}


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("orders", ["orders.shop.svc.cluster.local"]),
        ("db.billing.svc", ["db.billing.svc.shop.svc.cluster.local", "db.billing.svc.svc.cluster.local", "db.billing.svc.cluster.local"]),
        ("api.example.com", [f"api.example.com.{domain}" for domain in ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")] + ["api.example.com"]),
    ],
)
def test_names_are_looked_up_along_the_search_list(resolved: dict[str, dict], host: str, asked: list[str]) -> None:
    assert resolved[host]["status"] == 200
    assert resolved[host]["asked"] == asked


def test_an_answer_too_long_for_udp_is_fetched_over_tcp(resolved: dict[str, dict]) -> None:
    assert resolved["many.example.com"]["status"] == 200
    assert "tcp many.example.com" in resolved["many.example.com"]["asked"]


def test_a_name_that_does_not_exist_is_a_bad_gateway(resolved: dict[str, dict]) -> None:
    assert resolved["missing.example.com"]["status"] == 502
    assert resolved["missing.example.com"]["asked"][-1] == "missing.example.com"


def test_a_search_domain_that_knows_the_name_without_an_address_ends_the_search(resolved: dict[str, dict]) -> None:
    """As musl has it, unlike glibc; docs/operations.md says so."""
    assert resolved["half"]["status"] == 502
    assert resolved["half"]["asked"] == ["half.shop.svc.cluster.local"]


@pytest.fixture(scope="module")
def pod(images: tuple[Image, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The image in a pod as in docs/operations.md, of the classic kind: podman has no sidecars."""
    if reason := Pod.missing():
        pytest.skip(f"NOT RUN: {reason}")
    with Pod(tmp_path_factory.mktemp("pod"), images[0].archive) as running:
        yield running


def test_the_pod_runs_as_nobody_with_no_rights(pod: Pod) -> None:
    status = pod.process_status()

    assert status["Uid"].split() == [str(USER)] * 4
    assert status["Gid"].split() == [str(USER)] * 4
    for of in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[of], 16) == 0, of
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_pod_cannot_write_its_root(pod: Pod) -> None:
    mounts = [line.split() for line in Path(f"/proc/{pod.pid}/mounts").read_text().splitlines()]

    (options,) = [fields[3] for fields in mounts if fields[1] == "/"]
    assert "ro" in options.split(",")
    (options,) = [fields[3] for fields in mounts if fields[1] == "/etc/touchline"]
    assert "ro" in options.split(",")


def test_the_pod_relays_and_tells_its_probes(pod: Pod) -> None:
    assert pod.status(ADMIN, "/livez") == 200
    assert pod.status(ADMIN, "/readyz") == 200
    assert pod.status(INGRESS, "/api/challenges") == 200


def test_the_pod_is_small_at_rest(pod: Pod, figures: dict) -> None:
    status = pod.process_status()

    figures["RSS at rest"] = f"{int(status['VmRSS'].split()[0]) / 1024:.1f} MiB, {int(status['RssAnon'].split()[0]) / 1024:.1f} of it its own"
    assert int(status["VmRSS"].split()[0]) <= MOST_RSS_KIB


def test_the_pod_ends_in_order_and_starts_again(pod: Pod) -> None:
    assert pod.stop() == 0

    pod.start()

    until(lambda: pod.status(ADMIN, "/readyz") == 200, "the pod is ready again", deadline_s=10, every_s=0.1)


def test_it_is_ready_soon_after_its_start(root: Path, tmp_path: Path, figures: dict) -> None:
    """Without podman, as what a container's runtime takes before it is not touchline's."""
    measured = sorted(inside("starts", root, tmp_path))

    figures["start to ready"] = f"{measured[len(measured) // 2]:.1f} ms, the median of {len(measured)}; {measured[0]:.1f} to {measured[-1]:.1f}"
    assert measured[len(measured) // 2] <= MOST_READY_MS

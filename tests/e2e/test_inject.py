"""What other readers make of manifests with touchline in them: PyYAML, kubectl, Helm, Kustomize, and the schemas."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from support import kubernetes
from support.proxy import ROOT, binary

FOLDER = ROOT / "tests" / "fixtures" / "manifests"
MANIFESTS = sorted(path for path in FOLDER.iterdir() if not path.name.startswith("refused-"))
CONFIGS = ROOT / "tests" / "fixtures" / "inject"
IMAGE = "registry.example/touchline:0.1.0"

# Manifests with what these readers do not take: keys that are no text, tags, a tab before a value, directives, JSON
# without `---`, objects without a name, and nothing at all.
NOT_FOR_PYYAML = {"strange-keys.yaml", "custom-resources.yaml", "tabs.yaml", "json-stream.json"}
NOT_FOR_KUBECTL = {
    "custom-resources.yaml",
    "directive.yaml",
    "document-markers.yaml",
    "empty.yaml",
    "job.yaml",
    "only-comments.yaml",
    "strange-keys.yaml",
    "tabs.yaml",
}
NOT_VALID = NOT_FOR_PYYAML | {
    "merge-keys.yaml",  # keys for anchors, which no schema knows
    "alias-container.yaml",
    "yaml-1.1-aliased.yaml",
    "tags.yaml",
}


def flags(manifest: Path) -> list[str]:
    """The flags that a manifest asks for in its first line."""
    first = manifest.read_text().lstrip("\ufeff").partition("\n")[0]
    words = first.removeprefix("# flags: ").split() if first.startswith("# flags: ") else []
    return [str(CONFIGS / word) if before == "--config" else word for before, word in zip(["", *words], words)]


def touchline(*arguments: str | Path, given: str | None = None):
    return kubernetes.run([str(binary()), *map(str, arguments)], given)


def inject(*arguments: str | Path, given: str | None = None):
    done = touchline("inject", "--image", IMAGE, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done


def uninject(given: str) -> str:
    done = touchline("uninject", "-", given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def local(text: str) -> list[dict]:
    """The objects as kubectl reads them."""
    done = kubernetes.kubectl("annotate", "--local", "-f", "-", "-o", "json", "read=by-kubectl", given=text)
    assert done.returncode == 0, done.stderr
    decoder, rest, found = json.JSONDecoder(), done.stdout.strip(), []
    while rest:
        value, end = decoder.raw_decode(rest)
        found += value["items"] if value["kind"] == "List" else [value]
        rest = rest[end:].strip()
    for value in found:
        del value["metadata"]["annotations"]["read"]
    return found


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_readers_agree_on_what_is_written(manifest):
    text = manifest.read_text()
    after = inject(*flags(manifest), "-f", manifest).stdout
    if manifest.name not in NOT_FOR_KUBECTL:
        told = local(after)
        # What inject prints as JSON is what kubectl makes of the YAML.
        printed = local(inject("-o", "json", *flags(manifest), "-f", manifest).stdout)
        assert printed == told
        assert local(uninject(after)) == local(text)
    if manifest.name not in NOT_FOR_PYYAML:
        read = kubernetes.documents(after)
        assert kubernetes.documents(uninject(after)) == kubernetes.documents(text)
        if manifest.name not in NOT_FOR_KUBECTL:
            assert [containers(value) for value in read] == [containers(value) for value in told]


def containers(value: dict) -> list:
    """All containers and volumes of an object, without what kubectl adds or drops because it is empty."""
    spec = value.get("spec") or {}
    while "template" in spec or "jobTemplate" in spec:
        spec = (spec.get("template") or spec.get("jobTemplate")).get("spec") or {}

    def tidy(part):
        if isinstance(part, dict):
            return {key: tidy(inner) for key, inner in part.items() if inner not in (None, {}, [], "")}
        return [tidy(inner) for inner in part] if isinstance(part, list) else part

    return [tidy(spec.get(key) or []) for key in ("initContainers", "containers", "volumes")]


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_the_schemas_of_kubernetes_accept_what_is_written(version):
    problems = {}
    for manifest in MANIFESTS:
        if manifest.name in NOT_VALID:
            continue
        text = manifest.read_text()
        before = set(kubernetes.validate(text, version))
        after = set(kubernetes.validate(inject(*flags(manifest), "-f", manifest).stdout, version))
        # The schemas know neither `y` nor other traps of the corpus: only what is new counts.
        if new := after - before:
            problems[manifest.name] = new
    assert not problems, problems


def test_a_patch_makes_of_the_object_what_inject_makes_of_it(tmp_path):
    manifest = FOLDER / "deployment.yaml"
    patch = inject("-f", manifest, "-o", "patch").stdout
    expected = local(inject("-f", manifest).stdout)
    for part, before, after in zip(patch.split("---\n"), local(manifest.read_text()), expected):
        (tmp_path / "object.json").write_text(json.dumps(before))
        (tmp_path / "patch.yaml").write_text(part)
        done = kubernetes.kubectl(
            "patch", "--local", "-f", tmp_path / "object.json", "--patch-file", tmp_path / "patch.yaml", "-o", "json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == after


def test_helm_4_takes_it_as_a_post_renderer(tmp_path):
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: backend\nversion: 0.1.0\n")
    shutil.copy(FOLDER / "deployment.yaml", chart / "templates")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "touchline").symlink_to(binary())
    homes = {f"HELM_{part}_HOME": str(tmp_path / part.lower()) for part in ("CACHE", "CONFIG", "DATA")}
    homes["PATH"] = f"{programs}:/usr/bin:/bin"

    done = kubernetes.helm(4, "plugin", "install", ROOT / "examples" / "helm-post-renderer", **homes)
    assert done.returncode == 0, done.stderr
    done = kubernetes.helm(
        4, "template", "release", chart, "--post-renderer", "touchline", "--post-renderer-args", f"--image={IMAGE}", **homes
    )

    assert done.returncode == 0, done.stderr
    objects = kubernetes.documents(done.stdout)
    pod = kubernetes.one(objects, "Deployment")["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["touchline"]
    assert kubernetes.one(objects, "Service")["spec"]["ports"][0]["targetPort"] == 8080
    refused = kubernetes.helm(4, "template", "release", chart, "--post-renderer", "touchline", **homes)
    assert refused.returncode != 0, "without an image nothing is rendered"


def test_kustomize_renders_the_component():
    done = kubernetes.kubectl("kustomize", ROOT / "examples" / "kustomize")
    assert done.returncode == 0, done.stderr
    objects = kubernetes.documents(done.stdout)

    config = kubernetes.one(objects, "ConfigMap")
    assert config["metadata"]["name"].startswith("touchline-config-")
    pod = kubernetes.one(objects, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["touchline-config"]["configMap"]["name"] == config["metadata"]["name"]
    assert kubernetes.one(objects, "Service")["spec"]["ports"][0]["targetPort"] == 8080
    for version in kubernetes.VERSIONS:
        assert kubernetes.validate(done.stdout, version) == []
    # What Kustomize rendered can be taken back, too.
    base = kubernetes.kubectl("kustomize", ROOT / "examples" / "kustomize" / "base").stdout
    restored = kubernetes.documents(uninject(done.stdout))
    expected = list(kubernetes.documents(base))
    assert [value for value in restored if value["kind"] != "ConfigMap"] == expected
    checked = touchline("check", "-c", ROOT / "examples" / "kustomize" / "touchline" / "proxy.yaml")
    assert checked.returncode == 0, checked.stderr


def test_scalars_that_readers_of_yaml_differ_on_survive():
    awkward = [
        "y", "n", "yes", "No", "on", "OFF", "~", "null", "0644", "0o17", "0x1F", "1e3", "1_000", "12:30:45", "2001-12-14",
        ".5", "-1", "+1", ".inf", "=", "<<", "", " a", "a ", "a: b", "a #b", "- a", "? a", "@a", "`a", "%a", "!a", "&a",
        "*a", "{a", "[a", "|", ">", "'", '"', "\\", "a\nb", "a\n", "\n", "\ta", "ü", "\x85", "\u2028", "\ufeff",
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "awkward", "annotations": {f"a-{i}": text for i, text in enumerate(awkward)}},
        "spec": {"containers": [{"name": "app", "image": "i", "args": awkward}]},
    }
    quoted = yaml.safe_dump(pod, default_style='"')
    flow = yaml.safe_dump(pod, default_style='"', default_flow_style=True, allow_unicode=True)
    for text in (quoted, flow, json.dumps(pod)):
        after = inject("-", given=text).stdout

        read = kubernetes.one(kubernetes.documents(after), "Pod")
        assert read["spec"]["containers"][0]["args"] == awkward
        told = local(after)[0]
        assert told["spec"]["containers"][0]["args"] == awkward
        for found in (read, told):
            assert {k: v for k, v in found["metadata"]["annotations"].items() if k.startswith("a-")} == pod["metadata"]["annotations"]
        printed = local(inject("-o", "json", "-", given=text).stdout)[0]
        assert printed["spec"]["containers"][0]["args"] == awkward
        assert kubernetes.one(kubernetes.documents(uninject(after)), "Pod") == pod

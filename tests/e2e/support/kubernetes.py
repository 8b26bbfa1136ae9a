"""Helm, kubectl and the schemas of Kubernetes, without a cluster."""

import json
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

from support.proxy import ROOT

TOOLS = ROOT / "target" / "tools"
HELMS = (3, 4)

# Versions that the schemas are asked for: the first with native sidecars, the newest, and some between.
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")

# Kinds of the Prometheus Operator, which Kubernetes has no schema for; and lists, which are no objects of their own.
OPERATOR = "monitoring.coreos.com/v1"

SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def tool(name: str) -> str:
    """The path of `helm3`, `helm4` or `kubectl`; the variable of its name in capitals goes first."""
    found = os.environ.get(name.upper()) or str(TOOLS / name)
    assert Path(found).is_file(), f"{name} is missing: run scripts/setup-test"
    return found


def environment() -> dict[str, str]:
    """The environment of this process, with folders for Helm that are not those of a person, and without a cluster."""
    home = ROOT / "target" / "helm"
    own = {f"HELM_{part}_HOME": str(home / part.lower()) for part in ("CACHE", "CONFIG", "DATA")}
    return {**os.environ, **own, "KUBECONFIG": os.devnull}


def run(
    command: list[str], given: str | None = None, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, with `given` as its input."""
    return subprocess.run(
        command,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        cwd=cwd,
        env={**environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def helm(version: int, *arguments: str | Path, given: str | None = None, cwd: Path | None = None, **env: str):
    """Runs Helm 3 or 4."""
    return run([tool(f"helm{version}"), *map(str, arguments)], given, cwd, env)


def kubectl(*arguments: str | Path, given: str | None = None, cwd: Path | None = None):
    """Runs kubectl; what needs a cluster fails."""
    return run([tool("kubectl"), *map(str, arguments)], given, cwd)


class _Loader(yaml.CSafeLoader):
    """Reads as Kubernetes does: dates stay texts, `=` is a text, and a key that is there twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} twice{node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[dict]:
    """The objects of a stream of YAML, those of lists each on its own; empty documents are left out."""
    found = []
    for document in yaml.load_all(text, Loader=_Loader):
        if document is not None:
            found += document["items"] if document.get("kind") == "List" else [document]
    return found


def one(objects: Iterable[dict], kind: str, name: str | None = None) -> dict:
    """The only object of this kind, or with this name."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects are a {kind} {name or ''}"
    return found[0]


@cache
def _registry(folder: str) -> Registry:
    definitions = json.loads((SCHEMAS / folder / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


@cache
def _validator(version: str, kind: str, api_version: str) -> jsonschema.Draft202012Validator | None:
    folder = f"v{version}.0-local-strict"
    assert (SCHEMAS / folder).is_dir(), f"kubernetes-validate has no schemas of {version}"
    group, _, api = api_version.rpartition("/")
    file = SCHEMAS / folder / f"{kind.lower()}-{group.partition('.')[0] + '-' if group else ''}{api}.json"
    if not file.is_file():
        return None
    resource = Resource.from_contents(json.loads(file.read_text()))
    return jsonschema.Draft202012Validator(resource.contents, registry=resource @ _registry(folder))


def validate(given: str | Iterable[dict], version: str) -> list[str]:
    """What the strict schemas of a version of Kubernetes do not allow, one line for each; a kind that it lacks, too.

    These are the schemas of kubernetes-validate. Its own function reads them anew for each object, which takes long.
    """
    problems = []
    for document in documents(given) if isinstance(given, str) else given:
        name = f"{document['kind']}/{document['metadata'].get('name', '')}"
        if document["apiVersion"] == OPERATOR:
            continue
        validator = _validator(version, document["kind"], document["apiVersion"])
        if validator is None:
            problems.append(f"{name}: Kubernetes {version} has no {document['apiVersion']} {document['kind']}")
            continue
        for error in validator.iter_errors(document):
            problems.append(f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message} ({version})")
    return problems

"""The charts of this repository, rendered."""

import re
import subprocess
from functools import cache
from pathlib import Path

import yaml

from support.kubernetes import OPERATOR, documents, helm, one
from support.proxy import ROOT

CHARTS = ROOT / "charts"
CHART, LIBRARY = CHARTS / "touchline", CHARTS / "touchline-lib"
EXAMPLE = ROOT / "examples" / "coach-chart"
SETS = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").iterdir())}
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]

# What makes the smallest set that renders.
IMAGE = ("--set", "backend.image.repository=coach-backend")

# A secret, which no output may show.
SECRET = "hunter2-and-more"


def values_of(name: str) -> dict:
    """The values of a set, with the defaults under those that are asked for here."""
    given = yaml.safe_load(SETS[name].read_text())
    return {"mode": "wrap", **given}


@cache
def template(*arguments: str, by: int = 3, version: str = "1.33", chart: Path = CHART) -> subprocess.CompletedProcess:
    """`helm template` of a release named coach, on a cluster of this version with the Prometheus Operator."""
    cluster = ("--namespace", "prod", "--kube-version", version, "--api-versions", OPERATOR)
    return helm(by, "template", "coach", chart, *cluster, *arguments)


def rendered(*arguments: str, **options) -> list[dict]:
    """The objects of `helm template`; copies, which a test may change."""
    done = template(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def of_set(name: str, **options) -> list[dict]:
    """The objects of a set of ci/."""
    return rendered("-f", str(SETS[name]), **options)


def pod_of(objects: list[dict]) -> dict:
    """The pod of the only Deployment."""
    return one(objects, "Deployment")["spec"]["template"]


def sidecar_of(pod: dict) -> dict:
    """The container of touchline."""
    containers = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    return next(container for container in containers if container["name"] == "touchline")


def refusal(done: subprocess.CompletedProcess) -> str:
    """The sentence that Helm failed with."""
    assert done.returncode != 0, done.stdout
    return done.stderr

"""docs/kubernetes.md: its commands run as they are written, and what it shows is what there is."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from support.chart import CHART, EXAMPLE, LIBRARY, VERSION
from support.kubernetes import documents, one, run, tool, validate
from support.proxy import ROOT, binary

PAGE = ROOT / "docs" / "kubernetes.md"
TEXT = PAGE.read_text()
GOLDEN = ROOT / "tests" / "golden" / "kubernetes" / "pod.yaml"

# Commands that ask a cluster.
CLUSTER = re.compile(r"helm (install|upgrade|test|rollback)|kubectl (?!kustomize|create .*--dry-run=client)")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, without what they are indented by."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", TEXT, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def given_files() -> dict[str, str]:
    """The files that the page shows, by the names it gives them."""
    return dict(re.findall(r"(?:[Aa]s|this) `([\w.-]+)`:\n\n```yaml\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone as far as the page needs it, with the files that it shows."""
    for path in (CHART, LIBRARY, EXAMPLE):
        shutil.copytree(path, tmp_path / path.relative_to(ROOT), symlinks=True)
    for name, text in given_files().items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with the commands of the page."""
    programs = tmp_path_factory.mktemp("bin")
    for name, target in {"helm": tool("helm4"), "kubectl": tool("kubectl"), "touchline": binary()}.items():
        (programs / name).symlink_to(target)
    return f"{programs}:{os.environ['PATH']}"


def test_every_command_that_needs_no_cluster_runs_as_it_is_written(folder, path):
    offline = [block for block in blocks("sh") if not CLUSTER.search(block)]
    assert len(offline) >= 9

    for block in offline:
        done = run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, env={"PATH": path})

        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"

    for name in ("rendered.yaml", "injected.yaml"):
        objects = documents((folder / name).read_text())
        pod = one(objects, "Deployment")["spec"]["template"]["spec"]
        assert [c["name"] for c in pod["initContainers"]] == ["touchline"]
        assert validate(objects, "1.33") == []
    plain = documents((folder / "plain.yaml").read_text())
    given = documents((folder / "deployment.yaml").read_text())
    assert one(plain, "Deployment") == one(given, "Deployment")
    assert one(plain, "Service") == one(given, "Service")


@pytest.mark.parametrize("block", [block for block in blocks("sh") if CLUSTER.search(block)])
def test_a_command_for_a_cluster_is_spelled_right(block, folder, path):
    """As far as can be told without a cluster: the programs know the command and its flags."""
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        for command in (part.strip() for part in line.split("|")):
            words = command.split()
            if words[0] not in ("helm", "kubectl"):
                continue
            # Without texts, and without what is meant for another program.
            own = re.sub(r"'[^']*'|\"[^\"]*\"|(?<=--post-renderer-args) \S+", "", command)
            flags = set(re.findall(r"(?<= )(--?[a-z][\w-]*)", own))

            help_text = run([*words[: 3 if words[1] == "rollout" else 2], "--help"], env={"PATH": path})

            assert help_text.returncode == 0, command
            missing = [flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}\b", help_text.stdout)]
            assert missing == [], f"{command}: {missing}"


def test_the_pod_is_the_golden_one():
    shown = next(yaml.safe_load(block) for block in blocks("yaml") if "initContainers:\n  - name: touchline" in block)

    assert shown == yaml.safe_load(GOLDEN.read_text().replace("VERSION", VERSION))


def test_the_snippet_is_that_of_the_library():
    def lines(text: str) -> list[str]:
        return re.findall(r"(?:\w+: )?\{\{-? include \"touchline[^\n]*\}\}", text)

    readme = (LIBRARY / "README.md").read_text()
    assert lines(TEXT)[:6] == lines(readme)[:6]


def test_links_lead_somewhere():
    for text, target in re.findall(r"\[([^\]]*)\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        page = PAGE if not file else (PAGE.parent / file).resolve()
        assert page.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in known, f"{text}: {target}"


def test_keys_that_it_names_are_those_of_the_chart():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # `reload` is a section of the configuration as well.
    others = ("config", "global", "selector", "reload")
    sections = [key for key, value in values.items() if isinstance(value, dict) and key not in others]

    for section in sections:
        for key in re.findall(rf"`{section}\.(\w+)\b", TEXT):
            assert key in values[section], f"{section}.{key}"

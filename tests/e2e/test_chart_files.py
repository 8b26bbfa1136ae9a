"""The charts as files: schema, packages, notes, what they have from elsewhere; monitoring; and the library."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from support.chart import CHART, EXAMPLE, LIBRARY, SECRET, SETS, VERSION, of_set, pod_of, refusal, rendered, sidecar_of, template
from support.kubernetes import HELMS, OPERATOR, VERSIONS, helm, one, run, validate
from support.proxy import ROOT


def test_the_pod_monitor_is_that_of_monitoring():
    ours = one(of_set("default"), "PodMonitor")["spec"]
    other = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "podmonitor.yaml").read_text())["spec"]

    assert ours["podMetricsEndpoints"] == other["podMetricsEndpoints"]


def test_a_service_monitor_scrapes_the_admin_service_with_its_token():
    objects = of_set("tokens")
    monitor = one(objects, "ServiceMonitor")
    service = one(objects, "Service", "coach-touchline-admin")
    other = one(objects, "Service", "coach-touchline")
    selected = monitor["spec"]["selector"]["matchLabels"].items()

    assert not [o for o in objects if o["kind"] == "PodMonitor"]
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert selected <= service["metadata"]["labels"].items() and not selected <= other["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["authorization"]["credentials"] == {"name": "coach-touchline", "key": "admin-token"}


def test_rules_and_dashboard_are_those_of_monitoring():
    objects = of_set("monitoring")
    rules = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheusrule.yaml").read_text())

    assert one(objects, "PrometheusRule")["spec"] == rules["spec"]
    dashboard = one(objects, "ConfigMap", "coach-touchline-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    board = json.loads((ROOT / "monitoring" / "grafana" / "touchline.json").read_text())
    assert json.loads(dashboard["data"]["touchline.json"]) == board
    # A ConfigMap holds 1 MiB.
    assert len(dashboard["data"]["touchline.json"]) < 900_000


def test_without_the_operator_nothing_of_its_kind_is_rendered():
    done = helm(3, "template", "coach", CHART, "-f", SETS["monitoring"], "--kube-version", "1.33")

    assert done.returncode == 0 and OPERATOR not in done.stdout


def test_config_mode_leaves_the_workload_alone():
    objects = of_set("config")

    kinds = sorted(o["kind"] for o in objects)
    assert kinds == ["ConfigMap", "ConfigMap", "NetworkPolicy", "Pod", "PodMonitor", "PrometheusRule", "Service"]
    assert one(objects, "ConfigMap", "touchline-config")
    for selector in (
        one(objects, "Service")["spec"]["selector"],
        one(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == {"app": "coach-backend"}


def notes(tmp_path: Path, *arguments: str, by: int) -> str:
    """NOTES.txt, rendered as an object, as `helm template` leaves it out."""
    copied = tmp_path / "touchline"
    if not copied.exists():
        shutil.copytree(CHART, copied)
        text = (copied / "templates" / "NOTES.txt").read_text()
        (copied / "templates" / "_notes.tpl").write_text('{{ define "notes" }}' + text + "{{ end }}")
        (copied / "templates" / "notes.yaml").write_text('kind: Notes\ntext: |\n  {{- include "notes" . | nindent 2 }}\n')
    done = helm(by, "template", "coach", copied, "-n", "prod", "--kube-version", "1.33", "-s", "templates/notes.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["text"]


@pytest.mark.parametrize("by", HELMS)
def test_the_notes_say_what_to_try_and_what_to_mind(tmp_path, by):
    for name, expected in {
        "default": ["rollout status deployment/coach-touchline", "helm -n prod test coach", "config.cache.mode: observe"],
        "careful-start": ["touchline advise", "coach-touchline-proxied 8080:80", "set service.proxied to false"],
        "off": ["WARNING: config.control is off", "WARNING: the backend has no preStop hook"],
        "config": [f"touchline inject --image registry.example/touchline:{VERSION} - | kubectl apply -f -", "ConfigMap touchline-config", "No PodMonitor is made"],
        "rollout": ["new pods are made"],
    }.items():
        text = notes(tmp_path, "-f", str(SETS[name]), by=by)

        assert [part for part in expected if part not in text] == [], text
        assert not re.search(r"\n{3}|[ \t]\n|<no value>|%!", text), text
    unset = notes(tmp_path, "-f", str(SETS["tokens"]), "--set", "monitor.tokenSecret.name=", by=by)
    assert "WARNING: config.admin.token is set and monitor.tokenSecret is not" in unset


def test_what_the_charts_have_from_elsewhere_is_current():
    done = run([str(ROOT / "scripts" / "chart-docs"), "--check"])

    assert done.returncode == 0, done.stderr


def test_chart_docs_finds_what_is_stale(tmp_path):
    for part in ("charts", "docs", "monitoring", "scripts"):
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True)
    for part in ("Cargo.toml", "proxy.schema.json"):
        shutil.copy(ROOT / part, tmp_path / part)
    script = str(tmp_path / "scripts" / "chart-docs")
    cargo = tmp_path / "Cargo.toml"
    cargo.write_text(cargo.read_text().replace(f'version = "{VERSION}"', 'version = "9.8.7"', 1))
    schema = tmp_path / "proxy.schema.json"
    schema.write_text(schema.read_text().replace("Threads of the proxy.", "Changed."))

    stale = run([script, "--check"])

    assert stale.returncode == 1
    for name in ("touchline/Chart.yaml", "touchline-lib/Chart.yaml", "_names.tpl", "docs/kubernetes.md", "touchline/values.schema.json"):
        assert name in stale.stderr
    assert run([script]).returncode == 0 and run([script, "--check"]).returncode == 0
    schema.write_text(schema.read_text().replace('"identity_secret"', '"identity_key"'))
    assert "identity_key" in run([script, "--check"]).stderr


def test_the_schema_is_closed_and_knows_the_configuration():
    schema = json.loads((CHART / "values.schema.json").read_text())
    config = json.loads((ROOT / "proxy.schema.json").read_text())

    def objects(node: object, path: str = ""):
        if isinstance(node, dict):
            if "properties" in node and "type" in node:
                yield path, node
            for key, value in node.items():
                yield from objects(value, f"{path}/{key}")

    opened = {path for path, node in objects(schema) if node.get("additionalProperties") is not False}
    # Other charts of an umbrella have globals of their own.
    assert opened == {"/properties/global"}
    assert config["$defs"].keys() <= schema["$defs"].keys()
    assert schema["properties"]["config"]["properties"].keys() == config["properties"].keys()


def test_every_value_is_in_values_yaml():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    # What Helm itself, or a chart above, puts there.
    for key in schema["properties"].keys() - {"enabled", "touchline-lib"}:
        assert key in values
        properties = schema["properties"][key].get("properties", {})
        # The type of a strategy is left to Kubernetes.
        if properties and key not in ("config", "strategy"):
            assert properties.keys() <= values[key].keys(), key


@pytest.mark.parametrize("by", HELMS)
def test_a_chart_above_can_have_it_twice(by, tmp_path):
    names = ("coach", "chat")
    for part in ("charts", "templates"):
        (tmp_path / part).mkdir()
    (tmp_path / "charts" / "touchline").symlink_to(CHART)
    dependencies = [
        {"name": "touchline", "version": VERSION, "alias": name, "condition": f"{name}.enabled"} for name in (*names, "none")
    ]
    chart = {"apiVersion": "v2", "name": "all", "version": "1.0.0", "dependencies": dependencies}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(chart))
    values = {name: {"enabled": True, "backend": {"image": {"repository": name}}} for name in names}
    globals_ = {"imageRegistry": "mirror.example", "theirs": 1}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({**values, "none": {"enabled": False}, "global": globals_}))

    linted = helm(by, "lint", "--strict", tmp_path)
    objects = rendered(chart=tmp_path, by=by)

    assert linted.returncode == 0, linted.stdout
    places = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(places)) == len(places)
    deployments = {o["metadata"]["name"]: o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"}
    images = {name: spec["containers"][0]["image"] for name, spec in deployments.items()}
    assert images == {"coach": "mirror.example/coach:latest", "coach-chat": "mirror.example/chat:latest"}


@pytest.mark.parametrize("by", HELMS)
def test_a_packed_chart_renders_the_same(by, tmp_path):
    for chart in (CHART, LIBRARY):
        done = helm(by, "package", chart, "-d", tmp_path)
        assert done.returncode == 0, done.stderr
    packed = tmp_path / f"touchline-{VERSION}.tgz"

    with tarfile.open(packed) as archive:
        names = archive.getnames()
    assert "touchline/charts/touchline-lib/templates/_pod.tpl" in names
    assert not [name for name in names if "/ci/" in name or name.endswith("own.schema.json")]
    # A release keeps its chart in a Secret, which holds 1 MiB.
    assert packed.stat().st_size < 300_000
    assert of_set("monitoring", chart=packed, by=by) == of_set("monitoring", by=by)


@pytest.mark.parametrize("by", HELMS)
def test_lint_finds_nothing_in_the_library(by):
    done = helm(by, "lint", "--strict", LIBRARY)

    assert done.returncode == 0, done.stdout


def test_the_snippet_of_the_readme_is_what_the_example_has():
    readme = (LIBRARY / "README.md").read_text()
    deployment = (EXAMPLE / "templates" / "deployment.yaml").read_text()

    includes = re.findall(r"(?:\w+: )?\{\{-? include [^\n]*\}\}", readme.partition("2. Six lines")[2].partition("3. The")[0])
    assert len(includes) == 6
    assert [line for line in includes if line not in deployment] == []
    assert len(re.findall(r"include \"touchline", deployment)) == 6
    assert '{{ include "touchline.configMap" . }}' in readme
    assert (EXAMPLE / "templates" / "touchline.yaml").read_text().strip() == '{{ include "touchline.configMap" . }}'


@pytest.mark.parametrize("by", HELMS)
def test_the_snippet_puts_the_same_sidecar_into_any_chart(by):
    linted = helm(by, "lint", "--strict", EXAMPLE)
    assert linted.returncode == 0, linted.stdout
    objects = rendered(chart=EXAMPLE, by=by)
    spec, wrapped = pod_of(objects)["spec"], pod_of(of_set("default"))["spec"]

    for version in VERSIONS[1:]:
        assert validate(objects, version) == []
    assert sidecar_of({"spec": spec}) == sidecar_of({"spec": wrapped})
    assert [c["name"] for c in spec["initContainers"]] == ["migrate", "touchline"]
    assert spec["containers"][0]["lifecycle"] == wrapped["containers"][0]["lifecycle"]
    assert spec["terminationGracePeriodSeconds"] == 60
    config = one(objects, "ConfigMap")
    [volume] = [v for v in spec["volumes"] if v["name"] == "touchline-config"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert yaml.safe_load(config["data"]["proxy.yaml"])["cache"] == {"mode": "observe"}
    assert pod_of(objects)["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "api"


@pytest.mark.parametrize("by", HELMS)
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("touchline.sidecar.moed=x", "moed"),
        ("touchline.config.ingress.routes[0].cache.tll=1m", "tll"),
        ("touchline.lifecycle.terminationGracePeriodSeconds=30", "terminationGracePeriodSeconds is 30"),
        (f"touchline.config.admin.token={SECRET}", "config.admin.token is a secret in plain text"),
    ],
)
def test_the_library_refuses_what_the_chart_does(by, setting, said):
    text = refusal(template("--set", setting, chart=EXAMPLE, by=by))

    assert said in text and SECRET not in text


@pytest.mark.parametrize("by", HELMS)
def test_a_chart_elsewhere_gets_the_library_by_a_dependency(by, tmp_path):
    shutil.copytree(LIBRARY, tmp_path / "charts" / "touchline-lib")
    copied = shutil.copytree(EXAMPLE, tmp_path / "examples" / "coach-chart", symlinks=True)
    (copied / "charts" / "touchline-lib").unlink()
    assert "touchline-lib" in refusal(helm(by, "template", "coach", copied))

    built = helm(by, "dependency", "build", copied)

    assert built.returncode == 0, built.stderr
    assert rendered(chart=copied, by=by) == rendered(chart=EXAMPLE, by=by)


@pytest.mark.parametrize("by", HELMS)
def test_without_the_alias_the_library_says_what_is_missing(by, tmp_path):
    copied = shutil.copytree(EXAMPLE, tmp_path / "coach-chart")
    chart = copied / "Chart.yaml"
    chart.write_text(chart.read_text().replace("    alias: touchline\n", ""))

    assert "the line `alias: touchline`" in refusal(helm(by, "template", "coach", copied))

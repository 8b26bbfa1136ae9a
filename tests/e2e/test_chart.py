"""The Helm chart: what it renders, and that Kubernetes and touchline take it."""

import copy
import json
import re

import httpx
import pytest
import yaml

from support.chart import CHART, IMAGE, SETS, VERSION, of_set, pod_of, refusal, rendered, sidecar_of, template, values_of
from support.kubernetes import HELMS, VERSIONS, documents, helm, one, run, validate
from support.proxy import ROOT, binary

GOLDEN = ROOT / "tests" / "golden" / "kubernetes" / "pod.yaml"


def sleeps_in(values: dict) -> bool:
    """Whether the backend's hook is a sleep, which Kubernetes has from 1.30 on."""
    lifecycle = values.get("lifecycle", {})
    sleeps = not lifecycle.get("backendPreStop") and lifecycle.get("backendSleepSeconds", 20) > 0
    return values["mode"] == "wrap" and sleeps


def test_there_are_enough_shapes():
    assert len(SETS) >= 12
    assert {values_of(name)["mode"] for name in SETS} == {"wrap", "config"}


@pytest.mark.parametrize("by", HELMS)
@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name, by):
    done = helm(by, "lint", "--strict", CHART, "-f", SETS[name])

    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"\[(WARNING|ERROR)\]", done.stdout), done.stdout


@pytest.mark.parametrize("name", SETS)
def test_both_helms_render_the_same(name):
    assert of_set(name, by=3) == of_set(name, by=4)


@pytest.mark.parametrize("name", SETS)
def test_kubernetes_takes_it(name):
    sleeps = sleeps_in(values_of(name))
    oldest = template("-f", str(SETS[name]), version="1.29")
    newer = of_set(name)

    if sleeps:
        assert "lifecycle.backendPreStop" in refusal(oldest)
    else:
        assert documents(oldest.stdout) == newer
    for version in VERSIONS[1:] if sleeps else VERSIONS:
        assert validate(newer, version) == []


def test_the_newest_kubernetes_gets_what_others_get():
    assert of_set("coach", version="1.37") == of_set("coach", version="1.31") == of_set("coach")


@pytest.mark.parametrize("version", ["1.25", "1.26", "1.27", "1.28"])
def test_older_clusters_take_the_classic_container(version):
    assert validate(of_set("classic", version=version), version) == []


def test_the_classic_container_starts_before_the_backend():
    pod = pod_of(of_set("classic"))

    names = [container["name"] for container in pod["spec"]["containers"]]
    assert names == ["touchline", "backend"] and "initContainers" not in pod["spec"]
    sidecar = sidecar_of(pod)
    assert "restartPolicy" not in sidecar
    command = ["/usr/local/bin/touchline", "probe", "--wait", "30s", "http://127.0.0.1:9090/livez"]
    assert sidecar["lifecycle"]["postStart"] == {"exec": {"command": command}}
    assert pod["spec"]["containers"][1]["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "20"]}}}


@pytest.mark.parametrize("name", SETS)
def test_touchline_takes_its_configuration(name, tmp_path):
    config = next(o for o in of_set(name) if o["kind"] == "ConfigMap" and "proxy.yaml" in o["data"])
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for file, text in config["data"].items():
        for secret in re.findall(r"/etc/touchline-secrets/([\w-]+)", text):
            (secrets / secret).write_text("not-a-secret-at-all-but-long-enough")
        text = text.replace("/etc/touchline-secrets", str(secrets)).replace("/etc/touchline", str(tmp_path))
        (tmp_path / file).write_text(text)
    sidecar = values_of(name).get("sidecar", {})
    given = {entry["name"]: "https://hooks.example/x" for entry in sidecar.get("extraEnv", [])}

    done = run([str(binary()), "check", "-c", str(tmp_path / "proxy.yaml")], env=given)

    # That the made-up certificate is none is found out where it is used.
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pod_is_the_golden_one():
    golden = yaml.safe_load(GOLDEN.read_text().replace("VERSION", VERSION))
    deployment = one(of_set("golden"), "Deployment")
    pod = deployment["spec"]["template"]

    assert deployment["spec"]["strategy"] == {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert pod["metadata"]["annotations"] == golden["metadata"]["annotations"]
    for part in ("initContainers", "containers"):
        assert [set(c) for c in pod["spec"][part]] == [set(c) for c in golden["spec"][part]]
        for found, expected in zip(pod["spec"][part], golden["spec"][part], strict=True):
            for field in expected:
                assert found[field] == expected[field], f"{expected['name']}.{field}"
    assert pod["spec"] == golden["spec"]


@pytest.mark.parametrize("name", SETS)
def test_no_start_waits_for_the_backend(name):
    for pod in (o["spec"]["template"] for o in of_set(name) if o["kind"] == "Deployment"):
        sidecar = sidecar_of(pod)

        for probe in ("startupProbe", "livenessProbe"):
            assert sidecar[probe]["httpGet"]["path"] == "/livez"
        assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", SETS)
def test_ports_are_numbers(name):
    for document in of_set(name):
        text = json.dumps(document)
        for port in re.findall(r'"(?:targetPort|containerPort)": ("?\w+)', text):
            assert port.isdigit(), f"{document['kind']}: {port}"
        if document["kind"] == "NetworkPolicy":
            assert re.search(r'"port": "', text) is None
        if document["kind"] == "Deployment":
            sidecar = sidecar_of(document["spec"]["template"])
            assert all(isinstance(sidecar[p]["httpGet"]["port"], int) for p in sidecar if p.endswith("Probe"))


@pytest.mark.parametrize("name", SETS)
def test_the_sidecar_can_do_nothing_but_serve(name):
    for pod in (o["spec"]["template"]["spec"] for o in of_set(name) if o["kind"] == "Deployment"):
        rights = sidecar_of({"spec": pod})["securityContext"]

        assert rights["runAsNonRoot"] and rights["readOnlyRootFilesystem"] and rights["runAsUser"] == 65532
        assert rights["capabilities"] == {"drop": ["ALL"]} and rights["allowPrivilegeEscalation"] is False
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False and "fsGroup" not in pod.get("securityContext", {})
        # Secrets are for the sidecar alone, and readable for a user who is not root without a group.
        for volume in (v for v in pod["volumes"] if "secret" in v):
            assert volume["secret"]["defaultMode"] == 0o444
            mounting = [c["name"] for c in pod["containers"] if any(m["name"] == volume["name"] for m in c.get("volumeMounts", []))]
            assert set(mounting) <= {"touchline"}


def test_ports_follow_the_configuration():
    objects = of_set("tokens")
    sidecar = sidecar_of(pod_of(objects))

    assert [port["containerPort"] for port in sidecar["ports"]] == [8088, 9099]
    assert sidecar["livenessProbe"]["httpGet"]["port"] == 9099
    assert one(objects, "Service", "coach-touchline")["spec"]["ports"][0]["targetPort"] == 8088
    assert one(objects, "Service", "coach-touchline-admin")["spec"]["ports"][0]["targetPort"] == 9099
    # The token is in the configuration, so the hook reads it.
    command = sidecar["lifecycle"]["preStop"]["exec"]["command"]
    assert command[1:] == ["drain", "--wait", "15s", "--config", "/etc/touchline/proxy.yaml"]


def test_the_services_of_a_careful_start():
    objects = of_set("careful-start")
    first, second = (one(objects, "Service", name)["spec"] for name in ("coach-touchline", "coach-touchline-proxied"))

    assert (first["ports"][0]["targetPort"], second["ports"][0]["targetPort"]) == (8000, 8080)
    assert first["selector"] == second["selector"] == one(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    test = one(objects, "Pod")["spec"]["containers"]
    assert [c["args"] for c in test] == [
        ["probe", "--wait", "30s", "http://coach-touchline-proxied.prod.svc:80/api/challenges"],
        ["probe", "--wait", "30s", "http://coach-touchline-admin.prod.svc:9090/readyz"],
    ]


def test_touchline_answers_by_the_names_that_helm_test_calls(proxy):
    for container in one(of_set("careful-start"), "Pod")["spec"]["containers"]:
        url = httpx.URL(container["args"][-1])
        port = proxy.admin_port if url.port == 9090 else proxy.port

        answer = httpx.get(url.copy_with(host="127.0.0.1", port=port), headers={"Host": url.netloc.decode()}, trust_env=False)

        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", SETS)
def test_services_select_the_pods_and_not_the_test(name):
    objects = of_set(name)
    labels = [o["spec"]["template"]["metadata"]["labels"] for o in objects if o["kind"] == "Deployment"]
    selectors = [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    selectors += [o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] in ("PodDisruptionBudget", "PodMonitor")]

    for selector in selectors:
        assert all(selector.items() <= pod.items() for pod in labels)
        for test in (o for o in objects if o["kind"] == "Pod"):
            assert not selector.items() <= test["metadata"]["labels"].items()


def test_autoscaling_goes_by_the_backend_alone():
    objects = of_set("coach")
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]

    assert "replicas" not in one(objects, "Deployment")["spec"]
    assert scaler["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    target = {"type": "Utilization", "averageUtilization": 80}
    resource = {"name": "cpu", "container": "backend", "target": target}
    assert scaler["metrics"] == [{"type": "ContainerResource", "containerResource": resource}]


def test_the_backend_keeps_variables_that_it_has():
    env = pod_of(of_set("claude-own-url"))["spec"]["containers"][0]["env"]
    pointed = pod_of(of_set("claude"))["spec"]["containers"][0]["env"]

    assert [entry["name"] for entry in env] == ["ANTHROPIC_BASE_URL", "NO_PROXY"]
    assert env[0]["value"].endswith("/reports")
    assert pointed[2:] == [
        {"name": "ANTHROPIC_BASE_URL", "value": "http://127.0.0.1:8085"},
        {"name": "NO_PROXY", "value": "127.0.0.1"},
    ]


def test_off_is_a_word_for_touchline():
    objects = of_set("off")
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["proxy.yaml"])

    assert config["control"] == "off"
    assert config["telemetry"]["alerts"]["rules"] == {"route_p95": "off", "redis_down": "off"}
    # Nothing would answer a drain.
    assert "lifecycle" not in sidecar_of(pod_of(objects))


# What a reader of YAML may take for something else than the text that it is, and numbers that Go writes as 2e+06.
AWKWARD = "yes no on off null ~ 1e3 0x10 0o7 010 1_000 12:30 2001-01-01 .5 +1 = << true 1.0 y #x - ${TAG}".split()


@pytest.mark.parametrize("by", HELMS)
def test_values_reach_touchline_as_they_were_written(by, tmp_path):
    route = {"path": "/a", "cache": {"ttl": "1m", "tags": AWKWARD}}
    config = {"ingress": {"routes": [route]}, "cache": {"max_new_keys": 2_000_000}, "telemetry": {"max_series": 10_000_000}}
    values = tmp_path / "values.yaml"
    # JSON, as PyYAML leaves some of them bare.
    values.write_text(json.dumps({"config": config}))
    text = one(rendered(*IMAGE, "-f", str(values), by=by), "ConfigMap")["data"]["proxy.yaml"]
    (tmp_path / "proxy.yaml").write_text(text)

    done = run([str(binary()), "check", "-c", str(tmp_path / "proxy.yaml"), "--effective"], env={"TAG": "from-outside"})

    assert done.returncode == 0, done.stderr
    effective = yaml.load(done.stdout, Loader=yaml.CSafeLoader)
    assert effective["ingress"]["routes"][0]["cache"]["tags"] == [*AWKWARD[:-1], "from-outside"]
    assert (effective["cache"]["max_new_keys"], effective["telemetry"]["max_series"]) == (2_000_000, 10_000_000)


def test_a_rollout_begins_with_a_change_and_only_then():
    def checksum(*arguments: str) -> str | None:
        pod = pod_of(rendered("-f", str(SETS["rollout"]), *arguments))
        return pod["metadata"]["annotations"].get("checksum/config")

    first = checksum()
    assert first and first == checksum("--set", "replicas=5")
    assert first != checksum("--set", "config.ingress.slow_after=3s")
    assert first != checksum("--set-string", "files.jwks\\.json=x")
    assert checksum("--set", "reload.strategy=hot") is None


def test_the_way_around_touchline_is_closed():
    policy = one(of_set("locked-down"), "NetworkPolicy")["spec"]
    redis = one(of_set("redis"), "NetworkPolicy")["spec"]

    opened = {port["port"]: rule.get("from") for rule in policy["ingress"][:2] for port in rule["ports"]}
    assert set(opened) == {8080, 9090}
    assert opened[8080] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}}}]
    assert all("from" in rule for rule in policy["ingress"])
    ports = [port["port"] for rule in redis["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 443, 6380, 5432, 9090]
    assert [port["port"] for port in policy["egress"][-1]["ports"]] == [4318]


@pytest.mark.parametrize(
    ("url", "mode", "ports"),
    [
        ("redis://user:${PW}@redis:6390/0", "standalone", [6390]),
        ("redis://a:7000,b:7001,c:7000", "cluster", [7000, 7001]),
        ("redis://s1:26379,s2:26379", "sentinel", [26379, 6379]),
        ("rediss://${REDIS:-redis.internal:6379}", "standalone", [6379]),
        ("redis+unix:///run/redis.sock", "standalone", []),
    ],
)
def test_a_policy_lets_redis_through(url, mode, ports, tmp_path):
    values = {"networkPolicy": {"enabled": True}, "config": {"cache": {"redis": {"url": url, "mode": mode}}}}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))

    policy = one(rendered(*IMAGE, "-f", str(file)), "NetworkPolicy")["spec"]

    found = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert found == [53, 53, 443, *ports, 5432, 9090]


@pytest.mark.parametrize("name", ["locked-down", "monitoring", "config", "coach", "careful-start", "tokens"])
def test_common_labels_are_everywhere(name):
    objects = rendered("-f", str(SETS[name]), "--set", "commonLabels.team=coaching")

    for document in objects:
        where = f"{document['kind']}/{document['metadata']['name']}"
        assert document["metadata"]["labels"]["team"] == "coaching", where
        assert document["metadata"]["namespace"] == "prod", where
        if document["kind"] == "Deployment":
            assert document["spec"]["template"]["metadata"]["labels"]["team"] == "coaching"


def test_images_come_from_one_registry_by_digest():
    objects = of_set("locked-down")
    spec = pod_of(objects)["spec"]
    containers = [c for pod in (spec, one(objects, "Pod")["spec"]) for c in pod.get("initContainers", []) + pod["containers"]]

    for container in containers:
        assert re.fullmatch(r"mirror\.example/[\w-]+@sha256:[0-9a-f]{64}", container["image"])
    assert spec["imagePullSecrets"] == one(objects, "Pod")["spec"]["imagePullSecrets"] == [{"name": "mirror"}, {"name": "team"}]
    assert sidecar_of({"spec": spec})["imagePullPolicy"] == "Always"


def test_inject_makes_the_same_pod(tmp_path):
    objects = of_set("golden")
    deployment = one(objects, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    plain = copy.deepcopy(deployment)
    bare = plain["spec"]["template"]
    del bare["metadata"]["annotations"], bare["spec"]["initContainers"], bare["spec"]["volumes"]
    del bare["spec"]["terminationGracePeriodSeconds"]
    for field in ("env", "lifecycle"):
        del bare["spec"]["containers"][0][field]
    (tmp_path / "proxy.yaml").write_text(one(objects, "ConfigMap", "touchline-config")["data"]["proxy.yaml"])
    image = sidecar_of({"spec": spec})["image"]

    done = run(
        [str(binary()), "inject", "-f", "-", "--config", str(tmp_path / "proxy.yaml"), "--image", image],
        given=yaml.safe_dump(plain),
    )

    assert done.returncode == 0, done.stderr
    injected = pod_of(documents(done.stdout))
    assert sidecar_of(injected) == sidecar_of({"spec": spec})
    assert injected["spec"]["volumes"] == spec["volumes"]
    assert injected["spec"]["terminationGracePeriodSeconds"] == spec["terminationGracePeriodSeconds"]
    backends = [next(c for c in s["containers"] if c["name"] == "backend") for s in (injected["spec"], spec)]
    assert backends[0]["lifecycle"] == backends[1]["lifecycle"]
    assert backends[0]["env"] == backends[1]["env"]

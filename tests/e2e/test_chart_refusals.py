"""The Helm chart: what it refuses, and how it says so."""

import re

import pytest

from support.chart import CHART, IMAGE, SECRET, SETS, of_set, pod_of, refusal, rendered, template
from support.kubernetes import HELMS, helm


@pytest.mark.parametrize("by", HELMS)
@pytest.mark.parametrize(
    ("key", "typo"),
    [
        ("replicas=1,replcas=2", "replcas"),
        ("image.tagg=x", "tagg"),
        ("sidecar.moed=native", "moed"),
        ("service.proxed=true", "proxed"),
        ("networkPolicy.extraEgres=x", "extraEgres"),
        ("lifecycle.drainwait=1s", "drainwait"),
        ("config.ingres.backend=x", "ingres"),
        ("config.ingress.routes[0].path=/a,config.ingress.routes[0].cache.tll=30m", "tll"),
        ("config.claude.budgets[0].nmae=x", "nmae"),
    ],
)
def test_a_typo_fails_lint_by_its_name(by, key, typo):
    done = helm(by, "lint", CHART, *IMAGE, "--set", key)

    assert done.returncode != 0
    assert re.search(rf"dditional propert(y|ies) '?{typo}'? (is )?not allowed", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("setting", "version", "sentence"),
    [
        ("replicas=2", "1.28", "sidecar.mode is native, which needs Kubernetes 1.29 or newer, and this is v1.28"),
        ("replicas=2", "1.29", "preStop.sleep needs Kubernetes 1.30 or newer, and this is v1.29"),
        (
            "config.claude.mode=observe,backend.env[0].name=NO_PROXY,backend.env[0].value=.svc",
            "1.33",
            "NO_PROXY in backend.env does not name 127.0.0.1",
        ),
        ("sidecar.mode=container", "1.28", "preStop.sleep needs Kubernetes 1.30"),
        (
            "lifecycle.terminationGracePeriodSeconds=54",
            "1.33",
            "lifecycle.terminationGracePeriodSeconds is 54, and a stop takes up to 55: "
            "20 for the preStop hooks, 10 for the backend, 25 for config.drain.timeout",
        ),
        ("config.drain.timeout=${T}", "1.33", "config.drain.timeout is no time such as 25s"),
        ("config.admin=off", "1.33", "config.admin is off, so the pod would have no probes"),
        ("config.admin=false", "1.33", "config.admin is off, so the pod would have no probes"),
        ("config.admin.listen=127.0.0.1:9090", "1.33", "config.admin.listen is on the loopback"),
        ("config.ingress.listen=127.0.0.1:8080", "1.33", "config.ingress.listen is on the loopback"),
        ("config.ingress.listen=${LISTEN}", "1.33", "config.ingress.listen comes from the environment"),
        ("backend.image.repository=", "1.33", "backend.image.repository is empty"),
        ("config.ingress=null", "1.33", "config.ingress is empty"),
        ("autoscaling.enabled=true", "1.33", "autoscaling.cpuUtilization is per cent of the backend's CPU request"),
        ("mode=config", "1.33", "selector is empty"),
        ("selector.app=x", "1.33", "selector is for mode: config"),
        ("service.proxied=true,config.ingress.backend=unix:/run/x", "1.33", "config.ingress.backend has no port"),
        ("monitor.kind=ServiceMonitor,adminService.enabled=false", "1.33", "a ServiceMonitor scrapes the admin Service"),
        ("test.path=/a,config.ingress.hosts[0]=x", "1.33", "helm test would call coach-touchline.prod.svc, which config.ingress.hosts"),
        ("monitor.tokenSecret.name=x", "1.33", "monitor.tokenSecret.key is empty"),
        ("files.a\\.pem=-----BEGIN EC PRIVATE KEY-----", "1.33", "files has a private key in a.pem"),
        ("files.proxy\\.yaml=x", "1.33", "files has proxy.yaml, which comes from config"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(setting, version, sentence):
    # Each Helm in turn, as the sentences are ours.
    by = HELMS[len(sentence) % 2]

    [said] = re.findall(r": touchline: (.+)", refusal(template(*IMAGE, "--set", setting, version=version, by=by)))
    assert sentence in said


@pytest.mark.parametrize(
    ("version", "native", "sleeps"),
    [
        ("v1.28.15-eks-2d5f260", False, False),
        ("v1.29.0-gke.1031000", True, False),
        ("v1.29.15+k3s1", True, False),
        ("v1.30.0-gke.100", True, True),
        ("v1.33.1-eks-595af52", True, True),
    ],
)
def test_versions_of_providers_are_understood(version, native, sleeps):
    hook = ("--set", "lifecycle.backendPreStop.exec.command={sleep,20}")

    assert (template(*IMAGE, *hook, version=version).returncode == 0) is native
    assert (template(*IMAGE, version=version).returncode == 0) is sleeps


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ((), 60),
        (("lifecycle.terminationGracePeriodSeconds=55",), 55),
        (("lifecycle.drainWait=1m",), 100),
        (("lifecycle.drainWait=1m", "config.control=off"), 60),
        (("config.drain.timeout=1500ms",), 40),
        (("lifecycle.backendShutdownSeconds=45", "config.drain.timeout=2m"), 190),
        (("config.drain.timeout=${T}", "lifecycle.terminationGracePeriodSeconds=90"), 90),
    ],
)
def test_the_grace_period_covers_hooks_backend_and_drain(settings, seconds):
    pod = pod_of(rendered(*IMAGE, *(part for setting in settings for part in ("--set", setting))))

    assert pod["spec"]["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize("by", HELMS)
@pytest.mark.parametrize(
    "setting",
    [
        f"config.admin.token={SECRET}",
        f"config.control.token={SECRET}",
        f"config.cache.redis.password={SECRET}",
        f"config.cache.redis.url=redis://coach:{SECRET}@redis:6379",
        f"config.cache.identity_secret={SECRET}",
        f"config.claude.api_key={SECRET}",
        f"config.telemetry.otlp.authorization=Bearer {SECRET},config.telemetry.otlp.endpoint=http://otel:4318",
        f"config.telemetry.alerts.notify[0].slack.url=https://hooks.slack.com/services/{SECRET}",
        f"config.telemetry.alerts.notify[0].webhook.authorization={SECRET},config.telemetry.alerts.notify[0].webhook.url=http://a",
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_shown(by, setting):
    done = template(*IMAGE, "--set", setting, by=by)

    key = setting.partition("=")[0]
    assert f"{key} is a secret in plain text" in refusal(done)
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("by", HELMS)
def test_lint_shows_no_secret_either(by):
    done = helm(by, "lint", CHART, *IMAGE, "--set", f"config.admin.token={SECRET},config.admin.tokn={SECRET}")

    assert done.returncode != 0 and "tokn" in done.stdout
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("name", SETS)
def test_there_is_no_secret_in_what_is_rendered(name):
    assert not [o for o in of_set(name) if o["kind"] == "Secret"]

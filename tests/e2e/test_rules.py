"""The rules for Prometheus: promtool's own tests of them, and that none is left out, made up, or different elsewhere."""

import os
import re
import textwrap

import pytest
import yaml

from support.prometheus import MONITORING, RULES, promtool, unknown_in

FOLDER = MONITORING / "prometheus"
TESTS = FOLDER / "rules.test.yaml"
RESOURCE = FOLDER / "prometheusrule.yaml"

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in ALL if "record" in rule}


def test_promtool_accepts_the_rules_and_the_example_of_a_configuration():
    for arguments in (("check", "rules", str(RULES)), ("check", "config", str(FOLDER / "scrape.yaml"))):
        done = promtool(*arguments)

        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALL)} rules found" in promtool("check", "rules", str(RULES)).stdout


@pytest.mark.timeout(180)
def test_every_rule_does_what_its_tests_say():
    done = promtool("test", "rules", str(TESTS), deadline_s=170)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.timeout(60)
def test_promtools_tests_can_fail(tmp_path):
    rules = RULES.read_text().replace("touchline_cache_redis_up) == 0", "touchline_cache_redis_up) == 2")
    assert rules != RULES.read_text()
    (tmp_path / "rules.yaml").write_text(rules)
    document = yaml.safe_load(TESTS.read_text())
    document["tests"] = [test for test in document["tests"] if "Redis" in test["name"]]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    assert promtool("test", "rules", str(tmp_path / "test.yaml")).returncode != 0


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_stays_quiet_and_resolves_in_its_tests(name):
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        states = [bool(entry["exp_alerts"]) for entry in test.get("alert_rule_test", []) if entry["alertname"] == name]
        if states:
            break
    else:
        pytest.fail(f"no test of {name}")

    assert states[0] is False and True in states and states[-1] is False, states


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_value_is_tested_and_used(name):
    expressions = [
        entry["expr"] for test in yaml.safe_load(TESTS.read_text())["tests"] for entry in test.get("promql_expr_test", [])
    ]

    assert any(name in expression for expression in expressions)
    assert any(name in rule["expr"] for rule in ALERTS.values())


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_only_for_what_there_is(rule):
    assert unknown_in(rule["expr"]) == []
    for name in re.findall(r"namespace_job\w*:[\w:]+", rule["expr"]):
        assert name in RECORDS


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_who_how_bad_and_what_to_do(name):
    rule = ALERTS[name]

    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description"}
    texts = " ".join(rule["annotations"].values())
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
    grouped |= {"namespace", "job"} | ({"route", "method"} if "route_method" in rule["expr"] else set())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= grouped
    # One alert per service, or per thing of it, whatever its number of pods.
    assert "instance" not in grouped or name == "TouchlineConfigRejected"


def test_the_operators_resource_has_the_same_groups():
    text = RULES.read_text()
    body = textwrap.indent(text[text.index("groups:\n") :], "  ", lambda line: line.strip())
    head, _, _ = RESOURCE.read_text().partition("spec:\n")
    if "UPDATE_GOLDEN" in os.environ:
        RESOURCE.write_text(f"{head}spec:\n{body}")

    document = yaml.safe_load(RESOURCE.read_text())

    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert document["spec"] == {"groups": GROUPS}, "UPDATE_GOLDEN=1 writes it anew"


def test_alertmanagers_example_names_alerts_that_there_are():
    document = yaml.safe_load((FOLDER / "alertmanager.yaml").read_text())

    for rule in document["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            operator, pattern = re.search(r'alertname(=~?)"([^"]*)"', ",".join(rule[side])).groups()
            matching = [name for name in ALERTS if re.fullmatch(pattern if operator == "=~" else re.escape(pattern), name)]
            assert matching, rule
            # What is not a label of both would be equal by being absent.
            for name in matching:
                has = ALERTS[name]["expr"]
                assert all(label in has or f"namespace_job_{label}" in has for label in rule["equal"]), (name, rule)


def test_the_other_examples_are_yaml_of_the_right_kind():
    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    job = yaml.safe_load((FOLDER / "scrape-kubernetes.yaml").read_text())["scrape_configs"][0]

    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    endpoint, keep = monitor["spec"]["podMetricsEndpoints"][0], job["relabel_configs"][0]
    assert f"{endpoint['relabelings'][0]['regex']};{endpoint['port']}" == keep["regex"] == "touchline;admin"

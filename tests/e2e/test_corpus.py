"""The raw-byte corpus: hostile requests and answers, judged by what the other side really got."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from support.ports import free_port
from support.proxy import ROOT

SHARED = ROOT.parent / "shared"
NEVER = ("UNSAFE", "BROKEN", "HANG", "DOWN")
# At most this many may be answered less strictly than they could be.
LENIENT = 1


@pytest.mark.timeout(600)
def test_nothing_ambiguous_passes_and_nothing_valid_is_refused(touchline, tmp_path):
    if not SHARED.exists():
        pytest.skip("no ../shared beside this checkout")
    port = free_port()
    proxy = touchline(
        f"http://127.0.0.1:{port}",
        ingress={
            "routes": [{"path": "/admin-canary", "deny": True}],
            "limits": {"per_ip": 0},
            "upstream": {"retries": 0, "breaker": {"enabled": False}},
        },
        admin={"readiness": {"backend": False}},
    )
    results = tmp_path / "corpus.json"

    done = subprocess.run(
        [
            sys.executable,
            str(SHARED / "tools" / "run_corpus.py"),
            f"127.0.0.1:{proxy.port}",
            str(port),
            "--h2",
            "same",
            "--deny-path",
            "--json",
            str(results),
        ],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    print(done.stdout, done.stderr)
    cases = json.loads(results.read_text())
    verdicts = Counter(case["verdict"] for case in cases)
    assert len(cases) > 200
    assert [case["name"] for case in cases if case["verdict"] in NEVER] == []
    assert verdicts["LENIENT"] <= LENIENT
    assert done.returncode == 0

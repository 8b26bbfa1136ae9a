"""The Claude plane speaks TLS to the API, and believes no certificate that the configuration does not lead to."""

import pytest

from support.claude import HAIKU, asking, every_sdk
from support.redis import Certificates

pytest_plugins = ["support.claude_fixtures"]


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    """A private authority, and a certificate of 127.0.0.1 and localhost from it."""
    return Certificates(tmp_path)


@every_sdk
def test_calls_go_over_tls(sdk, claude, plane, certificates):
    fake = claude("--tls", str(certificates.cert), str(certificates.key), ca=certificates.ca)
    between = plane(fake, ca=str(certificates.ca))

    for do in ("create", "final"):
        assert sdk(do, between.url, asking("hi")).good()["model"] == HAIKU

    assert len({seen.record["connection"] for seen in fake.calls()}) == 1, "the connection is kept"


@pytest.mark.parametrize("sdk", ["python-2.14.0 sync"], indirect=True)
def test_a_name_is_checked_against_the_certificate(sdk, claude, plane, certificates):
    fake = claude("--tls", str(certificates.cert), str(certificates.key), ca=certificates.ca)
    between = plane(fake, ca=str(certificates.ca), upstream=f"https://localhost:{fake.port}")

    assert sdk("create", between.url, asking("hi")).good()["model"] == HAIKU
    assert fake.last().header("host") in (f"localhost:{fake.port}", None)


@pytest.mark.parametrize("sdk", ["python-2.14.0 sync"], indirect=True)
def test_a_stranger_s_certificate_is_refused(sdk, claude, plane, certificates):
    fake = claude("--tls", str(certificates.cert), str(certificates.key), ca=certificates.ca)
    between = plane(fake)

    outcome = sdk("create", between.url, asking("hi"))

    assert outcome.error["status"] == 502 and "touchline" in outcome.header("request-id")
    assert fake.calls() == [], "not a byte of the call was sent"

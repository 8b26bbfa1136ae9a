"""When calls go wrong: SDKs through the Claude plane see what they would see without it, and try as often."""

import pytest

from support.claude import NODE, SOON, SONNET, asking, every_sdk, left_after, middle, scripted
from support.ports import free_port
from support.wait import until

pytest_plugins = ["support.claude_fixtures"]

# Standard by any reading, so that the requested model stays.
TEXT = "I want to talk about how I plan my week, because I keep postponing the hard tasks until Friday evening."
# One run may meet a busy machine; the middle of several is held to the bound.
RUNS, BOUND_S = 5, 0.1


def told(outcome) -> tuple:
    """What an application can tell one failure from another by."""
    error = outcome.error
    fields = {name: value for name, value in error["headers"] if name.startswith(("anthropic-", "retry", "request"))}
    fields = {name: value for name, value in fields.items() if not name.endswith("-reset")}
    return error["kinds"], error["status"], error["body"], error["message"], fields


def without_id(body: dict | None) -> dict | None:
    """An error's document without the number of the request."""
    return body and {name: value for name, value in body.items() if name != "request_id"}


@every_sdk
@pytest.mark.parametrize(("do", "status"), [("create", 500), ("events", 529)])
def test_an_sdk_tries_as_often_as_without_the_proxy(both, do, status):
    ways = both()
    script = scripted(status=status, headers=SOON)

    straight, through = ways.ask(do, asking(TEXT), headers=script, max_retries=2)

    assert told(through) == told(straight)
    assert through.error["status"] == status
    assert len(ways.direct.calls()) == len(ways.plane.fake.calls()) == 3, "its own tries, not multiplied"
    assert ways.plane.metric("retries_total") == 0


@every_sdk
def test_an_overload_that_passes_is_not_seen(both):
    ways = both()
    for fake in (ways.direct, ways.plane.fake):
        fake.script({"status": 529, "headers": SOON, "times": 2})

    straight, through = ways.ask("create", asking("hi"), max_retries=2)

    assert straight.good()["model"] == SONNET and through.good()
    calls = ways.plane.fake.calls()
    assert len(calls) == 3
    assert len({seen.body for seen in calls}) == 1, "the same turn is sent to the same model"


@every_sdk
@pytest.mark.parametrize("do", ["create", "events"])
def test_a_rate_limit_passes_unchanged(both, do):
    ways = both()
    limits = {"retry-after": "7", "anthropic-ratelimit-requests-remaining": "0", "anthropic-fast-requests-limit": "5"}

    straight, through = ways.ask(do, asking(TEXT), headers=scripted(status=429, headers=limits))

    assert told(through) == told(straight)
    assert "RateLimitError" in through.kinds()
    assert {name: through.header(name) for name in limits} == limits
    assert through.header("request-id").startswith("req_") and "touchline" not in through.header("request-id")
    assert len(ways.plane.fake.calls()) == 1


@every_sdk
def test_a_spend_limit_is_not_tried_again(both):
    ways = both()
    script = scripted(status=429, details={"error_code": "enforced_spend_limit_reached"})

    straight, through = ways.ask("create", asking(TEXT), headers=script, max_retries=2)

    assert told(through) == told(straight)
    assert through.header("x-should-retry") == "false" and through.header("retry-after") is None
    assert len(ways.direct.calls()) == len(ways.plane.fake.calls()) == 1


@every_sdk
def test_errors_keep_their_class(both):
    ways = both()

    for status in (400, 401, 402, 403, 404, 409, 413, 503, 504):
        straight, through = ways.ask("create", asking(TEXT), headers=scripted(status=status, message="Café ✓"))

        assert told(through) == told(straight)
        assert through.error["status"] == status
    assert len(ways.plane.fake.calls()) == len(ways.direct.calls())


@every_sdk
def test_the_client_s_own_mistake_is_the_api_s_to_tell(both):
    ways = both()

    for wrong in ({"max_tokens": 0}, {"messages": []}, {"model": "claude-unknown-9"}, {"temperature": 9}):
        straight, through = ways.ask("create", {**asking(TEXT), **wrong})

        # SDKs find some mistakes by themselves.
        assert straight.error and told(through)[:2] == told(straight)[:2], wrong
        assert without_id(through.error["body"]) == without_id(straight.error["body"]), wrong


@every_sdk
@pytest.mark.parametrize("do", ["events", "final"])
@pytest.mark.parametrize("error", ["overloaded_error", "api_error"])
def test_an_error_event_raises_the_same(both, do, error):
    ways = both()
    script = scripted(error_after=5, error=error, message="went wrong")

    straight, through = ways.ask(do, asking(TEXT), headers=script, max_retries=2)

    assert told(through) == told(straight)
    assert len(through.events) == len(straight.events)
    assert "went wrong" in str(through.error["body"]) + through.error["message"]
    assert len(ways.plane.fake.calls()) == len(ways.direct.calls()) == 1


@every_sdk
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_stream_cut_inside_an_event_breaks_off(both, reset):
    ways = both()

    straight, through = ways.ask("events", asking(TEXT), headers=scripted(close_after=900, reset=reset), max_retries=2)

    assert through.error and straight.error
    # The HTTP library tells a reset from an end; that much is lost.
    assert through.error["kinds"][1:] == straight.error["kinds"][1:] or "TransportError" in through.kinds()
    assert len(ways.plane.fake.calls()) == len(ways.direct.calls()) == 1, "nothing is sent again after the first byte"
    line = ways.plane.lines(1)[0]
    assert line["outcome"] not in ("done", None) and line["estimated"] is True


@every_sdk
def test_a_stream_cut_between_events_ends_with_an_error_event(both):
    ways = both()

    straight, through = ways.ask("events", asking(TEXT), headers=scripted(close_after_events=6), max_retries=2)

    assert straight.error, "without the proxy the connection breaks"
    kinds = through.kinds()
    assert {"APIError", "AnthropicError"} & set(kinds), kinds
    assert "api_error" in str(through.error["body"]) + through.error["message"]
    # Some SDKs drop what they have not shown yet when a connection breaks; nothing is dropped here.
    assert len(through.events) >= len(straight.events)
    assert len(ways.plane.fake.calls()) == 1


@every_sdk
def test_an_answer_cut_in_its_head_or_body_is_an_error(both):
    ways = both()

    for script in ({"close_before_head": True}, {"close_in_head": 30}):
        before = len(ways.plane.fake.calls())
        straight, through = ways.ask("create", asking(TEXT), headers=scripted(**script), max_retries=0)
        assert straight.error and through.error["status"] == 502
        assert through.error["body"]["error"]["type"] == "api_error"
        assert through.header("request-id").startswith("req_touchline_")
        assert len(ways.plane.fake.calls()) - before <= 2, "once, and once more on a fresh connection"

    if ways.sdk.flavour == "node-0.27.3":
        return  # Its HTTP library waits for ever for the rest of a body.
    straight, through = ways.ask("create", asking(TEXT), headers=scripted(close_after=40), max_retries=0)
    assert straight.error and through.error and through.error["status"] is None


@every_sdk
def test_nothing_listens_at_the_api(sdk, plane):
    between = plane(upstream=f"http://127.0.0.1:{free_port()}")

    outcome = sdk("create", between.url, asking(TEXT))

    assert "InternalServerError" in outcome.kinds() and outcome.error["status"] == 502
    assert outcome.error["body"]["error"]["type"] == "api_error"
    assert between.lines(1)[0]["http.response.status_code"] == 502


@every_sdk
@pytest.mark.parametrize("do", ["create", "events"])
def test_an_sdk_that_loses_patience_stops_the_call(both, do):
    ways = both()

    straight, through = ways.ask(do, asking(TEXT), headers=scripted(head_delay_ms=8000), timeout=0.4)

    assert through.error["kinds"] == straight.error["kinds"]
    assert any("Timeout" in kind for kind in through.kinds())
    assert through.seconds < 2
    until(lambda: ways.plane.fake.last().record["gone_ms"], "the call at the API is cancelled")
    assert ways.plane.lines(1)[0]["http.response.status_code"] == 499


@every_sdk
@pytest.mark.parametrize("do", ["create", "events"])
def test_an_api_that_is_silent_is_a_timeout_of_the_api(sdk, plane, do):
    between = plane(timeouts={"first_byte": "300ms", "total": "300ms"})

    outcome = sdk(do, between.url, asking(TEXT), headers=scripted(head_delay_ms=8000))

    assert "InternalServerError" in outcome.kinds() and outcome.error["status"] == 504
    assert outcome.error["body"]["error"]["type"] == "timeout_error"
    assert len(between.fake.calls()) == 1
    assert between.fake.last().record["status"] is not None


@every_sdk
def test_a_stream_that_falls_silent_ends_with_an_error(sdk, plane):
    between = plane(timeouts={"idle": "300ms"})

    outcome = sdk("events", between.url, asking(TEXT), headers=scripted(silence_after=5))

    assert {"APIError", "AnthropicError"} & set(outcome.kinds()), outcome.kinds()
    assert len(outcome.events) >= 3 and outcome.seconds < 5


@every_sdk
def test_pings_keep_a_slow_stream_alive(sdk, plane):
    between = plane(timeouts={"idle": "600ms"})
    script = scripted(pings=8, event_delay_ms=150, text="ok", thinking=False)

    outcome = sdk("events", between.url, asking(TEXT), headers=script)

    assert outcome.types()[-1] == "message_stop" and outcome.seconds > 1


@every_sdk
def test_a_client_that_leaves_a_stream_stops_the_call(sdk, plane):
    between = plane()
    delays = []
    for number in range(RUNS):
        script = scripted(event_delay_ms=30, output_tokens=2000)
        outcome = sdk("leave", between.url, asking(f"{TEXT} {number}"), headers=script, after=4)

        assert outcome.error is None and len(outcome.events) == 4
        delays.append(left_after(between.fake, outcome.left_ms))

    assert middle(delays) < BOUND_S, delays
    lines = between.lines(RUNS)
    assert all(line["estimated"] is True and line["outcome"] == "client_abort" for line in lines), lines
    assert between.metric("estimated_total") == RUNS


@pytest.mark.parametrize("sdk", ["python-0.34.2 async", "python-2.14.0 async", *NODE], indirect=True)
def test_a_client_that_leaves_before_the_answer_stops_the_call(sdk, plane):
    between = plane()
    delays = []
    for number in range(RUNS):
        script = scripted(head_delay_ms=8000)
        outcome = sdk("abandon", between.url, asking(f"{TEXT} {number}"), headers=script, after_s=0.3)

        assert outcome.error is None
        delays.append(left_after(between.fake, outcome.left_ms))

    assert middle(delays) < BOUND_S, delays
    assert all(line["http.response.status_code"] == 499 for line in between.lines(RUNS))

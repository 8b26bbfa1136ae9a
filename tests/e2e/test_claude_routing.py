"""What the Claude plane decides and counts, seen through the SDKs: moves, fallbacks, budgets, money."""

from decimal import Decimal

import pytest

from support.claude import HAIKU, OPUS, SOON, SONNET, TIERS, asking, cost_of, every_sdk, scripted
from support.wait import until

pytest_plugins = ["support.claude_fixtures"]

COACHING = "I want to talk about how I plan my week, because I keep postponing the hard tasks until Friday evening."
ASSESSMENT = "Please score my confidence assessment: 1a 2c 3b 4d 5a."
LONG = "You are a patient coach for planning and habits. Ask one question at a time and be brief. " * 120

# What a few SDKs of different kinds show is enough where the SDK is not the matter.
some_sdks = pytest.mark.parametrize(
    "sdk", ["python-0.34.2 sync", "python-2.14.0 async", "node-0.27.3", "node-1.14.0"], indirect=True
)


def usage_of(outcome) -> dict:
    """What the API says that a call has used, whole or in events."""
    if outcome.value:
        return outcome.value["usage"]
    usage = dict(outcome.events[0]["message"]["usage"])
    for event in outcome.events:
        if event["type"] == "message_delta":
            usage.update({name: value for name, value in event["usage"].items() if value is not None})
    return usage


def model_of(outcome) -> str:
    return (outcome.value or outcome.events[0]["message"])["model"]


def dollars(value: float) -> Decimal:
    """A sum from a log or a page, in whole nano-dollars."""
    return round(Decimal(repr(value)), 9)


@some_sdks
def test_a_conversation_moves_and_comes_back(sdk, plane):
    between = plane()
    said, models = [], []

    for text in ("hi", COACHING, "How do I begin with the hardest one on Monday morning, in small steps?", "thanks!"):
        said.append({"role": "user", "content": text})
        outcome = sdk("create", between.url, {**asking(), "messages": said})
        models.append(outcome.good()["model"])
        said = [*said, {"role": "assistant", "content": outcome.value["content"]}]

    assert models[:3] == [HAIKU, SONNET, SONNET]
    assert [seen.record["status"] for seen in between.fake.calls()] == [200] * 4, "no call is sent twice"
    assert between.metric("fallbacks_total") == 0


@every_sdk
def test_a_serious_turn_never_goes_to_the_economy_tier(sdk, plane):
    between = plane()

    outcome = sdk("create", between.url, asking("hi, I don't want to live any more, I want to die"), raw=True)

    assert outcome.good()["model"] == SONNET
    assert outcome.header("x-touchline-reason").split(";")[0] in ("serious", "emotional_support")


@some_sdks
def test_an_assessment_is_worth_the_premium_model(sdk, plane):
    between = plane()

    outcome = sdk("create", between.url, asking(ASSESSMENT), raw=True)

    assert outcome.good()["model"] == OPUS
    assert outcome.header("x-touchline-tier") == "premium"


@every_sdk
def test_a_count_is_of_the_model_that_would_answer(sdk, plane):
    between = plane()

    sdk("count", between.url, {"model": SONNET, "messages": [{"role": "user", "content": "hi"}]})
    sdk("count", between.url, {"model": SONNET, "messages": [{"role": "user", "content": COACHING}]})

    assert [seen.model for seen in between.fake.requests("/v1/messages/count_tokens")] == [HAIKU, SONNET]
    assert between.stats()["total_requests"] == 0 and between.metric("conversations") == 0


@every_sdk
@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("do", ["create", "events"])
def test_a_refused_move_is_answered_as_it_was_asked(both, do, status):
    ways = both()
    ways.plane.fake.script({"status": status, "model": HAIKU, "message": "not with this model", "times": 0})

    straight, through = ways.ask(do, asking("hi"), max_retries=2)

    assert through.error is None and model_of(through) == SONNET
    assert [seen.model for seen in ways.plane.fake.calls()] == [HAIKU, SONNET]
    assert ways.plane.fake.last().body == ways.direct.last().body
    assert ways.plane.metric("fallbacks_total") == 1
    line = ways.plane.lines(1)[0]
    assert (line["fell_back"], line["model"], line["tier"]) == (True, SONNET, "standard")
    assert dollars(line["cost_usd"]) == cost_of(SONNET, usage_of(through)), "a refusal costs nothing"

    # The conversation stays where it is, and for an hour that model is not tried again for calls like this one.
    more = {"messages": [*asking("hi")["messages"], {"role": "assistant", "content": "Hello."}]}
    more["messages"].append({"role": "user", "content": "thanks"})
    assert ways.sdk("create", ways.plane.url, {**asking(), **more}).good()["model"] == SONNET
    assert ways.sdk("create", ways.plane.url, asking("hello")).good()["model"] != HAIKU
    assert [seen.model for seen in ways.plane.fake.calls()].count(HAIKU) == 1
    assert straight.error is None


@some_sdks
def test_breakpoints_that_are_refused_are_left_out(both, sdk):
    ways = both()
    ways.plane.fake.script({"status": 400, "message": "cache_control: Extra inputs are not permitted"})

    straight, through = ways.ask("create", asking(COACHING, system=LONG))

    assert through.good()["content"] == straight.good()["content"]
    marked, plain = ways.plane.fake.calls()
    assert b"cache_control" in marked.body and plain.body == ways.direct.last().body


@every_sdk
def test_an_error_that_is_not_ours_is_asked_for_once_more_and_then_shown(both):
    ways = both()

    straight, through = ways.ask("create", asking("hi"), headers=scripted(status=400, message="no"), max_retries=2)

    assert "BadRequestError" in through.kinds()
    assert through.error["body"]["error"] == straight.error["body"]["error"]
    assert [seen.model for seen in ways.plane.fake.calls()] == [HAIKU, SONNET]


@every_sdk
def test_a_retry_of_the_sdk_gets_the_same_model(sdk, plane):
    between = plane()
    between.fake.script({"status": 529, "headers": SOON, "times": 2})

    outcome = sdk("create", between.url, asking("hi"), max_retries=2)

    assert outcome.good()["model"] == HAIKU
    assert [seen.model for seen in between.fake.calls()] == [HAIKU] * 3


@every_sdk
def test_observe_tells_what_would_have_been(sdk, plane):
    between = plane(mode="observe")

    outcome = sdk("create", between.url, asking("hi"), raw=True)

    assert outcome.good()["model"] == SONNET
    assert not [name for name, _ in outcome.headers if name.lower().startswith("x-touchline")]
    line = between.lines(1)[0]
    assert (line["model"], line["tier"], line["wanted"]) == (SONNET, "standard", "economy")
    assert between.metric("decisions_total", wanted="economy", tier="standard") == 1
    assert between.metric("would_save_usd") > 0


@every_sdk
def test_off_counts_tokens_and_money(sdk, plane):
    between = plane(mode="off")

    outcomes = [sdk(do, between.url, asking("hi")) for do in ("create", "events")]

    used = [usage_of(outcome) for outcome in outcomes]
    stats = between.stats()
    assert stats["input_tokens"] == sum(usage["input_tokens"] for usage in used)
    assert stats["output_tokens"] == sum(usage["output_tokens"] for usage in used)
    assert [line["reason"] for line in between.lines(2)] == ["off", "off"]
    assert [dollars(line["cost_usd"]) for line in between.lines(2)] == [cost_of(SONNET, usage) for usage in used]


@every_sdk
def test_costs_are_what_the_api_s_usage_says(sdk, plane):
    between = plane()
    tool = {"name": "note", "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}
    calls = [
        ("create", asking("hi"), {}),
        ("events", asking("hello"), {}),
        ("create", asking(COACHING), {}),
        ("create", asking(COACHING + "!", system=LONG), {}),
        ("events", asking(COACHING + "?", system=LONG), {}),
        ("create", asking("Please note that I plan on Sundays.", tools=[tool]), {}),
        ("events", asking(ASSESSMENT), {}),
        ("create", asking(COACHING + "."), scripted(stop_reason="refusal")),
        ("events", asking(COACHING + ".."), scripted(server_tools=True)),
        ("events", asking(COACHING + "..."), scripted(encoding="gzip")),
        (
            "create",
            asking(COACHING, system=[{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]),
            {},
        ),
        (
            "events",
            asking(COACHING + "-", system=[{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]),
            {},
        ),
    ]
    wanted = []
    for do, params, headers in calls:
        outcome = sdk(do, between.url, params, headers=headers)
        assert outcome.error is None, outcome.error
        wanted.append((model_of(outcome), usage_of(outcome)))
    # Errors cost nothing.
    sdk("create", between.url, asking(COACHING + "--"), headers=scripted(status=429))

    lines = between.lines(len(calls) + 1)
    assert [line["model"] for line in lines[:-1]] == [model for model, _ in wanted]
    assert [dollars(line["cost_usd"]) for line in lines[:-1]] == [cost_of(*one) for one in wanted]
    assert "cost_usd" not in lines[-1]
    assert any(usage.get("cache_read_input_tokens") for _, usage in wanted), "something was read from the cache"

    total, stats = sum(cost_of(*one) for one in wanted), between.stats()
    assert dollars(stats["cost_usd"]) == total
    assert stats["input_tokens"] == sum(usage["input_tokens"] for _, usage in wanted)
    assert stats["output_tokens"] == sum(usage["output_tokens"] for _, usage in wanted)
    assert stats["cache_read_tokens"] == sum(usage.get("cache_read_input_tokens") or 0 for _, usage in wanted)
    assert stats["cache_write_tokens"] == sum(usage.get("cache_creation_input_tokens") or 0 for _, usage in wanted)
    for model, tier in TIERS.items():
        assert stats[f"{tier}_usage"] >= sum(one == model for one, _ in wanted)
        cost = sum(cost_of(*one) for one in wanted if one[0] == model)
        assert round(Decimal(between.metric("cost_usd_total", model=model)), 9) == cost


@every_sdk
def test_savings_are_against_what_was_asked_for(sdk, plane):
    between = plane()

    outcome = sdk("create", between.url, asking("hi"))

    usage = outcome.good()["usage"]
    spent = cost_of(HAIKU, usage)
    assert dollars(between.lines(1)[0]["saved_usd"]) == cost_of(SONNET, usage) - spent
    stats = between.stats()
    assert dollars(stats["saved_usd_vs_requested"]) == cost_of(SONNET, usage) - spent
    assert dollars(stats["saved_usd_vs_premium"]) == cost_of(OPUS, usage) - spent
    assert (stats["economy_usage"], stats["total_requests"]) == (1, 1)


@every_sdk
@pytest.mark.parametrize("do", ["create", "events"])
def test_a_used_up_budget_is_a_rate_limit_without_retries(sdk, plane, do):
    between = plane(budgets=[{"name": "day", "window": "24h", "limit": "0.000001usd"}])
    assert sdk(do, between.url, asking(COACHING)).error is None, "what was spent before a call decides"

    outcome = sdk(do, between.url, asking(COACHING + "!"), max_retries=2)

    assert "RateLimitError" in outcome.kinds() and outcome.error["status"] == 429
    assert outcome.error["body"]["error"]["type"] == "rate_limit_error"
    assert outcome.header("x-should-retry") == "false" and 0 < int(outcome.header("retry-after")) <= 86_400
    assert outcome.header("request-id").startswith("req_touchline_")
    assert len(between.fake.calls()) == 1 and outcome.seconds < 2
    line = between.lines(2)[1]
    assert (line["http.response.status_code"], line["reason"]) == (429, "budget")
    assert between.metric("budget_refused_total") == 1


@some_sdks
def test_a_budget_is_spent_by_what_calls_cost(sdk, plane):
    between = plane(budgets=[{"name": "day", "window": "24h", "limit": "0.02usd", "soft": "100%"}])
    spent, outcome = Decimal(0), None

    for number in range(30):
        outcome = sdk("create", between.url, asking(f"{COACHING} {number}"))
        if outcome.error:
            break
        spent += cost_of(SONNET, outcome.value["usage"])

    assert "RateLimitError" in outcome.kinds()
    assert Decimal("0.02") <= spent + Decimal("0.004") < Decimal("0.028"), spent
    until(lambda: abs(between.metric("budget_used_ratio") - float(spent / Decimal("0.02"))) < 0.001, "all is settled")


@some_sdks
def test_a_soft_limit_takes_an_assessment_one_tier_down(sdk, plane):
    budget = {"name": "day", "window": "24h", "limit": "1usd", "soft": "1%"}
    between = plane(budgets=[budget])
    sdk("create", between.url, asking(COACHING), headers=scripted(output_tokens=1000))

    outcome = sdk("create", between.url, asking(ASSESSMENT), raw=True)

    assert outcome.good()["model"] == SONNET
    assert outcome.header("x-touchline-reason").split(";")[0] == "budget"


@every_sdk
def test_long_prompts_are_cached_without_the_client_s_doing(sdk, plane):
    between = plane()
    said = [{"role": "user", "content": COACHING}]
    used = []

    for text in ("And then?", "And after that?", "Why?"):
        outcome = sdk("create", between.url, {**asking(), "system": LONG, "messages": said})
        used.append(outcome.good()["usage"])
        said = [*said, {"role": "assistant", "content": outcome.value["content"]}, {"role": "user", "content": text}]

    assert used[0]["cache_creation_input_tokens"] > 512 and not used[0]["cache_read_input_tokens"]
    assert all(usage["cache_read_input_tokens"] > 512 for usage in used[1:]), used
    assert between.metric("breakpoints_total", result="read") == 2
    assert between.stats()["saved_usd_vs_requested"] > 0
    assert [seen.record["status"] for seen in between.fake.calls()] == [200] * 3


@some_sdks
def test_a_tier_that_is_named_for_the_same_turn_counts(sdk, plane):
    between = plane()
    assert sdk("create", between.url, asking("hi")).good()["model"] == HAIKU

    outcome = sdk("create", between.url, asking("hi"), headers={"x-touchline-tier": "premium"})

    assert outcome.good()["model"] == OPUS


@some_sdks
def test_what_an_error_event_leaves_open_is_estimated(sdk, plane):
    between = plane()

    outcome = sdk("events", between.url, asking(COACHING), headers=scripted(error_after=10, thinking=False))

    assert outcome.error
    assert between.lines(1)[0].get("estimated") is True
    assert between.stats()["estimated_calls"] == 1

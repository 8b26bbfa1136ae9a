"""Anthropic's own SDKs through the Claude plane: what an application sees is what it would see without it."""

import pytest

from support.claude import ADDED, HAIKU, OPUS, SONNET, Sdk, asking, every_sdk, scripted

pytest_plugins = ["support.claude_fixtures"]

# Standard by any reading, so that the requested model stays.
COACHING = "I want to talk about how I plan my week, because I keep postponing the hard tasks until Friday evening."
# Neither small talk nor serious, which would bar the economy tier.
QUESTION = "Why do I postpone my tasks?"
TOOL = {
    "name": "set_reminder",
    "description": "Sets a reminder.",
    "input_schema": {
        "type": "object",
        "properties": {"when": {"type": "string"}, "minutes": {"type": "integer"}},
        "required": ["when"],
    },
}


@every_sdk
def test_create_gives_the_same_message(both):
    ways = both()

    straight, through = ways.ask("create", asking(COACHING))

    assert through.good() == straight.good()
    assert through.value["model"] == SONNET and through.value["content"][-1]["text"]


@every_sdk
def test_a_stream_gives_the_same_events(both):
    ways = both()

    straight, through = ways.ask("events", asking(COACHING))

    assert through.types()[0] == "message_start" and through.types()[-1] == "message_stop"
    assert through.events == straight.events


@every_sdk
def test_the_stream_helper_gives_the_same_texts_and_message(both):
    ways = both()

    straight, through = ways.ask("final", asking(COACHING))

    assert through.good() == straight.good()
    assert through.texts == straight.texts and "".join(through.texts)


@every_sdk
@pytest.mark.parametrize("do", ["create", "final"])
def test_a_tool_is_called_and_its_result_answered(both, do):
    ways = both()
    params = asking(f"{COACHING} Please set_reminder for it.", tools=[TOOL])

    # The helpers of the oldest SDKs know no thinking and cannot give it back.
    asked = ways.ask(do, params, headers=scripted(thinking=do == "create"))

    assert asked[1].good() == asked[0].good()
    call = next(block for block in asked[1].value["content"] if block["type"] == "tool_use")
    assert asked[1].value["stop_reason"] == "tool_use" and call["name"] == "set_reminder" and "when" in call["input"]

    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "done"}
    turns = [{"role": "assistant", "content": asked[1].value["content"]}, {"role": "user", "content": [result]}]
    answered = ways.ask(do, {**params, "messages": [*params["messages"], *turns]})

    assert answered[1].good() == answered[0].good()
    assert answered[1].value["stop_reason"] == "end_turn"
    assert [seen.model for seen in ways.plane.fake.calls()] == [SONNET, SONNET]


@every_sdk
def test_count_tokens_gives_the_same_number(both):
    ways = both()
    params = {"model": SONNET, "messages": [{"role": "user", "content": COACHING}]}

    straight, through = ways.ask("count", params)

    assert through.good() == straight.good()
    assert through.value["input_tokens"] > 10
    assert ways.plane.stats()["total_requests"] == 0, "a count is no call"


@every_sdk
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("do", ["create", "events"])
def test_compressed_answers_are_the_same(both, do, encoding):
    ways = both()

    straight, through = ways.ask(do, asking(COACHING), headers=scripted(encoding=encoding))

    assert (through.value, through.events, through.error) == (straight.value, straight.events, straight.error)
    assert through.error is None
    line = ways.plane.lines(1)[0]
    assert line["output_tokens"] > 0 and line["cost_usd"] > 0, "what was compressed is counted"


@every_sdk
@pytest.mark.parametrize("do", ["create", "events"])
def test_a_refusal_is_an_answer(both, do):
    ways = both()

    straight, through = ways.ask(do, asking(COACHING), headers=scripted(stop_reason="refusal"))

    assert (through.value, through.events, through.error) == (straight.value, straight.events, straight.error)
    ending = through.value or through.events[-2]["delta"]
    assert ending["stop_reason"] == "refusal"
    assert ways.plane.lines(1)[0]["refused"] is True


@every_sdk
def test_a_greeting_moves_to_the_economy_model(both):
    ways = both()

    straight, through = ways.ask("create", asking("hi"))

    assert ways.direct.last().model == SONNET
    assert ways.plane.fake.last().model == HAIKU
    # The answer tells the truth about who gave it.
    assert (straight.good()["model"], through.good()["model"]) == (SONNET, HAIKU)
    assert through.value["content"][-1]["text"]


@every_sdk
def test_a_greeting_moves_in_a_stream_too(both):
    ways = both()

    _, through = ways.ask("final", asking("hi"))

    assert through.good()["model"] == HAIKU and "".join(through.texts)
    assert ways.plane.fake.last().model == HAIKU


@every_sdk
def test_the_decision_is_told_in_headers(both):
    ways = both()

    straight, through = ways.ask("create", asking("hi"), raw=True)

    assert [straight.header(name) for name in ADDED] == [None] * 4
    told = [through.header(name) for name in ADDED]
    assert told[:3] == ["economy", HAIKU, SONNET] and told[3]


@every_sdk
@pytest.mark.parametrize(("tier", "model"), [("economy", HAIKU), ("standard", SONNET), ("premium", OPUS)])
def test_a_header_of_the_client_names_the_tier(both, tier, model):
    ways = both()

    _, through = ways.ask("create", asking(QUESTION), raw=True, headers={"x-touchline-tier": tier})

    assert through.good()["model"] == model
    assert through.header("x-touchline-reason") == "override"
    assert ways.plane.fake.last().header("x-touchline-tier") is None, "the header is ours"


@every_sdk
def test_the_header_off_leaves_the_call_alone(both):
    ways = both()

    _, through = ways.ask("create", asking("hi"), headers={"x-touchline-tier": "off"})

    assert through.good()["model"] == SONNET
    assert ways.plane.fake.last().body == ways.direct.last().body


@every_sdk
@pytest.mark.parametrize("credential", ["api_key", "auth_token"])
def test_credentials_pass_as_they_are(both, credential):
    ways = both()

    straight, through = ways.ask("create", asking(COACHING), **{credential: "sk-ant-of-the-backend"})

    assert through.good() == straight.good()
    fields = [[value for _, value in way.last().end_to_end()] for way in (ways.direct, ways.plane.fake)]
    assert fields[1] == fields[0] and any("sk-ant-of-the-backend" in value for value in fields[1])


@pytest.mark.parametrize("flavour", ["python-0.34.2 sync", "python-2.14.0 async", "node-0.27.3", "node-1.14.0"])
def test_one_variable_of_the_environment_is_enough(plane, tmp_path, flavour):
    between = plane()
    sdk = Sdk(flavour, tmp_path, env={"ANTHROPIC_BASE_URL": between.url, "ANTHROPIC_API_KEY": "sk-ant-test"})

    try:
        outcome = sdk("create", None, asking("hi"))
    finally:
        sdk.stop()

    assert outcome.good()["model"] == HAIKU

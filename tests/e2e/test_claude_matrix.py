"""No refusal by our doing: whatever the API takes as it was asked, it takes as it is sent on, at the first try."""

import base64

import httpx
import pytest

from support.claude import HAIKU, OPUS, SONNET, asking

pytest_plugins = ["support.claude_fixtures"]

TEXTS = {
    "economy": "hi",
    "standard": "I want to talk about how I plan my week, because I keep postponing the hard tasks until Friday.",
    "premium": "Please score my confidence assessment: 1a 2c 3b 4d 5a.",
}
MODELS = [HAIKU, SONNET, OPUS, "claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-sonnet-4-6"]
TOOL = {"name": "note", "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}

PARAMETERS = {
    "nothing": {},
    "temperature 1": {"temperature": 1},
    "temperature 0": {"temperature": 0},
    "temperature .3": {"temperature": 0.3},
    "top_p": {"top_p": 0.9},
    "top_p .99": {"top_p": 0.99},
    "top_k": {"top_k": 5},
    "few tokens": {"max_tokens": 20},
    "1024 tokens": {"max_tokens": 1024},
    "many tokens": {"max_tokens": 64_000},
    "most tokens": {"max_tokens": 128_000},
    "stop": {"stop_sequences": ["END"]},
    "thinking adaptive": {"thinking": {"type": "adaptive"}},
    "thinking disabled": {"thinking": {"type": "disabled"}},
    "thinking enabled": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "thinking between tools": {"thinking": {"type": "between_tools"}, "tools": [TOOL]},
    "effort low": {"output_config": {"effort": "low"}},
    "effort high": {"output_config": {"effort": "high"}},
    "effort max": {"output_config": {"effort": "max"}},
    "disabled at max": {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
    "schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "tools": {"tools": [TOOL]},
    "strict tools": {"tools": [{**TOOL, "strict": True, "input_schema": SCHEMA}]},
    "any tool": {"tools": [TOOL], "tool_choice": {"type": "any"}},
    "this tool": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "note"}},
    "no tool": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "geo": {"inference_geo": "us"},
    "service tier": {"service_tier": "standard_only"},
    "fast": {"speed": "fast"},
    "standard speed": {"speed": "standard"},
    "metadata": {"metadata": {"user_id": "u"}},
    "own mark": {"cache_control": {"type": "ephemeral"}},
    "long system": {"system": "Plan the week, one task at a time, and be brief. " * 150},
}

# Turns round the user's last one.
TURNS = {
    "one": lambda said: [said],
    "history": lambda said: [user("Good morning"), coach("Good morning, how are you?"), said],
    "prefill": lambda said: [said, coach("Well,")],
    "image": lambda said: [{"role": "user", "content": [IMAGE, {"type": "text", "text": said["content"]}]}],
    "document": lambda said: [{"role": "user", "content": [DOCUMENT, {"type": "text", "text": said["content"]}]}],
    "citations": lambda said: [
        {"role": "user", "content": [{**DOCUMENT, "citations": {"enabled": True}}, {"type": "text", "text": said["content"]}]}
    ],
}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def coach(text: str) -> dict:
    return {"role": "assistant", "content": text}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("model", MODELS)
def test_what_the_api_takes_is_taken_at_the_first_try(claude, plane, model, version):
    direct, between = claude(), plane()
    headers = {"x-api-key": "k", "anthropic-version": version, "x-stainless-lang": "python"}
    taken, ours = set(), []

    def post(url: str, body: dict) -> httpx.Response:
        return clients[url].post("/v1/messages", json=body, headers=headers)

    clients = {url: httpx.Client(base_url=url, trust_env=False, timeout=20) for url in (direct.url, between.url)}
    cases = [
        (name, turns, said)
        for name in PARAMETERS
        for turns in TURNS
        if turns == "one" or name == "nothing"
        for said in TEXTS
    ]
    for number, (name, turns, said) in enumerate(cases):
        # A conversation of its own for each, so that none is bound by one before it.
        headers["x-api-key"] = f"k-{number}"
        messages = TURNS[turns](user(TEXTS[said]))
        body = {**asking(model=model), "messages": messages, **PARAMETERS[name]}
        before = len(between.fake.calls())
        straight, through = post(direct.url, body), post(between.url, body)
        calls = between.fake.calls()[before:]
        # What is refused as it was asked may be taken where it was moved to.
        if straight.status_code != 200:
            continue
        taken.add((name, turns))
        if through.status_code != 200 or len(calls) != 1:
            refusals = [(call.model, call.record["status"]) for call in calls]
            ours.append((name, turns, said, refusals, through.text[:200]))
    for client in clients.values():
        client.close()

    assert ours == []
    assert len(taken) > 15, "the judge takes most of it"
    assert len({seen.model for seen in between.fake.calls()}) > 1, "calls were moved"

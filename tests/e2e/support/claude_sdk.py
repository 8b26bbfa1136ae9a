"""Drives Anthropic's Python SDK, whatever its version, from another process: a command per line on standard input, an
answer per line on standard output. `support/claude.py` starts it with the interpreter of one SDK's environment.

    {"do": "create", "base_url": ..., "params": {...}, "headers": {...}, "retries": 0, "timeout": 5, "raw": true}
"""

import asyncio
import inspect
import json
import sys
import time
import warnings

import anthropic

warnings.simplefilter("ignore")  # Old versions serialise blocks that they do not know, and say so.

KINDS = {False: anthropic.Anthropic, True: anthropic.AsyncAnthropic}


def plain(value):
    """An SDK's object as the JSON that it came from."""
    if hasattr(value, "model_dump_json"):
        return json.loads(value.model_dump_json(exclude_unset=True))
    return value


def failure(error: BaseException) -> dict:
    """What an application can see of an exception."""
    response = getattr(error, "response", None)
    return {
        "kind": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "status": getattr(error, "status_code", None),
        "body": getattr(error, "body", None),
        "message": str(error),
        "headers": list(response.headers.multi_items()) if response is not None else [],
    }


def arguments(command: dict) -> dict:
    """The keyword arguments of a call."""
    extra = {"extra_headers": command["headers"]} if command.get("headers") else {}
    if command.get("query"):
        extra["extra_query"] = command["query"]
    return {**command.get("params", {}), **extra}


def counting(command: dict) -> dict:
    """`count_tokens` for versions that have no such method."""
    return {
        "cast_to": object,
        "body": command["params"],
        "options": {"headers": command.get("headers") or {}},
    }


class Clients:
    """One client for each way of making it, kept for its connections."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async
        self._made: dict = {}

    def of(self, command: dict):
        names = ("base_url", "api_key", "auth_token", "max_retries", "timeout", "default_headers")
        options = {name: command[name] for name in names if command.get(name) is not None}
        key = json.dumps(options, sort_keys=True)
        if key not in self._made:
            self._made[key] = KINDS[self._is_async](**options)
        return self._made[key]


def run(clients: Clients, command: dict, answer: dict) -> None:
    """One command with the blocking client."""
    client, what = clients.of(command), command["do"]
    if what == "create":
        if command.get("raw"):
            raw = client.messages.with_raw_response.create(**arguments(command))
            answer["headers"] = list(raw.headers.multi_items())
            answer["value"] = plain(raw.parse())
        else:
            answer["value"] = plain(client.messages.create(**arguments(command)))
    elif what == "events":
        answer["events"] = []
        for event in client.messages.create(**arguments(command), stream=True):
            answer["events"].append(plain(event))
    elif what == "final":
        answer["texts"] = []
        with client.messages.stream(**arguments(command)) as stream:
            for text in stream.text_stream:
                answer["texts"].append(text)
            answer["value"] = plain(stream.get_final_message())
    elif what == "count":
        if hasattr(client.messages, "count_tokens"):
            answer["value"] = plain(client.messages.count_tokens(**arguments(command)))
        else:
            answer["value"] = client.post("/v1/messages/count_tokens", **counting(command))
    elif what == "leave":
        answer["events"] = []
        stream = client.messages.create(**arguments(command), stream=True)
        for event in stream:
            answer["events"].append(plain(event))
            if len(answer["events"]) == command["after"]:
                break
        answer["left_ms"] = time.time() * 1000
        stream.close()
    else:
        raise ValueError(what)


async def run_async(clients: Clients, command: dict, answer: dict) -> None:
    """One command with the asynchronous client."""
    client, what = clients.of(command), command["do"]
    if what == "create":
        if command.get("raw"):
            raw = await client.messages.with_raw_response.create(**arguments(command))
            answer["headers"] = list(raw.headers.multi_items())
            parsed = raw.parse()
            answer["value"] = plain(await parsed if inspect.isawaitable(parsed) else parsed)
        else:
            answer["value"] = plain(await client.messages.create(**arguments(command)))
    elif what == "events":
        answer["events"] = []
        async for event in await client.messages.create(**arguments(command), stream=True):
            answer["events"].append(plain(event))
    elif what == "final":
        answer["texts"] = []
        async with client.messages.stream(**arguments(command)) as stream:
            async for text in stream.text_stream:
                answer["texts"].append(text)
            answer["value"] = plain(await stream.get_final_message())
    elif what == "count":
        if hasattr(client.messages, "count_tokens"):
            answer["value"] = plain(await client.messages.count_tokens(**arguments(command)))
        else:
            answer["value"] = await client.post("/v1/messages/count_tokens", **counting(command))
    elif what == "leave":
        answer["events"] = []
        stream = await client.messages.create(**arguments(command), stream=True)
        async for event in stream:
            answer["events"].append(plain(event))
            if len(answer["events"]) == command["after"]:
                break
        answer["left_ms"] = time.time() * 1000
        await stream.close()
    elif what == "abandon":
        task = asyncio.ensure_future(client.messages.create(**arguments(command)))
        await asyncio.sleep(command["after_s"])
        answer["left_ms"] = time.time() * 1000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    else:
        raise ValueError(what)


def main(is_async: bool) -> None:
    clients, loop = Clients(is_async), asyncio.new_event_loop()
    for line in sys.stdin:
        command, answer = json.loads(line), {}
        started = time.monotonic()
        try:
            if is_async:
                loop.run_until_complete(run_async(clients, command, answer))
            else:
                run(clients, command, answer)
        except Exception as error:  # What the SDK raises is what the test is about.
            answer["error"] = failure(error)
        answer["seconds"] = time.monotonic() - started
        print(json.dumps(answer), flush=True)


main(is_async=sys.argv[1] == "async")

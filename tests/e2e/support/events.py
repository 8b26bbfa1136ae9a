"""Server-sent events as they arrive."""

from collections.abc import Iterator

import httpx


def events(response: httpx.Response) -> Iterator[str]:
    """The text of each event of an open stream with `\\n` line ends, without its empty line."""
    text = ""
    for piece in response.iter_text():
        text += piece
        while "\n\n" in text:
            event, text = text.split("\n\n", 1)
            yield event

"""The calls that are sent: conversations of a coach, 10 kB each, that differ in what the next answer must do.

All turns but the last hold a mark that the sender replaces by the call's number, so that no call repeats one before it, nor a turn of
one: a repeated call would be answered from what is remembered and not decided anew.
"""

import json

MARK = "@@@@@@@@@@@@"
MODEL = "claude-sonnet-5-5"
SIZE = 10_000

SYSTEM = (
    "You are a warm, practical coach for social confidence. You help people to prepare conversations, dates and parties, to set small goals, "
    "and to look back on what they tried. Ask one question at a time. Keep answers under 120 words. Never judge; never diagnose. If somebody is "
    "in danger or speaks of harming themselves, say where help can be found and stay with the feeling before anything else. "
)
TURNS = [
    ("I went to the party of a colleague on Friday and talked to one person for ten minutes about music. ", "Ten minutes is real progress. What helped you to stay in it? "),
    ("I had two questions ready, as we agreed, and the second one made her laugh. Then my head went blank and I left for the kitchen. ", "You prepared, it worked, and you noticed when it got hard. What would a kind friend say about the kitchen? "),
    ("Probably that it is fine to take a break. I still felt like everybody had seen it – I know that they had not. ", "That is a clear thought. Shall we plan how to come back after a break next time? "),
    ("Yes. I could carry two drinks back and offer one, that gives me something to say. ", "Lovely: a reason to return and an opening in one. Where will you try it first? "),
]
# The coach's last turn where it leaves nothing open, as an answer to an offer or a question is never small talk.
CLOSING = "You have what you need for this week. I am glad that we talked."
# What the last turn of the user asks for, so that every tier and the guards have work: small talk and confirmations, coaching, goals,
# feelings that must not be answered cheaply, and scores that are to be read.
LAST = [
    "ok great, thank you!",
    "Thanks, that helps. Have a nice evening :)",
    "Hi, how are you today?",
    "Sounds good, let's do it like that.",
    "Where do I find the list of my exercises in the app?",
    "How do I start a conversation with somebody I like without sounding rehearsed?",
    "What should I say when there is a silence and nobody helps me out?",
    "I want to set a goal for the next two weeks: three short conversations at work. Is that too much?",
    "Can you give me a challenge for the weekend that is a bit harder than the last one?",
    "I cried in the bathroom afterwards. I feel like I will never be normal and nobody would miss me.",
    "My ex keeps waiting outside my office and I am scared to walk home.",
    "I answered the questionnaire: 3, 4, 2, 5, 1, 2, 4, 3. Please score my confidence and compare it with last month's 21 points.",
]


def write(folder):
    """Writes the calls, a line each; returns the file of those with whole answers and of those with streams."""
    paths = []
    for name, extra in (("whole", {}), ("stream", {"stream": True})):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({**_call(last), **extra}, ensure_ascii=False, separators=(",", ":")) + "\n" for last in LAST))
        paths.append(path)
    return paths


def _call(last):
    """One call, in the order of the Python SDK: `model` behind `messages`."""
    messages = []
    end = [{"role": "user", "content": "That was all for today."}, {"role": "assistant", "content": CLOSING}, {"role": "user", "content": last}]
    while True:
        asked, answered = TURNS[len(messages) // 2 % len(TURNS)]
        grown = [*messages, {"role": "user", "content": f"({MARK}) {asked * 3}"}, {"role": "assistant", "content": f"{answered * 2}({MARK})"}]
        call = {"max_tokens": 2048, "messages": [*grown, *end], "model": MODEL, "system": SYSTEM * 6}
        missing = SIZE - len(json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode())
        if missing < 0:
            break
        messages = grown
    call["messages"] = [*messages, *end]
    missing = SIZE - len(json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode())
    call["system"] += (SYSTEM * 9)[:max(missing, 0)]
    return call

"""A user's pattern never takes the server or Cancel along: hostile ones, in process and through a real server.

And it means what it means to Python's re.
"""

import json
import random
import re
import resource
import threading
import time
import urllib.request

import pytest

from _judge_server import IMAGES, PROMPTS, SOON, judge
from _judging import judge_node, scoring
from pave_core.errors import ConfigError, TrainingError
from pave_core.rewards.http import patterns
from pave_core.rewards.http.answers import Unscored
from pave_core.rewards.http.patterns import Pattern
from pave_core.rewards.http.replies import ParseRule

LETTERS = "a" * 4000
WORDS = ("Score the image well: 7 of x " * 200)[:4000]

HOSTILE = [
    (r"(?:a?){28}a{28}(\d)", "a" * 3000),
    *((p, WORDS) for p in (r".*Score.*:.*(\d+).*", r".*[Ss]core.*?(\d+).*/.*10", r".*(\d).*/.*5")),
    *((p, WORDS) for p in (r".*.*(\d)z", r".*.*.*(\d)z", r"(?:\w+\s?)*(\d)!", r"(.+)(?:.+\1)+!")),
    (r"x*x*x*x*(\d)y", "x" * 4000),
    (r"(?:a?){25}a{25}(\d)", LETTERS),
    *((p, LETTERS) for p in (r"(a+)+b", r"(?:a+)+(\d)", r"(?:a|a)*(\d)", r"(?:a|aa)+(\d)", r"(?:(?:a?)*)*(\d)")),
    *((p, LETTERS) for p in (r"(?:a*)*(\d)", r"(?:a*?)*?(\d)", r"(?:.*)*(\d)z", r"^(?:(?:a|b|ab)*?)*(\d)$")),
    *((p, LETTERS) for p in (r"(?=(?:a+)+b)(\d)", r"(?!(?:a+)+b)(\d)", r"(?<=(?:a|b){3})(\d)", r"(?=.*.*.*.*b)(\d)")),
    *((p, LETTERS) for p in (r"(?:(?=(?:a*)*b)a)*(\d)", r"(?<=a*a*a*b)(\d)", r"(?<!a)(?:a?a?)*(\d)")),
    *((p, LETTERS) for p in (r"(a*)\1\1\1b", r"(a+)(?:\1)+(?:\1)+b", r"(.*)\1.*\1.*z", r"(?:(?=(a*))a)*c")),
    *((p, LETTERS) for p in (r"a*+a*+a*+(\d)", r"(?:a++)*+(\d)", r"(?>a*a*a*a*)(\d)", r"(?>(?:a?)+)(\d)")),
    *(
        (p, LETTERS)
        for p in (r"(?:a{1,4000}){1,4000}(\d)", r"(?:(?:a{0,100}){0,100}){0,100}(\d)", r"(?:a?){100,500}(\d)")
    ),
    (r"a{0,4000}a{0,4000}a{0,4000}(\d)", LETTERS),
    (r"(?:" * 40 + "a" + ")*" * 40 + r"(\d)", LETTERS),
    *(
        (p, LETTERS)
        for p in (r"(?(?=a)a|b)*(\d)", r"(a)?(?(1)a|b)*c", r"\p{L}*\p{L}*\p{L}*\p{L}*(\d)", r"((?:a|b)*)*c")
    ),
    (r"\X*\X*\X*\X*(\d)", "e\u0301" * 2000),
    (r"(?i)(?:ſ|s|S)*(\d)", "ſ" * 4000),
    (r"(?s)(?:.|\n)*(\d)z", "\n" * 4000),
    (r"(?m)^(?:.*\n)*(\d)$", "aaa\n" * 1000),
    (r"(.*?,){11}P", "a," * 2000),
    (r"^(?:(?:[a-z])+.)+[A-Z]([a-z])+$", LETTERS),
    (r"(\d)" + "[^!]*" * 50 + "!!", WORDS),
]
"""(pattern, reply). Those of F1 first."""

TOO_MUCH = [
    r"(?:a{1000000000})(\d)",
    r"a{65535}b{65535}(\d)",
    r"(?:a?){4000000000}(\d)",
    r"(?:a?b?c?){1000000,}(\d)",
    r"(?:a{65535}){65535}(\d)",
    "(?:" * 40 + "a" + ")+" * 40 + r"(\d)",
    "(?:" * 40 + "a" + "){2}" * 40 + r"(\d)",
    "(?:" * 40 + "a" + "){1,2}" * 40 + r"(\d)",
    "(?:" * 40 + "a" + ")(?#)+" * 20 + r"(\d)",
    "(?=" * 16 + "a" + "){2}" * 16 + r"(\d)",
    r"(?x)(?:a {1 0 0 0 0 0 0 0 0})(\d)",
    r"(?:a|(?R))*(\d)",
    r"((?:a|(?1)(?1))*)b",
    r"(?P<n>(?:a|(?&n))*)b",
    r"(?P<n>(?:a|(?P>n))*)b",
    r"(?:aaaaaaaaaabbbbbbbbbb){e<=15}(\d)",
    r"(?:(?:a+b+){i<=5,d<=9})+(\d)",
    r"(?:ab){s<=2:[a-z]}(\d)",
    r"(?e)(?:ab*c){e}(\d)",
    r"(?V1)[\w--[a-z]]*(\d)",
    r"\L<names>(\d)",
    "(" * 150 + ")" * 150,
    "(a)" + "b" * 1_000_000,
]
"""Patterns that would take gigabytes, or that are not Python's."""


def watched(work):
    """Do `work` in a thread: (its result or exception, processor seconds, the longest time that this thread waited)."""
    result = []

    def run():
        try:
            result.append(work())
        except Exception as error:
            result.append(error)

    thread, begin = threading.Thread(target=run), time.process_time()
    gap, last = 0.0, time.monotonic()
    thread.start()
    while thread.is_alive():
        time.sleep(0.005)
        gap, last = max(gap, time.monotonic() - last), time.monotonic()
    return result[0], time.process_time() - begin, gap


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_hostile_pattern_stops_at_its_limit_and_leaves_the_interpreter_free(monkeypatch):
    monkeypatch.setattr(patterns, "LIMIT", 0.2)
    before, rows, stopped = megabytes(), [], 0
    for pattern, reply in HOSTILE:
        letters = "".join(sorted(set(re.findall("[a-zA-Z!]", re.sub(r"\\.", "", pattern))) - {"a"}))
        # What a search looks for first must be there, or it ends before it has begun.
        for text in (f"{letters}1{reply}"[:4000], f"{reply[:3900]}\n{letters}1!"):
            result, seconds, gap = watched(lambda pattern=pattern, text=text: Pattern(pattern).search(text))
            assert result is None or isinstance(result, str | Unscored), (pattern, result)
            rows.append((gap, seconds, pattern, type(result).__name__))
            stopped += isinstance(result, Unscored)
    worst_gap, slowest = max(rows), max(rows, key=lambda row: row[1])
    grown = megabytes() - before
    print(f"\n{len(HOSTILE)} patterns, {len(rows)} searches: {stopped} stopped at 0.2 s; memory +{grown:.0f} MB")
    print(f"another thread waited {worst_gap[0]:.3f} s at most ({worst_gap[2][:40]})")
    print(f"the longest search took {slowest[1]:.2f} s ({slowest[2][:40]})")
    assert stopped > 20
    assert worst_gap[0] < SOON
    assert slowest[1] < SOON
    assert grown < 100


@pytest.mark.parametrize("pattern", TOO_MUCH, ids=lambda pattern: pattern[:30])
def test_what_would_take_gigabytes_is_refused_before_it_is_compiled(pattern):
    before, begin = megabytes(), time.process_time()
    with pytest.raises(ConfigError, match=r"^pattern: .*: .+") as error:
        ParseRule("regex", pattern)
    assert time.process_time() - begin < SOON
    assert megabytes() - before < 20
    assert len(str(error.value)) <= 500


ORDINARY = [
    (r"Score: (\d+)", "Score: 7", 7),
    (r"(?i)rating[:= ]*(-?\d+(?:\.\d+)?)", "RATING: -2.5 of 10", -2.5),
    (r"Alignment Score(?: \(1-5\))?: *([\d.]+)", "Alignment Score (1-5): 4.25", 4.25),
    (r'{"score": (\d+)}', '{"score": 7}', 7),
    (r"\{e\}(\d)", "{e}5", 5),
    (r"^(?P<score>\d{1,3})/100$", "85/100", 85),
    (r"(?<=Final: )(\d+)(?!\d)", "Final: 9", 9),
    (r"(?s)<answer>.*?(\d+).*?</answer>", "<answer>\n8\n</answer>", 8),
    (r"(?:\d+ ?, ?)+(\d+)", "1, 2, 3", 3),
    (r"(?:(?:[A-Z][a-z]+ )+\w+: ?)+(\d)", "Very Good image: 4", 4),
]


@pytest.mark.parametrize(("pattern", "reply", "score"), ORDINARY)
def test_an_ordinary_pattern_reads_what_it_read(pattern, reply, score):
    assert ParseRule("regex", pattern)(reply) == float(re.search(pattern, reply)[1]) == score


def test_a_pattern_means_what_it_means_to_re():
    draw = random.Random(7)
    atoms = [
        "a",
        "b",
        "1",
        r"\d",
        ".",
        r"\s",
        r"\w",
        "[ab]",
        "[^a]",
        r"\b",
        "^",
        "$",
        "a|b",
        "(?=a)",
        "(?!b)",
        "(?<=a)",
    ]
    atoms += ["é", "[a-z1]", r"\W", r"\.", "(?i:A)", "{", "}", '{"a": ', r"[\]b]", r"\x61", r"\S"]
    counts = [*[""] * 6, "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,2}", "{0,3}?"]

    def part(depth):
        if depth == 0 or draw.random() < 0.4:
            return draw.choice(atoms) + draw.choice(counts)
        inner = "".join(part(depth - 1) for _ in range(draw.randint(1, 3)))
        return f"(?:{inner}){draw.choice(counts)}"

    same = 0
    for _ in range(8_000):
        group = f"({part(2)})"
        pattern = "".join(draw.sample([part(2), group, part(1)], 3))
        text = "".join(draw.choice('ab1 .é{"A:]\n') for _ in range(draw.randint(0, 9)))
        try:
            expected = re.search(pattern, text)
        except re.error:
            continue
        got = Pattern(pattern).search(text)
        assert got == (None if expected is None else expected[1] or ""), (pattern, text)
        same += 1
    print(f"\n{same} patterns found the same as re")
    assert same > 3_000


def test_a_hopeless_pattern_is_not_waited_for_with_every_image_nor_asked_again(serve):
    server = serve(lambda request: request.say("a" * 3000 + "b"))
    images, prompts = IMAGES[:1].expand(48, -1, -1, -1), ["x"] * 48
    begin = time.process_time()
    with pytest.raises(TrainingError, match=r"48 of 48 .*a pattern that takes too long.*: write the pattern without"):
        judge(server.url, ParseRule("regex", r"(?:a|a)*(\d)"), retries=3)(images, prompts)
    assert len(server.requests) == 48
    assert time.process_time() - begin < 16  # 24 s if each had the whole limit


def test_cancel_does_not_wait_for_a_pattern(serve):
    server = serve(lambda request: request.say("a" * 3000 + "z"))
    times = []

    def check():
        times.append(time.monotonic())
        if server.requests and times[-1] - times[0] > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(server.url, ParseRule("regex", r"(?:a|a)*(\d)z"), check=check, concurrency=2)(
            IMAGES.repeat(8, 1, 1, 1), PROMPTS * 8
        )
    assert time.monotonic() - times[0] < SOON


@pytest.mark.parametrize("pattern", [HOSTILE[0][0], r"(?:a|a)*(\d)", r"(a+)(?:\1)+(?:\1)+z(?:a|b)*"])
def test_the_server_answers_and_cancels_while_a_hopeless_pattern_runs(client, serve, pattern):
    judged = serve(lambda request: request.say("a" * 3000 + "z"))
    rule = {"parse": "regex", "pattern": pattern, "concurrency": 1}
    waited = []

    def look():
        begin = time.monotonic()
        with urllib.request.urlopen(f"{client.url}/system_stats", timeout=30) as answer:
            json.load(answer)
        waited.append(time.monotonic() - begin)

    client.run(scoring(judge_node(serve(lambda request: request.say("7")).url)), timeout=60)
    prompt_id = client.queue(scoring(judge_node(judged.url, **rule), count=64))
    deadline = time.monotonic() + 60
    while not judged.requests and time.monotonic() < deadline:
        look()
    for _ in range(5):
        look()
    begin = time.monotonic()
    client.interrupt()
    kinds = [event.kind for event in client.events(prompt_id, timeout=30)]
    seconds = time.monotonic() - begin
    print(f"\n{pattern}: /system_stats within {max(waited):.2f} s; ended {seconds:.2f} s after /interrupt")
    assert "execution_interrupted" in kinds
    assert max(waited) < SOON
    assert seconds < SOON
    look()

"""The rules that read a score in a text, and refuse rather than guess."""

import time

import pytest

from _judge_server import SOON
from pave_core.errors import ConfigError
from pave_core.rewards.http.answers import Unscored
from pave_core.rewards.http.replies import ParseRule

READ = [
    (ParseRule(), "7", 7),
    (ParseRule(), "-3.5", -3.5),
    (ParseRule(), ".5", 0.5),
    (ParseRule(), "1e-2", 0.01),
    (ParseRule(), "**8.5**", 8.5),
    (ParseRule(), "Score: 8.", 8),
    (ParseRule(), "I count 3 cats and give it a score of 6", 6),
    (ParseRule(), "On a scale (1-10): 9", 9),
    (ParseRule(), "85%", 85),
    (ParseRule(), "<think>maybe 3, or 4</think>\n\n9", 9),
    (ParseRule(), "word " * 5000 + "4", 4),
    (ParseRule("final score"), "Good. Final Score: 4", 0.8),
    (ParseRule("final score"), "**Final Score:** 3.75", 0.75),
    (ParseRule("final score"), "final score (1-5): **5/5**", 1.0),
    (ParseRule("final score"), "Final Score: 1 is the worst. Final Score = 2 out of 5.", 0.4),
    (ParseRule("final score"), "Alignment: 9/10\nFinal Score: 4 - well done", 0.8),
    (ParseRule("json key", "score"), '{"score": 7.5}', 7.5),
    (ParseRule("json key", "score"), 'Sure!\n```json\n{"why": "{red} is not blue", "score": 2}\n```', 2),
    (ParseRule("json key", "score"), '{"score": " 6.5 "}', 6.5),
    (ParseRule("json key", "result.score"), '{broken {"result": {"score": 0}}', 0),
    (
        ParseRule("regex", r"Alignment Score \(1-5\): ([\d.]+)"),
        "Alignment Score (1-5): 4.25\nStyle Score (1-5): 2",
        4.25,
    ),
    (ParseRule("regex", r"(?i)rating[:= ]*(-?\d+(?:\.\d+)?)"), "RATING: -2.5 of 10", -2.5),
]


@pytest.mark.parametrize(("rule", "text", "score"), READ)
def test_a_rule_reads_the_score(rule, text, score):
    assert rule(text) == pytest.approx(score)


REFUSED = [
    (ParseRule("final score"), "4"),
    (ParseRule("final score"), "Final Score: 6"),
    (ParseRule("final score"), "Final Score: 0"),
    (ParseRule("final score"), "Final Score: -3"),
    (ParseRule("final score"), "Final Score: 4/10"),
    (ParseRule("final score"), "Final Score: 4 / 10"),
    (ParseRule("final score"), "Final Score: 4 out of 10"),
    (ParseRule("final score"), "Final Score: 45"),
    (ParseRule("final score"), "Final Score: 1-5"),
    (ParseRule("final score"), "Final Score: 3,5"),
    (ParseRule("final score"), "Final Score: four"),
    (ParseRule("json key", "score"), "7.5"),
    (ParseRule("json key", "score"), '{"rating": 7.5}'),
    (ParseRule("json key", "score"), '{"score": null}'),
    (ParseRule("json key", "score"), '{"score": true}'),
    (ParseRule("json key", "score"), '{"score": [7]}'),
    (ParseRule("json key", "score"), '{"score": "high"}'),
    (ParseRule("json key", "score"), '{"score": "1_0"}'),
    (ParseRule("json key", "score"), '{"score": NaN}'),
    (ParseRule("json key", "score"), '{"score": Infinity}'),
    (ParseRule("json key", "score"), '{"score": 1e999}'),
    (ParseRule("json key", "score"), '{"score": "1e999"}'),
    (ParseRule("json key", "score"), '{"score": 1' + "0" * 400 + "}"),
    (ParseRule("json key", "score"), '{"score": 7'),
    (ParseRule("json key", "a.b"), '{"a": 7}'),
    (ParseRule("json key", "score"), "{" * 10_000),
    (ParseRule("json key", "score"), '{"a":' * 50_000 + "1" + "}" * 50_000),
    (ParseRule("regex", "Score: (\\d+)"), "score is 7"),
    (ParseRule("regex", "Score: (.*)"), "Score: seven"),
    (ParseRule("regex", "Score:(\\d*)"), "Score: 7"),
    (ParseRule("regex", "Score: (?:x|(\\d))"), "Score: x"),
    (ParseRule("regex", "(.+)"), "1e999"),
]


@pytest.mark.parametrize(("rule", "text"), REFUSED)
def test_a_rule_refuses_rather_than_guesses(rule, text):
    begin = time.monotonic()
    with pytest.raises(Unscored) as refusal:
        rule(text)
    assert refusal.value.reason
    assert refusal.value.remedy
    assert time.monotonic() - begin < SOON


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ParseRule("guess"), "parse"),  # pyright: ignore[reportArgumentType]
        (lambda: ParseRule("json key", ""), "pattern"),
        (lambda: ParseRule("json key", "a..b"), "pattern"),
        (lambda: ParseRule("regex", ""), "pattern"),
        (lambda: ParseRule("regex", "Score: \\d+"), "pattern"),
        (lambda: ParseRule("regex", "(\\d+)/(\\d+)"), "pattern"),
        (lambda: ParseRule("regex", "Score: (\\d+"), "pattern"),
        (lambda: ParseRule("regex", 5), "pattern"),  # pyright: ignore[reportArgumentType]
        (lambda: ParseRule("json key", "a" * 301), "pattern"),
        (lambda: ParseRule("regex", "(a)" + "b" * 300), "pattern"),
    ],
)
def test_settings_that_cannot_work_are_refused(no_network, make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        make()

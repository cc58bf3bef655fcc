"""What the routes of a person's questions answer, for tests of the page alone: the same form as the pack's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PersonDesk:
    """Questions in turn; the first that is not answered is the one that waits."""

    questions: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """(what, body) of each request that acted."""
    learnt: dict[str, Any] | None = None

    def ask(self, *prompts: str, images: int = 4, width: int = 64, height: int = 64) -> None:
        """Ask about images of these prompts."""
        size = {"images": images, "width": width, "height": height, "picked": [], "ranking": False, "step": 5}
        self.questions = [
            {"key": f"key{i}-{len(self.answers)}", "prompt": text, **size} for i, text in enumerate(prompts)
        ]

    def state(self) -> dict[str, Any]:
        open_ = [question for question in self.questions if question["key"] not in self.answers]
        return {
            "run": "mine_00001",
            "step": 4,
            "steps": 40,
            "phase": {"what": "rollout", "done": 3, "whole": 8},
            "question": open_[0] if open_ else None,
            "open": len(open_),
            "asked": len(self.questions),
            "answered": len(self.answers),
            "undo": bool(self.answers),
            "learnt": self.learnt,
        }

    def act(self, what: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """(status, type, body) of the answer to a request that acts."""
        self.posted.append((what, body))
        question = self.state()["question"]
        said = None
        if what == "undo":
            if not self.answers:
                return _refused("there is no choice to take back")
            key, choice = self.answers.popitem()  # its draft may have come after it: what was picked is in the answer
            picked = choice["tiers"][:-1]
            again = next(question for question in self.questions if question["key"] == key)
            again |= {"picked": [place for tier in picked for place in tier], "ranking": len(picked) > 1}
            said = "You are asked again."
        elif what == "draft" and body["key"] in self.answers:
            pass  # it was on its way
        elif question is None or question["key"] != body["key"]:
            return _refused("This was answered already, on another page: the first answer counts.")
        elif what == "draft":
            question |= {"picked": body["picked"], "ranking": body["ranking"]}
        else:
            self.answers[body["key"]] = body["choice"]
        return 200, "application/json", json.dumps(self.state() | {"said": said}).encode()


def _refused(text: str) -> tuple[int, str, bytes]:
    return 409, "application/json", json.dumps({"error": text}).encode()

"""What the panel's routes answer, for tests of the page."""

import math
import time
from typing import Any


def listed(name: str, status: str = "finished", **more: Any) -> dict[str, Any]:
    """A run as the list of all runs has it."""
    return {
        **{"name": name, "status": status, "step": 12, "steps": 40, "gain": [0.0213, 0.0041], "megabytes": 12.34},
        **{"modified": time.time() - 7300, "lora": True, "resumable": True, "workflow": True, "picture": "1"},
        **{"reward": 0.9321, "curve": [0.0, 0.008, 0.017, 0.0213]},
        **more,
    }


def detail(name: str, status: str = "training", steps: int = 12, **more: Any) -> dict[str, Any]:
    """A run as its own route tells it, after this many steps: with gaps in its curves, and an alarm."""
    done = list(range(1, steps + 1))
    reward = [round(0.9 + 0.03 * (1 - math.exp(-i / 6)) + 0.004 * math.sin(3 * i), 5) for i in done]
    spread = [round(0.05 - 0.001 * i, 5) for i in done]
    if steps > 6:
        reward[5] = spread[5] = None
    return {
        **{"name": name, "status": status, "step": steps, "steps": 40},
        "phase": {"what": "measuring", "done": 80, "whole": 160} if status == "training" else None,
        **{"seconds_left": 190.0, "seconds_per_step": 4.2, "steps_done": done},
        "curves": {
            **{"reward": reward, "spread": spread},
            "gradient": [round(1.5 / i + 0.2, 4) for i in done],
            "learning rate": [0.0001] * steps,
            "divergence": [None] * steps,
            "limited": [None] * steps,
            "memory": [round(7.1 + 0.02 * i, 2) for i in done],
        },
        "rewards": {
            "colour": {"reward": [round(0.8 + 0.001 * i, 4) for i in done], "spread": [0.02] * steps},
            "CLIP score": {"reward": [round(24 + 0.01 * i, 3) for i in done], "spread": [0.4] * steps},
        },
        "seconds": {
            "rollout": [2.0 + 0.01 * i for i in done],
            "decode": [0.4] * steps,
            "score": [0.3] * steps,
            "update": [1.1] * steps,
            "evaluation": [8.0 if i % 4 == 0 else None for i in done],
        },
        "evaluations": [
            {"step": 0, "gain": 0.0, "se": 0.0, "judge": 0.0},
            {"step": 4, "gain": 0.008, "se": 0.006, "judge": 0.11},
            {"step": 8, "gain": 0.017, "se": 0.005, "judge": None},
            {"step": 12, "gain": 0.0213, "se": 0.0041, "judge": 0.19},
        ],
        "guard": [
            {"step": 4, "held_out": 0.008, "drift": 0.01, "alarms": []},
            {"step": 8, "held_out": 0.017, "drift": 0.03, "alarms": ["drift is above 0.02"]},
            {"step": 12, "held_out": None, "drift": 0.02, "alarms": []},
        ],
        "message": "the checkpoint of step 12 is kept",
        "pictures": ["curve", "grid"],
        "measured": {
            "places": [
                {"prompt": "a red circle", "seed": 0},
                {"prompt": "a blue <b>star</b> on a light background", "seed": 0},
            ],
            "steps": [step for step in (0, 4, 8, 12) if step <= steps],
        },
        **{"resumable": True, "workflow": True, "lora": True},
        **more,
    }

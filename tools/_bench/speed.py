"""Seconds of training steps by phase, beside the floor (floor.py), measured in turns in one run.

    rollout / floor    of the network without adapter, which is what generation pays
    update / floor     of forward and backward with the adapter
    other share        (step - network - decode - reward) / step, with the network's floor with the adapter in

Ratios and seconds are medians over the pairs of a step and a floor after it; a device is waited for at the borders of
phases only. How the rollout splits into anchor and tails is then measured on further steps, in which each call is
waited for; "branches" is what the rollout does outside of the policy's velocity: noise, branches, the solver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from _cuda.calls import NetworkCalls
from _cuda.host import pack_module

from .floor import Floor, measured_floor
from .subject import Subject, captions, encoded
from .targets import TARGETS
from .watch import OTHER, Watch, WatchedDecoder, WatchedPolicy, phases_of, watched_mix

TrainingStep = pack_module("pave_core.training.step").TrainingStep
TrainState = pack_module("pave_core.training.state").TrainState
train = pack_module("pave_core.training.loop").train
RunBatches = pack_module("pave_core.rollout.run_batches").RunBatches

PROMPTS = 8
INSIDE = ("anchor", "branches", "tails")
"""The parts of the rollout."""
PHASES = ("rollout", *INSIDE, "decode", "reward", "update", "optimizer", OTHER)


@dataclass(frozen=True)
class Pair:
    """A training step and the floor after it."""

    seconds: Mapping[str, float]  # by phase
    floor: Floor
    evaluations: Mapping[str, int]  # latents through the network: "rollout" and "update"

    @property
    def step(self) -> float:
        """The seconds of the whole step."""
        return sum(self.seconds.values())

    def ratios(self) -> dict[str, float]:
        """What TARGETS are for."""
        seconds, floor = self.seconds, self.floor
        needed = floor.adapted + floor.update + seconds["decode"] + seconds["reward"]
        return {
            "rollout / floor": seconds["rollout"] / floor.rollout,
            "rollout / floor with adapter": seconds["rollout"] / floor.adapted,
            "update / floor": seconds["update"] / floor.update,
            "other share": (self.step - needed) / self.step,
        }


class Stepper:
    """A run whose steps are measured, inside `with`."""

    def __init__(self, subject: Subject, config: Any, pixels: int | None = None) -> None:
        self._subject = subject
        self._config = replace(config, run=replace(config.run, iterations=100_000))  # as many as are asked for
        self._policy = subject.policy(self._config, pixels)
        self._watch = Watch(self._policy.device)
        self._calls = NetworkCalls(subject.model.model.diffusion_model, self._watch.current)

    @contextmanager
    def running(self) -> Iterator[Stepper]:
        """Inside, steps can be made. The first is made at once, and does not count."""
        config, watch, subject = self._config, self._watch, self._subject
        with torch.inference_mode(), self._policy, phases_of(TrainingStep, watch):  # nodes run in inference mode
            self._policy.sigmas(config.rollout.steps)
            conds = encoded(self._policy, captions()[:PROMPTS])
            self._cond = next(iter(conds.values()))
            run: dict[str, Any] = {
                "conds": conds,
                "config": config,
                "state": TrainState.begin(self._policy, config),
                "batches": RunBatches.of(config.rollout, config.memory),
            }
            self._steps = train(self._policy, subject.decoder(), reward=subject.reward, **run)
            self._watched_policy = WatchedPolicy(
                self._policy,
                watch,
                steps=config.rollout.steps,
                anchors=config.run.prompts_per_step + config.rollout.candidates,
            )
            decoder, reward = WatchedDecoder(subject.decoder(), watch), watched_mix(subject.reward, watch)
            self._watched_steps = train(self._watched_policy, decoder, reward=reward, **run)
            next(self._steps)
            yield self

    def pair(self) -> Pair:
        """A step, and the floor."""
        with self._calls.recorded():
            seconds = self._step(self._steps)
        evaluations = {name: self._calls.evaluations(name) for name in ("rollout", "update")}
        return Pair(seconds, measured_floor(self._policy, self._cond, self._calls, self._watch), evaluations)

    def inside(self) -> dict[str, dict[str, float]]:
        """A step by parts, each call waited for: {"seconds", "calls", "items"}, each by part."""
        self._watched_policy.begin_step()
        seconds = self._step(self._watched_steps)
        seconds["branches"] = seconds.pop("rollout")
        return {"seconds": seconds, "calls": dict(self._watch.calls), "items": dict(self._watch.items)}

    def _step(self, steps: Iterator[Any]) -> dict[str, float]:
        watch = self._watch
        watch.clear()
        metrics = next(steps)
        with watch.phase(OTHER):  # ends the lap
            pass
        if metrics.skipped or metrics.zero_spread_groups == metrics.groups:
            raise RuntimeError(f"step {metrics.step} taught nothing: there is no update to measure")
        return dict(watch.seconds)


def measured(
    subject: Subject, config: Any, *, pairs: int, pixels: int | None = None, inside: int = 3
) -> dict[str, Any]:
    """The record of `pairs` pairs, and of `inside` steps by parts."""
    with Stepper(subject, config, pixels).running() as stepper:
        found = [stepper.pair() for _ in range(pairs)]
        parts = [stepper.inside() for _ in range(inside)]
    phases = {name: {"seconds": median(pair.seconds[name] for pair in found)} for name in found[0].seconds}
    for name in ("rollout", "update"):
        phases[name]["floor"] = median(getattr(pair.floor, name) for pair in found)
        phases[name]["network_evaluations"] = found[-1].evaluations[name]
    phases["rollout"]["floor_with_adapter"] = median(pair.floor.adapted for pair in found)
    if parts:
        for name in INSIDE:
            phases[name] = {"seconds": median(each["seconds"].get(name, 0.0) for each in parts)}
        for name in ("anchor", "tails", "update", "decode", "reward"):
            phases[name] |= {"calls": parts[-1]["calls"].get(name, 0), "evaluations": parts[-1]["items"].get(name, 0)}
    ratios = [pair.ratios() for pair in found]
    return {
        "pairs": pairs,
        "step_seconds": median(pair.step for pair in found),
        "phases": phases,
        "ratios": {name: median(each[name] for each in ratios) for name in ratios[0]},
        "each": [pair.ratios() | {"step": pair.step} for pair in found],
    }


def table(record: Mapping[str, Any]) -> str:
    """The record as text."""
    lines = [f"{'phase':<12}{'seconds':>10}{'calls':>8}{'items':>8}{'network':>10}{'floor':>10}{'ratio':>8}"]
    for name in PHASES:
        if name not in record["phases"]:
            continue
        each = record["phases"][name]
        floor = each.get("floor")
        shown = [f"{'  ' * (name in INSIDE) + name:<12}", f"{each['seconds']:>10.4f}"]
        shown += [f"{each.get(key, ''):>{width}}" for key, width in (("calls", 8), ("evaluations", 8))]
        shown += [f"{each.get('network_evaluations', ''):>10}"]
        shown += [f"{floor:>10.4f}{record['ratios'][f'{name} / floor']:>8.2f}"] if floor is not None else []
        lines.append("".join(shown).rstrip())
    lines += [f"{'step':<12}{record['step_seconds']:>10.4f}", ""]
    for name, value in record["ratios"].items():
        limit = TARGETS.get(name)
        verdict = "" if limit is None else f"   at most {limit:g}: {'met' if value <= limit else 'MISSED'}"
        lines.append(f"{name:<30}{value:>8.3f}{verdict}")
    return "\n".join(lines)

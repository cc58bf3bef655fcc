"""What a run is measured by while it trains: its held-out prompts from fixed seeds, and its guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.train import RolloutConfig
from ..errors import ConfigError
from ..evaluation.evaluate import Evaluation, evaluate, summarise
from ..evaluation.guard import DriftProbe, GuardSettings, Reading
from ..scoring.score import RewardMix, describe, require_spread
from ..training.loop import TrainState
from ..types import Cond, Decoder, Policy, Reward
from .checkpoint import Checkpoint
from .watch import Watch


class HeldOut:
    """The measurements of one run, of the base model first.

    conds: the held-out prompts, encoded; seeds: those of their images; fresh: the state at step 0. `evaluations` are by step: those of step 0, of the
    newest and of the chosen step keep their pictures. ConfigError if the reward can not tell the base model's images apart, or if the guard would see
    nothing.
    """

    def __init__(
        self,
        policy: Policy,
        decoder: Decoder,
        reward: RewardMix,
        judge: Reward | None,
        guard: GuardSettings | None,
        conds: Mapping[str, Cond],
        seeds: Sequence[int],
        config: RolloutConfig,
        fresh: Checkpoint,
    ) -> None:
        self._policy, self._decoder, self._reward, self._judge = policy, decoder, reward, judge
        self._guarded = None if guard is None else guard.held_out or judge
        _require_untrained(self._guarded, reward)
        self._conds, self._seeds, self._config = conds, seeds, config
        self.evaluations: dict[int, Evaluation] = {}
        self.watch: Watch | None = None
        with policy.reference():
            before = self.evaluations[0] = self._measure()
            if guard is not None:
                self.watch = Watch(guard.config, before, DriftProbe(policy, conds, config), fresh)
        require_spread(before.scores)

    @property
    def chosen(self) -> Checkpoint | None:
        """The state whose weights the guard chose; None for the newest."""
        return self.watch.chosen if self.watch is not None else None

    @property
    def readings(self) -> Sequence[Reading]:
        """What the guard measured."""
        return self.watch.readings if self.watch is not None else ()

    def guard_is_due(self, step: int) -> bool:
        """Whether guard() is to be called after this step."""
        return self.watch is not None and self.watch.due(step)

    def evaluate(self, step: int) -> Evaluation:
        """Measure the policy as it is after `step`, once."""
        if step not in self.evaluations:
            self.evaluations[step] = self._measure()
            chosen = step if self.chosen is None else self.chosen.step
            for other in self.evaluations.keys() - {0, step, chosen}:
                self.evaluations[other] = self.evaluations[other].without_images()
        return self.evaluations[step]

    def guard(self, state: TrainState) -> Reading:
        """Measure what the guard watches, and let it act on the state."""
        assert self.watch is not None
        return self.watch.check(self._policy, state, self.evaluate(state.step))

    def finish(self, state: TrainState) -> Reading | None:
        """Measure the last step, and the chosen one where that was done in an earlier session; the guard's reading, if it is a new one."""
        self.evaluate(state.step)
        known = self.watch is None or any(reading.step == state.step for reading in self.readings)
        reading = None if known else self.guard(state)
        chosen = self.chosen
        if chosen is not None and (chosen.step not in self.evaluations or not len(self.evaluations[chosen.step].images)):
            newest = state.capture({})
            state.return_to(chosen)
            self.evaluations[chosen.step] = self._measure()
            state.return_to(newest)
        return reading

    def figures(self, step: int) -> dict[str, Any]:
        """For summary.json: what came out, at `step`, against the base model; and what the guard did."""
        guard = None
        if self.watch is not None:
            best = next((reading for reading in self.readings if reading.step == step), None)
            guard = {
                "stopped": self.watch.stopped,
                "alarms": sum(bool(reading.alarms) for reading in self.readings),
                "checks": len(self.readings),
                "chosen": step,
                "base": self.watch.guard.base,
                "held_out": None if best is None else best.held_out,
            }
        return {**summarise(self.evaluations[0], self.evaluations[step]), "guard": guard}

    def _measure(self) -> Evaluation:
        return evaluate(self._policy, self._decoder, self._reward, self._judge, self._guarded, self._conds, self._seeds, self._config)


def _require_untrained(held_out: Reward | None, reward: RewardMix) -> None:
    """ConfigError if a reward that the guard goes by is trained on as well."""
    trained = [describe(part) for part, weight in zip(reward.rewards, reward.weights, strict=True) if weight]
    for part in () if held_out is None else RewardMix.of(held_out).rewards:
        if describe(part) in trained:
            raise ConfigError(f"guard: its held-out reward {part.name!r} is trained on, so that it can not show hacking: connect one that is not")

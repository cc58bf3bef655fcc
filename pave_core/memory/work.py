"""What a training step consists of, counted from its settings: latents, network evaluations, images.

    rollout     P anchors of T steps; branches: of each k in K, G tails; trajectories: G walks up to the last k, and
                their tails; each image on M tails; of B candidates an anchor
    update      at each state x_k the chains: 1 + sum_{n in S} (n - 1) evaluations with gradient, |S| at once at most

K is where the window of branch steps begins.
"""

from __future__ import annotations

from math import ceil

from ..config.train import TrainConfig


class Work:
    """The numbers of a training step."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._rollout, self._prompts = config.rollout, config.run.prompts_per_step
        self._kept = self._rollout.contrast or self._rollout.group_size  # images of a group that are trained on

    @property
    def evaluations(self) -> int:
        """Velocities that the loss takes of a state x_k: 1 + sum_{n in S} (n - 1)."""
        return 1 + sum(n - 1 for n in self._config.pave.segments)

    @property
    def widest(self) -> int:
        """Latents of a state in the widest call with gradient: the chains that are under way at once."""
        return max(1, len(self._config.pave.segments))

    @property
    def calls(self) -> int:
        """The calls with gradient of a state's chains, one after another: max(S)."""
        return max((1, *self._config.pave.segments))

    @property
    def states(self) -> int:
        """The states x_k of the update: one for all branches of a branch step, or one for each trajectory."""
        return self._prompts * len(self._rollout.branch_steps) * self._states_of_a_step

    @property
    def together(self) -> int:
        """The states whose chains may be evaluated together: all, or those that an optimizer step takes."""
        return self._states_of_a_step if self._config.optim.step == "per_step" else self.states

    @property
    def updated(self) -> int:
        """Velocities with gradient."""
        return self.states * self.evaluations * self._config.pave.updates_per_rollout

    @property
    def compared(self) -> int:
        """Velocities of the base model, without gradient, that the divergence from it takes."""
        return self.states * self.evaluations if self._config.pave.kl_weight > 0 else 0

    @property
    def sampled(self) -> int:
        """Velocities without gradient of the rollouts."""
        of, G = self._rollout, self._rollout.group_size
        branched = of.branch_steps if of.in_branches else of.branch_steps[-1:]
        count = of.steps + G * sum(self._steps_of_tails(k) for k in branched)
        if not of.in_branches:
            first = 0 if of.exploration == "trajectories" else of.branch_steps[0] + 1  # the anchor's velocity is shared
            count += G * (of.branch_steps[-1] + 1 - first)
        if of.contrast and not of.has_full_tails:
            count += of.contrast * sum(of.steps - k - 1 for k in branched)
        return self._prompts * count + of.candidates * of.steps

    @property
    def decoded(self) -> int:
        """Images that are decoded."""
        of = self._rollout
        return self._prompts * (1 + of.images + of.contrast * of.groups) + of.candidates

    @property
    def latents(self) -> int:
        """Latents that are there at once: starts, noise, branches and finals; means of earlier policies."""
        of, pave, K, G = self._rollout, self._config.pave, len(self._rollout.branch_steps), self._rollout.group_size
        starts = K * (1 if self._leave_anchor else G) + (G if of.exploration == "trajectories" else 0)
        earlier = (pave.updates_per_rollout > 1 or self._config.run.sample_ahead) + (pave.kl_weight > 0)
        means = self.states * (1 + len(pave.segments)) * earlier
        return self._prompts * (starts + 2 * K * G + of.images + 2) + means

    @property
    def _states_of_a_step(self) -> int:
        return 1 if self._leave_anchor else self._kept

    @property
    def _leave_anchor(self) -> bool:
        """Whether all images of a branch step leave one x_k."""
        of = self._rollout
        return of.in_branches or (of.exploration == "trajectories, one noise" and len(of.branch_steps) == 1)

    def _steps_of_tails(self, k: int) -> int:
        """The steps of all tails of an image that left the branch step k."""
        of = self._rollout
        whole = of.steps - k - 1
        first = max(1, round(of.tail_steps * whole / of.steps)) if of.tail_steps else whole
        return first + sum(ceil(first / n) for n in of.coarser_tails)

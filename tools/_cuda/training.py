"""A few training steps of a plan, measured phase by phase, and what is compared beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import comfy.model_management as management
import torch
from torch import Tensor

from .calls import NetworkCalls
from .host import pack_module, smaller_card, unload
from .meter import Meter
from .models import Models
from .plans import Part, Plan, Scale

configs = pack_module("pave_core.config.train")
settings = pack_module("nodes.host.policy.settings")
NativePolicy = pack_module("nodes.host.policy.native").NativePolicy
NativeDecoder = pack_module("nodes.host.policy.decoder").NativeDecoder
preflight = pack_module("nodes.host.preflight").preflight
TrainingStep = pack_module("pave_core.training.step").TrainingStep
TrainState = pack_module("pave_core.training.state").TrainState
Rollout = pack_module("pave_core.types").Rollout
ConfigError = pack_module("pave_core.errors").ConfigError

PROMPT = "a red circle on a dark background"
PEAKS = ("allocated_gb", "reserved_gb")
Gradient = dict[str, Tensor]


class CheckError(RuntimeError):
    """A run would be refused, or a step did not train."""


class Measurement:
    """A plan on a part's models. run() measures; `record` has what was found so far, whatever happens.

    reference: the gradient of the part's first plan; None for that plan itself. Its own is `gradient` afterwards.
    """

    def __init__(self, plan: Plan, part: Part, models: Models, scale: Scale, reference: Gradient | None) -> None:
        self._plan, self._models, self._scale, self._reference = plan, models, scale, reference
        self._meter = Meter(management.get_torch_device(), models.resident)
        self._config = config_of(plan, scale)
        self._settings = settings.PolicySettings(*models, self._config.lora, settings.Guidance(cfg=part.cfg))
        self._reward = reward_mix()
        self._batches: dict[str, Any] = {}
        self._refused = ""
        self.gradient: Gradient | None = None
        self.record: dict[str, Any] = {"phases": self._meter.phases}

    @property
    def phase(self) -> str:
        """The phase under way, or the last."""
        return self._meter.current

    def run(self) -> None:
        """Measure the plan, under inference mode, as nodes run. CheckError if it would be refused or does not train."""
        with smaller_card(self._plan.card_gb), torch.inference_mode():
            unload()
            calls = self._train()
            if "bare" in self._plan.extras:
                self._bare(calls)
        if self._refused:
            raise CheckError(f"refused: {self._refused}")

    def _train(self) -> NetworkCalls:
        plan, meter, models = self._plan, self._meter, self._models
        picture = settings.Picture(self._scale.pixels, self._scale.pixels)
        policy = NativePolicy(self._settings, picture, memory=self._config.memory)
        decoder = NativeDecoder(models.model, models.vae)
        calls = NetworkCalls(models.model.model.diffusion_model)
        with ExitStack() as stack:
            with meter.phase("load", fresh=True):
                stack.enter_context(policy)
            with meter.phase("encode", fresh=True):
                conds = {PROMPT: policy.encode(PROMPT)}
            with meter.phase("check", fresh=True):
                self._predict(policy, conds[PROMPT])
                self._check_gradient(policy, conds[PROMPT])
            state = TrainState.begin(policy, self._config)
            for i in range(plan.train_steps):
                if i > 0 and "turns" in plan.extras:
                    with meter.phase("encode", fresh=True):
                        conds = {PROMPT: policy.encode(PROMPT)}
                step = TrainingStep(policy, decoder, conds=conds, config=self._config, state=state, **self._batches)
                # The calls that are recorded are those of the last step, whose seconds count.
                last = i == plan.train_steps - 1 and "bare" in plan.extras
                with calls.recorded(last):
                    self._step(step, fresh=i == 0)
                if last:  # measured as the bare network is, with warm caches
                    self.record["rollout_seconds"] = meter.seconds(step.sample)
            if plan.extras & {"gradient", "groups"}:
                self._update_alone(policy, decoder, conds, state)
        return calls

    def _predict(self, policy: Any, cond: Any) -> None:
        """What the preflight predicts, which is what the policy reckons with."""
        policy.sigmas(self._scale.steps)
        rollout = settings.RolloutSettings(
            self._config.rollout, settings.Picture(self._scale.pixels, self._scale.pixels)
        )
        parts = {"settings": self._settings, "rollout": rollout, "config": self._config, "reward": self._reward}
        needs = preflight(policy, cond, **parts).needs
        self._batches = run_batches(self._config, needs.update_batch)
        self.record["predicted_gb"] = max(map(needs.peak, needs.phases)) / 2**30
        self.record["predicted"] = {phase: needs.peak(phase) / 2**30 for phase in needs.phases}

    def _check_gradient(self, policy: Any, cond: Any) -> None:
        """As at the beginning of a run; what it refuses is measured all the same, and fails in the end."""
        policy.sigmas(self._scale.steps)
        try:
            check = policy.check_gradient(cond)
        except ConfigError as error:
            self._refused = str(error)
        else:
            self.record["check"] = check.text
            policy.leave_out(check.idle)

    def _step(self, step: Any, *, fresh: bool) -> None:
        """One training step. fresh: the first, whose peaks count; later ones are faster, and have the seconds."""
        meter = self._meter
        with meter.phase("rollout", fresh=fresh):
            rollouts = step.sample()
        with meter.phase("decode", fresh=fresh):
            images, anchors = step.decode(rollouts)
        if not step.finite:
            raise CheckError("an image is not finite")
        with meter.phase("reward", fresh=fresh):
            step.score_anchors(self._reward, anchors)
            scores = step.score(self._reward, images, step.texts(rollouts))
        with meter.phase("update", fresh=fresh):
            step.accumulate(rollouts, step.advantages(scores, rollouts))
        with meter.phase("optimizer", fresh=fresh):
            step.update()
        metrics = step.complete()
        self.record |= {"loss": metrics.loss, "grad_norm": metrics.grad_norm}
        for batches in self._batches.values():
            self.record["batches"] = {name: of.size for name, of in vars(batches).items()}
        if metrics.skipped or metrics.zero_spread_groups or not metrics.grad_norm > 0:
            raise CheckError(
                f"the step taught nothing: skipped {metrics.skipped}, {metrics.zero_spread_groups} groups without "
                f"spread, gradient norm {metrics.grad_norm}"
            )

    def _update_alone(self, policy: Any, decoder: Any, conds: Any, state: Any) -> None:
        """The update of made-up branches, the same for every plan: its gradient, and its cost at several G."""
        scale, extras = self._scale, self._plan.extras
        with torch.no_grad():
            generator = torch.Generator(policy.device).manual_seed(0)
            for p in policy.parameters().values():
                p.normal_(0, 0.02, generator=generator)
        first, groups = scale.groups[0], {}
        # The very first warms up, and gives the gradient; of three of each size the fastest counts.
        for G in (first, *3 * scale.groups) if "groups" in extras else (first,):
            state.optimizer.zero_grad(set_to_none=True)
            rollout_config = replace(self._config.rollout, branch_steps=(0,), group_size=G)
            config = replace(self._config, rollout=rollout_config)
            step = TrainingStep(policy, decoder, conds=conds, config=config, state=state, **self._batches)
            rollout, advantages = made_up(policy, conds[PROMPT], scale.steps, G)
            with self._meter.phase("update alone", fresh=True):
                step.accumulate([rollout], advantages)
            measured = self._meter.phases.pop("update alone")
            if self.gradient is None:
                self.gradient = {n: p.grad.cpu() for n, p in policy.parameters().items() if p.grad is not None}
            else:
                groups[str(G)] = min(measured, groups.get(str(G), measured), key=lambda each: each["seconds"])
        self.record["without_gradient"] = len(policy.parameters()) - len(self.gradient or {})
        if "groups" in extras:
            self.record["groups"] = groups
        if self._reference is not None and self.gradient is not None:
            self.record["gradient"] = compared(self.gradient, self._reference)
        state.optimizer.zero_grad(set_to_none=True)

    def _bare(self, calls: NetworkCalls) -> None:
        """The seconds of the network alone for the calls of a rollout, with no adapter and no policy of ours."""
        management.load_models_gpu([self._models.model])
        with torch.inference_mode():
            self.record["bare_seconds"] = sum(
                count * self._meter.seconds(lambda call=call: calls.network(*call[0], **call[1]))
                for kind, call, count in calls.of()
                if not kind.gradient
            )


def config_of(plan: Plan, scale: Scale) -> Any:
    """The TrainConfig of a plan."""
    rank = min(plan.rank, scale.most_rank)
    return configs.TrainConfig(
        rollout=configs.RolloutConfig(
            steps=scale.steps,
            branch_steps=scale.branch_steps,
            group_size=scale.group_size,
            batch_size=plan.batch_size,
        ),
        pave=configs.PaveConfig(segments=plan.segments),
        lora=configs.LoraConfig(rank=rank, alpha=2 * rank),
        memory=configs.MemoryConfig(
            checkpointing=plan.checkpointing,
            recompute_chains=plan.recompute_chains,
            decode_batch=plan.decode_batch,
            offload=plan.offload,
        ),
    )


def run_batches(config: Any, update: int) -> dict[str, Any]:
    """{"batches": the micro-batches of a run}, which become smaller when memory runs out. update: as in RunBatches."""
    made = pack_module("pave_core.rollout.run_batches").RunBatches
    return {
        "batches": made.of(config.rollout, config.memory, pack_module("nodes.host.memory").free_caches, update=update)
    }


def reward_mix() -> Any:
    """A reward of pixels, and one whose network visits the device."""
    tiny = pack_module("nodes.host.tiny")
    compute = pack_module("pave_core.rewards.networks.compute").Compute(pack_module("nodes.host.placement").visiting)
    colour = pack_module("pave_core.rewards.colour").ColourReward(1.0, 0.75, 0.4)
    clip = pack_module("pave_core.rewards.clip_score").CLIPScore(tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG, compute)
    return pack_module("pave_core.scoring.mix").RewardMix((colour, clip), (1.0, 1.0))


def made_up(policy: Any, cond: Any, steps: int, G: int) -> tuple[Any, Tensor]:
    """A rollout of branch step 0 with random branches, and its advantages (1, 1, G): +1 and -1 by turns."""
    sigmas, generator = policy.sigmas(steps), torch.Generator().manual_seed(0)
    start = torch.randn(1, *policy.latent_shape, generator=generator) * sigmas[0]
    noise = torch.randn(G, *policy.latent_shape, generator=generator)
    starts, branches = start[None].to(policy.device), (start + 0.5 * noise)[None].to(policy.device)
    rollout = Rollout(PROMPT, cond, sigmas, (0,), starts, branches, branches[None], starts[0])
    return rollout, torch.tensor([1.0, -1.0]).repeat(G // 2).view(1, 1, G)


def compared(own: Gradient, reference: Gradient) -> dict[str, float]:
    """The cosine of two gradients, and the largest |own - reference| / |reference| of a parameter."""
    if own.keys() != reference.keys():
        raise CheckError("other parameters have a gradient than in the part's first plan")

    def dot(a: Gradient, b: Gradient) -> float:
        return sum((a[name].double() * b[name].double()).sum().item() for name in a)

    differences = {
        name: ((own[name] - value).norm() / value.norm()).item() for name, value in reference.items() if value.any()
    }
    cosine = dot(own, reference) / (dot(own, own) * dot(reference, reference)) ** 0.5
    return {"cosine": cosine, "max_relative_difference": max(differences.values())}

"""A toy world for the core: a small network as the flow model, latents of (3, 4, 4), and rewards of their pixels."""

import json
import math
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pave_core.config.adapter import LoraConfig
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.flow.schedule import shifted_sigmas
from pave_core.policies.adapter import LoraAdapter
from pave_core.runs.log import Reporter
from pave_core.runs.run import Run
from pave_core.scoring.mix import RewardMix
from pave_core.seeds import seeded
from pave_core.training.loop import train
from pave_core.training.metrics import StepMetrics
from pave_core.training.state import TrainState
from pave_core.types import GradientCheck

SHAPE = (3, 4, 4)
PROMPTS = ("a cat", "a dog", "a bird")
SEEDS = (1, 2, 3, 4)


class ToyFlow(torch.nn.Module):
    """x (B, 3, 4, 4), sigma (B,), cond (B, 8) -> (B, 3, 4, 4)."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.attn = torch.nn.ModuleDict({"qkv": torch.nn.Linear(48 + 9, 32), "proj": torch.nn.Linear(32, 32)})
        self.out = torch.nn.Linear(32, 48)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2)

    def forward(self, x, sigma, cond):
        h = torch.cat([x.flatten(1), sigma[:, None], cond], 1)
        return self.out(torch.tanh(self.attn["proj"](torch.tanh(self.attn["qkv"](h))))).view_as(x)


class ToyPolicy:
    """A RunPolicy; `fail` may be set to a function that is called before each network call."""

    def __init__(self, lora: LoraConfig, seed: int = 0):
        self.device = torch.device("cpu")
        self.latent_shape = SHAPE
        self.loss_scale = 1.0
        self.model = ToyFlow()
        self.adapter = LoraAdapter(self.model, lora, generator=seeded(seed, "adapter"), device=self.device)
        self.fail = lambda: None
        self.calls = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        pass

    def sigmas(self, steps):
        return shifted_sigmas(steps, 3.0)

    def encode(self, prompt):
        return torch.randn(8, generator=seeded(0, prompt))

    def velocity(self, x, sigma, conds):
        self.calls += 1
        self.fail()
        return self.model(x, sigma, torch.stack(tuple(conds)))

    def parameters(self):
        return self.adapter.parameters()

    @contextmanager
    def reference(self):
        with self.adapter.disabled():
            yield

    def fingerprint(self):
        return "toy"

    def is_base(self, fingerprint):
        return fingerprint == self.fingerprint()

    def probe(self, cond):
        pass

    def remarks(self):
        return []

    def export(self, values=None):
        return self.adapter.export(values)

    def check_gradient(self, cond):
        return GradientCheck((), "gradient check: all layers get a gradient")

    def leave_out(self, layers):
        self.adapter.leave_out(layers)

    def rest(self):
        pass

    def describe(self):
        return {"sampling": {"shift": 3.0}}


class ToyDecoder:
    """Each latent element is a pixel's channel."""

    def decode(self, latents):
        return torch.sigmoid(latents).movedim(1, -1).detach()


class Brightness:
    name = "brightness"

    def __call__(self, images, prompts):
        return images.mean((1, 2, 3))


class Redness:
    name = "redness"

    def __call__(self, images, prompts):
        return images[..., 0].mean((1, 2)) - images[..., 1].mean((1, 2))


class Negative:
    """The opposite of brightness: it falls as brightness rises."""

    name = "negative"

    def __call__(self, images, prompts):
        return -images.mean((1, 2, 3))


class Twin(Brightness):
    """Brightness under another name: it rises with it."""

    name = "twin"


class Constant:
    name = "constant"

    def __call__(self, images, prompts):
        return torch.ones(len(images))


class Shy:
    """Brightness, but of every third image it has no opinion."""

    name = "shy"
    may_abstain = True

    def __call__(self, images, prompts):
        scores = images.mean((1, 2, 3))
        scores[::3] = math.nan
        return scores


def toy_config(iterations=4, optimizer_step="accumulated", checkpoint_every=25, **rollout) -> TrainConfig:
    """The settings of a toy run; the others are those of RolloutConfig."""
    return TrainConfig(
        rollout=RolloutConfig(**({"steps": 6, "branch_steps": (0, 2), "group_size": 4} | rollout)),
        pave=PaveConfig(segments=(2, 3)),
        lora=LoraConfig(rank=2, alpha=4, targets="all linear"),
        optim=OptimConfig(learning_rate=5e-3, step=optimizer_step),
        run=RunConfig(iterations=iterations, prompts_per_step=2, seed=3, checkpoint_every=checkpoint_every),
    )


class ToyTraining:
    """A policy, its state and the stream of metrics, without a Run around them."""

    def __init__(self, config: TrainConfig | None = None, reward=None):
        self.config = config or toy_config()
        self.policy = ToyPolicy(self.config.lora, self.config.run.seed)
        self.decoder = ToyDecoder()
        self.reward = RewardMix.of(reward or Brightness())
        self.conds = {prompt: self.policy.encode(prompt) for prompt in PROMPTS}
        self.state = TrainState.begin(self.policy, self.config)

    def stream(self):
        return train(
            self.policy, self.decoder, reward=self.reward, conds=self.conds, config=self.config, state=self.state
        )


class Hears(Reporter):
    """A listener that writes down what it hears, in `said`, which others may write into as well."""

    def __init__(self, said: list[Any] | None = None, name: str = ""):
        self.said = [] if said is None else said
        self._name = (name,) if name else ()

    @property
    def events(self) -> list[Any]:
        """What it heard besides messages that are no warnings."""
        return [said for said in self.said if said[0] != "message"]

    def step(self, metrics, steps):
        self.said.append((*self._name, "step", metrics.step, steps))

    def numbers(self, step, numbers):
        self.said.append((*self._name, "numbers", step, *numbers))

    def message(self, text, *, warning=False):
        self.said.append((*self._name, "warning" if warning else "message", text))

    def close(self):
        self.said.append((*self._name, "close"))


def drive(run: Run, until: int | None = None, reward=None) -> list[StepMetrics]:
    """Train until all steps are done, the guard ends the run, or step `until`; the steps that were made.

    reward: what trains, where the run itself has none.
    """
    mix = RewardMix.of(reward) if reward else run.task.reward
    assert mix is not None
    made = []
    with run.policy:
        for metrics in train(run.policy, run.decoder, reward=mix, conds=run.conds, config=run.config, state=run.state):
            run.after_step(metrics)
            made.append(metrics)
            if run.stopped or metrics.step == until:
                break
    return made


def weights(policy) -> dict[str, torch.Tensor]:
    """A copy of the adapter's values."""
    return {name: p.detach().clone() for name, p in policy.parameters().items()}


def same(a, b) -> bool:
    """Whether two dicts of tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_clock(records: Sequence[StepMetrics]) -> list[dict[str, Any]]:
    """The records without what depends on the machine's speed."""
    return [{k: v for k, v in record.to_dict().items() if k not in ("seconds", "memory")} for record in records]


def lines(file: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file, without the clock."""
    records = map(json.loads, file.read_text("utf-8").splitlines())
    return [{k: v for k, v in record.items() if k not in ("seconds", "memory")} for record in records]

"""A toy world for the core: a small network as the flow model, on latents of (3, 4, 4), and rewards of its pixels."""

from contextlib import contextmanager

import pytest
import torch

from pave_core.config.adapter import LoraConfig
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.flow.schedule import shifted_sigmas
from pave_core.policies.adapter import LoraAdapter
from pave_core.scoring.mix import RewardMix
from pave_core.seeds import seeded
from pave_core.training.loop import train
from pave_core.training.state import TrainState

SHAPE = (3, 4, 4)


class ToyFlow(torch.nn.Module):
    """x (B, 3, 4, 4), sigma (B,), cond (8,) -> (B, 3, 4, 4)."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.attn = torch.nn.ModuleDict({"qkv": torch.nn.Linear(48 + 9, 32), "proj": torch.nn.Linear(32, 32)})
        self.out = torch.nn.Linear(32, 48)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2)

    def forward(self, x, sigma, cond):
        h = torch.cat([x.flatten(1), sigma[:, None], cond.expand(len(x), -1)], 1)
        return self.out(torch.tanh(self.attn["proj"](torch.tanh(self.attn["qkv"](h))))).view_as(x)


class ToyPolicy:
    """A Policy; `fail` may be set to a function that is called before each network call."""

    def __init__(self, lora: LoraConfig, seed: int = 0):
        self.device = torch.device("cpu")
        self.latent_shape = SHAPE
        self.model = ToyFlow()
        self.adapter = LoraAdapter(self.model, lora, seeded(seed, "adapter"), self.device)
        self.fail = lambda: None
        self.calls = 0

    def sigmas(self, steps):
        return shifted_sigmas(steps, 3.0)

    def encode(self, prompt):
        return torch.randn(8, generator=seeded(0, prompt))

    def velocity(self, x, sigma, cond):
        self.calls += 1
        self.fail()
        return self.model(x, sigma, cond)

    def parameters(self):
        return self.adapter.parameters()

    @contextmanager
    def reference(self):
        with self.adapter.disabled():
            yield

    def fingerprint(self):
        return "toy"


class ToyDecoder:
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


def toy_config(iterations=4, optimizer_step="accumulated", **rollout) -> TrainConfig:
    return TrainConfig(
        rollout=RolloutConfig(**({"steps": 6, "branch_steps": (0, 2), "group_size": 4} | rollout)),
        pave=PaveConfig(segments=(2, 3)),
        lora=LoraConfig(rank=2, alpha=4, targets="all linear"),
        optim=OptimConfig(learning_rate=5e-3, step=optimizer_step),
        run=RunConfig(iterations=iterations, prompts_per_step=2, seed=3),
    )


class ToyRun:
    """A policy, its state and the stream of metrics."""

    def __init__(self, config: TrainConfig, reward=None):
        self.config = config
        self.policy = ToyPolicy(config.lora, config.run.seed)
        self.decoder = ToyDecoder()
        self.reward = RewardMix.of(reward or Brightness())
        self.conds = {prompt: self.policy.encode(prompt) for prompt in ("a cat", "a dog", "a bird")}
        self.state = TrainState.begin(self.policy, config)

    def stream(self):
        return train(self.policy, self.decoder, self.reward, self.conds, self.config, self.state)


@pytest.fixture
def toy():
    """toy(config, reward) -> a ToyRun; toy.config(...) -> its TrainConfig."""

    def make(config=None, reward=None):
        return ToyRun(config or toy_config(), reward)

    make.config = toy_config
    make.Brightness, make.Redness, make.Policy = Brightness, Redness, ToyPolicy
    return make

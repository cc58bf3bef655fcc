"""The floor: the seconds of the host's network alone, for the same evaluations at the same batch shapes.

The network is called with what a training step called it with, without sampling_function, policy, solver or loss.

    rollout     without gradient, the adapter taken out: the host's own network
    adapted     the same with the adapter in
    update      forward and backward of each call, with the adapter in, as autograd follows it; where the step's
                gradient went on into the latents, as within a chain, this one's does too
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from _cuda.calls import NetworkCalls
from _cuda.host import pack_module

from .watch import Watch

taking_gradients = pack_module("nodes.host.policy.autograd.network").taking_gradients


@dataclass(frozen=True)
class Floor:
    """Seconds of the network alone."""

    rollout: float
    adapted: float
    update: float


def measured_floor(policy: Any, cond: Any, calls: NetworkCalls, watch: Watch) -> Floor:
    """The floor of the recorded calls of a policy's network, inside its `with` block. Its gradients are cleared."""
    with torch.no_grad():  # brings the model back to the device, where another has made it leave
        x = torch.zeros(1, *policy.latent_shape, device=policy.device)
        policy.velocity(x, x.new_full((1,), 0.5), [cond])
    with policy._patcher.use_ejected(), torch.inference_mode():
        rollout = watch.taken(lambda: _rollout(calls))
    with torch.no_grad():
        adapted = watch.taken(lambda: _rollout(calls))
    update = watch.taken(lambda: _update(calls))
    for p in policy.parameters().values():
        p.grad = None
    return Floor(rollout, adapted, update)


def _rollout(calls: NetworkCalls) -> None:
    for _, (args, named), count in calls.of("rollout"):
        for _ in range(count):
            calls.network(*args, **named)


def _update(calls: NetworkCalls) -> None:
    for kind, ((x, *args), named), count in calls.of("update"):
        for _ in range(count):
            latents = x.detach().requires_grad_(kind.chained)
            with torch.set_grad_enabled(kind.gradient), taking_gradients():
                v = calls.network(latents, *args, **named)
            if kind.gradient:
                v.backward(torch.ones_like(v))

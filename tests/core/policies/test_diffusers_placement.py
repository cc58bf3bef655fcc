"""Where a pipeline's network is: on the device while it computes, or a share of it never but as copies."""

import pytest
import torch

from _tiny_pipelines import FAMILIES, build
from pave_core.config.adapter import LoraConfig
from pave_core.config.memory import MemoryConfig
from pave_core.errors import ConfigError
from pave_core.policies.diffusers.placement import Placement, moved
from pave_core.policies.diffusers.policy import PipelinePolicy, Sampling

META = torch.device("meta")
"""A device that is not the CPU, and that each machine has."""


def on_meta(modules) -> set[bool]:
    return {value.is_meta for module in modules for value in module.parameters()}


def blocks_of(network):
    return [block for part in network.children() if isinstance(part, torch.nn.ModuleList) for block in part]


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_come_and_leave_and_the_network_s_device_is_always_the_device(name):
    network = build(name).transformer
    blocks = blocks_of(network)
    placement = Placement(network, META, 0.1)
    copied = len(placement._copied)
    assert 0 < copied < len(blocks)
    share = sum(p.nbytes for block in blocks[:copied] for p in block.parameters())
    last = sum(p.nbytes for p in blocks[copied - 1].parameters())
    assert share - last < 0.1 * sum(p.nbytes for p in network.parameters()) <= share
    assert network.device == META, "from which the pipeline takes its own"
    assert on_meta(blocks) == {False}
    placement.come()
    assert on_meta(blocks[:copied]) == {False}
    assert on_meta(blocks[copied:]) == {True}
    assert network.device == META


def policy_of(name, **memory):
    return PipelinePolicy(
        build(name), LoraConfig(rank=4, alpha=8.0), Sampling(width=64, height=64), memory=MemoryConfig(**memory)
    )


def computed(policy):
    """(velocities, gradients, export, fingerprint) of a policy with random values in its adapter."""
    generator = torch.Generator().manual_seed(3)
    with policy:
        with torch.no_grad():
            for p in policy.parameters().values():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
        cond = policy.encode("a red circle")
        x = torch.randn(2, *policy.latent_shape, generator=generator)
        sigma = torch.tensor([0.7, 0.3])
        with torch.no_grad():
            sampled = policy.velocity(x, sigma, [cond, cond])
        v = policy.velocity(x, sigma, [cond, cond])
        v.square().mean().backward()
        assert torch.allclose(v, sampled, atol=1e-5)
        gradients = {name: p.grad.clone() for name, p in policy.parameters().items() if p.grad is not None}
        blocks = blocks_of(policy._network)[: len(policy._placement._copied)]
        bases = [value for block in blocks for name, value in block.named_parameters() if "lora_" not in name]
        return v.detach(), gradients, policy.export(), policy.fingerprint(), {base.is_meta for base in bases}


@pytest.mark.parametrize(("name", "checkpointing"), [*((name, "on") for name in FAMILIES), ("FLUX dev", "off")])
def test_a_share_in_main_memory_changes_neither_velocity_nor_gradient(name, checkpointing):
    whole = computed(policy_of(name, checkpointing=checkpointing))
    policy = policy_of(name, checkpointing=checkpointing, offload=0.6)
    before = {key: value.clone() for key, value in policy._network.state_dict().items()}
    offloaded = computed(policy)
    assert offloaded[4] == {True}, "between calls the weights of the share are nowhere but in main memory"
    assert torch.equal(offloaded[0], whole[0])
    assert offloaded[1].keys() == whole[1].keys()
    assert all(torch.equal(gradient, whole[1][key]) for key, gradient in offloaded[1].items())
    assert any(float(gradient.abs().max()) > 0 for gradient in offloaded[1].values())
    assert all(torch.equal(value, whole[2][key]) for key, value in offloaded[2].items())
    assert offloaded[3] == whole[3]
    after = policy._network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(hasattr(module, "_hf_hook") for module in policy._network.modules())
    again = computed(policy)
    assert torch.equal(again[0], whole[0]), "the pipeline is whole again for the next run"


def test_blocks_that_are_copied_are_computed_again_for_their_gradient():
    """The copies would be kept for the backward, and nothing be won."""
    assert policy_of("SD3", offload=0.3)._checkpoints()
    assert not policy_of("SD3")._checkpoints()
    assert not policy_of("SD3", offload=0.3, checkpointing="off")._checkpoints()


def test_quantised_weights_stay_whole():
    network = build("SD3").transformer
    network.is_quantized = True
    with pytest.raises(ConfigError, match=r"offload: 0.5 of a network whose weights are quantised: set it to 0"):
        Placement(network, torch.device("cpu"), 0.5)
    assert not Placement(network, torch.device("cpu"), 0.0).copies


def test_what_loads_onto_its_device_is_left_there():
    network = build("SD3").transformer
    network.is_quantized, network.quantization_method = True, "bitsandbytes"
    placement = Placement(network, META, 0.0)
    placement.come()
    assert on_meta([network]) == {False}
    assert on_meta([moved(network, META)]) == {False}
    assert on_meta([moved(torch.nn.Linear(1, 1), META)]) == {True}

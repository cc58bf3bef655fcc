"""The guidance that a model is told: the one of the field, or the model's own as ComfyUI has it."""

import pytest
import torch

from _tiny_architectures import ARCHITECTURES, build

OWN = {"FLUX dev": 3.5, "HunyuanVideo": 6.0, "HunyuanImage 2.1": 6.0, "Chroma": 0.0}
"""What the help of the field and docs/MODELS.md say that ComfyUI draws with where no node sets it."""
PROMPT = "a red circle on a dark background"


@pytest.fixture
def velocity(modules):
    """velocity(name, guidance): v at one point of a policy of that architecture."""

    def at(name, guidance):
        size = ARCHITECTURES[name].size
        settings = modules.policy.PolicySettings(
            *build(name), modules.config.LoraConfig(rank=2, alpha=2), modules.policy.Guidance(guidance=guidance)
        )
        with modules.native.NativePolicy(settings, modules.policy.Picture(size, size)) as policy, torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(1, *policy.latent_shape, generator=generator)
            return policy.velocity(x, torch.tensor([0.7]), [policy.encode(PROMPT)])

    return at


@pytest.mark.parametrize("name", OWN)
def test_below_0_is_what_the_host_draws_with_where_no_node_sets_it(velocity, name):
    own, same, other = (velocity(name, guidance) for guidance in (-1.0, OWN[name], OWN[name] + 4))
    assert torch.equal(own, same)
    assert not torch.allclose(own, other)


@pytest.mark.parametrize("guidance", [-1.0, 0.0, 2.5])
def test_a_prompt_is_encoded_as_the_stock_nodes_do(modules, stock, guidance):
    (expected,) = stock.call("CLIPTextEncode", clip=stock.clip, text=PROMPT)
    if guidance >= 0:
        (expected,) = stock.call("FluxGuidance", conditioning=expected, guidance=guidance)
    ((ours, said),) = modules.module("nodes.host.policy.conditioning").encode(stock.clip, PROMPT, guidance)
    ((theirs, as_stock),) = expected
    assert torch.equal(ours, theirs)
    assert said.keys() == as_stock.keys()
    assert said.get("guidance") == as_stock.get("guidance")


def test_a_new_node_begins_with_the_model_s_own(modules):
    assert modules.policy.Guidance().guidance == -1.0

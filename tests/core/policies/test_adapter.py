"""The LoRA adapter: in, out, and as what it is exported."""

import pytest
import torch

from _toy import ToyPolicy
from pave_core.config.adapter import LoraConfig
from pave_core.errors import ConfigError
from pave_core.policies.adapter import LoraAdapter
from pave_core.seeds import seeded


def probe(policy):
    return policy.model(torch.ones(2, 3, 4, 4), torch.tensor([0.5, 0.9]), torch.ones(2, 8))


@pytest.mark.parametrize("init", ["gaussian", "kaiming"])
def test_a_fresh_adapter_changes_no_bit(init):
    policy = ToyPolicy(LoraConfig(rank=4, init=init))
    fresh = probe(policy)
    policy.adapter.detach()
    assert torch.equal(fresh, probe(policy))


def test_detach_leaves_no_trace_and_attach_brings_the_adapter_back():
    policy = ToyPolicy(LoraConfig(rank=4))
    modules = {name: type(m) for name, m in ToyPolicy(LoraConfig(rank=4)).model.named_modules()}
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained = probe(policy)
    with policy.reference():
        reference = probe(policy)
    policy.adapter.detach()
    plain = probe(policy)
    assert not any("lora" in name for name, _ in policy.model.named_modules())
    policy.adapter.attach()
    assert {name: type(m) for name, m in policy.model.named_modules()} == modules
    assert torch.equal(probe(policy), trained)
    assert torch.equal(reference, plain)
    assert not torch.equal(trained, plain)


def test_the_adapter_is_on_again_after_an_error_in_the_base_model():
    policy = ToyPolicy(LoraConfig(rank=4))
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained = probe(policy)
    with pytest.raises(ValueError, match="inside"), policy.reference():
        raise ValueError("inside")
    assert torch.equal(probe(policy), trained)


def test_the_exported_weights_are_the_adapter():
    policy = ToyPolicy(LoraConfig(rank=4, alpha=6))
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained, exported = probe(policy), policy.adapter.export(prefix="model.")
    policy.adapter.detach()
    with torch.no_grad():
        for name in ("attn.qkv", "attn.proj"):
            scale = exported[f"model.{name}.alpha"].item() / 4
            layer = policy.model.get_submodule(name)
            layer.weight += scale * exported[f"model.{name}.lora_B.weight"] @ exported[f"model.{name}.lora_A.weight"]
    torch.testing.assert_close(probe(policy), trained)


def test_an_earlier_state_is_exported_without_becoming_the_adapter_s():
    policy = ToyPolicy(LoraConfig(rank=4))
    earlier = {name: p.detach().clone() for name, p in policy.parameters().items()}
    fresh = policy.export()
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained = policy.export()
    exported = policy.export(earlier)
    assert all(torch.equal(exported[key], fresh[key]) for key in fresh)
    assert all(torch.equal(policy.export()[key], trained[key]) for key in trained)
    assert all(key.startswith("diffusion_model.") for key in exported)


def test_the_adapter_does_not_touch_the_global_random_state():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    before = torch.random.get_rng_state()
    LoraAdapter(model, LoraConfig(rank=2, targets="all linear"), generator=seeded(0), device=torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_base_is_frozen():
    policy = ToyPolicy(LoraConfig(rank=4))
    trainable = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert len(trainable) == len(policy.parameters())
    assert all("lora" in name for name in trainable)


def test_a_linear_that_is_no_nn_linear_gets_an_adapter():
    """The host's quantised Linear is an nn.Module of that name."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.in_features, self.out_features = 4, 6
            self.weight, self.bias = torch.nn.Parameter(torch.ones(6, 4)), None

        def forward(self, x):
            return x @ self.weight.T

    model = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"qkv": Linear()})})
    adapter = LoraAdapter(model, LoraConfig(rank=2), generator=seeded(0), device=torch.device("cpu"))
    model["attn"]["qkv"](torch.ones(1, 4)).sum().backward()
    assert adapter.parameters()["attn.qkv.lora_B.weight"].grad is not None


def attending():
    return torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"qkv": torch.nn.Linear(4, 4)})})


def test_a_layer_that_is_no_target_is_not_touched_whatever_it_is_called():
    """Names are whole, not the ends of others."""
    other = torch.nn.ModuleDict({"blocks": torch.nn.ModuleDict({"0": attending()})})  # no list: not a block
    model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([attending()]), "refiner": other})
    adapter = LoraAdapter(model, LoraConfig(rank=2), generator=seeded(0), device=torch.device("cpu"))
    assert type(model.get_submodule("refiner.blocks.0.attn.qkv")) is torch.nn.Linear
    assert list(adapter.parameters()) == [f"blocks.0.attn.qkv.lora_{matrix}.weight" for matrix in "AB"]


def test_a_rank_above_every_layer_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(8, 9), torch.nn.Linear(8, 3))
    with pytest.raises(
        ConfigError,
        match=r"^rank: 9 is above the smaller side of every layer; .* 0, from 8 to 9: .* rank 8; lower rank",
    ):
        LoraAdapter(model, LoraConfig(rank=9, targets="all linear"), generator=seeded(0), device=torch.device("cpu"))
    assert all(type(layer) is torch.nn.Linear for layer in model)


def test_a_layer_narrower_than_the_rank_has_an_adapter_of_its_own_width_and_the_same_scale():
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)), torch.randn(2, 8)
    plain = [layer.weight.detach().clone() for layer in model]
    before = torch.random.get_rng_state()
    config = LoraConfig(rank=4, alpha=6, targets="all linear")
    adapter = LoraAdapter(model, config, generator=seeded(0), device=torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert adapter.narrow == {"1": 3}
    shapes = {name: tuple(p.shape) for name, p in adapter.parameters().items() if name.startswith("1.")}
    assert shapes == {"1.lora_A.weight": (3, 8), "1.lora_B.weight": (3, 3)}
    assert adapter.parameters()["1.lora_A.weight"].std().item() == pytest.approx(1 / 3, rel=0.5)
    for p in adapter.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained, exported = model(x), adapter.export(prefix="")
    adapter.detach()
    with torch.no_grad():
        for name, layer in model.named_children():
            A, B = exported[f"{name}.lora_A.weight"], exported[f"{name}.lora_B.weight"]
            layer.weight += exported[f"{name}.alpha"] / len(A) * B @ A  # as the host's loaders do it
            change = (layer.weight - plain[int(name)]).detach()
            torch.testing.assert_close(change, 6 / 4 * B @ A)
    torch.testing.assert_close(model(x), trained)

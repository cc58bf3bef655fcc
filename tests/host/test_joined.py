"""Batches whose items have conditionings of their own: each row is what its conditioning gives by itself."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from _host.install import find_comfyui
from _tiny_architectures import ARCHITECTURES, build, known_to
from _tiny_architectures._text_encoder import make_clip

ROOT = Path(__file__).resolve().parents[2]
HOST = find_comfyui(None, ROOT) or ROOT / ".pave" / "comfyui"  # as the fixture comfyui, which skips where there is none
NAMES = known_to(HOST) if HOST.is_dir() else list(ARCHITECTURES)
COUNTED = "Mochi"
"""Its network is also told the number of tokens that are not hidden."""

PROMPTS = ("a red circle on a dark background", "a blue square on a light background", "a moon")
ORDER = (0, 1, 0, 2)
"""Which prompt each item of a batch has."""
SAME = 1e-5
"""The largest relative difference of two computations of the same thing in fp32."""


@pytest.fixture
def policy_of(modules, host, pack):
    """policy_of(MODEL, CLIP, VAE, size, ...) -> a NativePolicy with a negative prompt, not entered."""

    def made(parts, size=64, cfg=1.0, **memory):
        guidance = modules.policy.Guidance(cfg=cfg, negative_prompt="a cat")
        settings = modules.policy.PolicySettings(*parts, modules.config.LoraConfig(rank=4, alpha=8), guidance)
        memory = modules.config.MemoryConfig(**memory)
        return modules.native.NativePolicy(settings, modules.policy.Picture(size, size), memory=memory)

    return made


def randn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def look_trained(policy):
    with torch.no_grad():
        for i, p in enumerate(policy.parameters().values()):
            p.copy_(0.1 * randn(*p.shape, seed=i))


def batch(policy, n=4):
    """x (n, *S) and sigma (n,), which takes turns between two steps of the schedule."""
    sigmas = policy.sigmas(4)
    return randn(n, *policy.latent_shape), torch.tensor([sigmas[1 + i % 2] for i in range(n)])


@contextmanager
def counted(policy):
    """Inside, a list grows by the number of latents in each call of the network."""
    sizes = []
    network = policy._patcher.model.diffusion_model
    handle = network.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        yield sizes
    finally:
        handle.remove()


def rows_are_their_own(policy, conds, calls):
    """Each row of a batch in ORDER: the bits of a call in which all have its conditioning, and nearly those of a call
    of its own. calls: latents in each call of the network, at cfg 1.
    """
    x, sigma = batch(policy)
    with torch.no_grad():
        for cond in conds:
            policy.velocity(x, sigma, [cond] * len(x))  # prepared
        with counted(policy) as sizes:
            found = policy.velocity(x, sigma, [conds[i] for i in ORDER])
        assert sizes == calls
        for i, place in enumerate(ORDER):
            of_all = policy.velocity(x, sigma, [conds[place]] * len(x))[i]
            alone = policy.velocity(x[i : i + 1], sigma[i : i + 1], [conds[place]])[0]
            others = policy.velocity(x, sigma, [conds[(place + 1) % len(conds)]] * len(x))[i]
            scale = of_all.abs().max()
            if calls == [len(x)]:
                assert torch.equal(found[i], of_all)
            assert (found[i] - alone).abs().max() < SAME * scale
            assert (others - of_all).abs().max() > 100 * SAME * scale, "the prompts do nothing: this test shows nothing"


@pytest.mark.parametrize("name", NAMES)
def test_items_with_prompts_of_their_own_share_a_call(policy_of, name):
    with policy_of(build(name), ARCHITECTURES[name].size) as policy:
        look_trained(policy)
        rows_are_their_own(policy, [policy.encode(prompt) for prompt in PROMPTS], [len(ORDER)])


@pytest.mark.parametrize("name", ["SD3", "FLUX dev", "Lumina 2", "Qwen-Image", "Wan 2.1"])
def test_under_guidance_they_share_it_with_the_negative_prompt(policy_of, name):
    with policy_of(build(name), ARCHITECTURES[name].size, cfg=3.0) as policy:
        look_trained(policy)
        rows_are_their_own(policy, [policy.encode(prompt) for prompt in PROMPTS], [2 * len(ORDER)])


@pytest.mark.parametrize("name", ["LTXV", "Qwen-Image", COUNTED])
def test_each_row_has_its_own_mask(policy_of, name):
    architecture = ARCHITECTURES[name]

    def some_are_hidden(generator):
        seen = 2 + torch.randint(3, (1,), generator=generator)
        return {"attention_mask": (torch.arange(6) < seen).long()[None]}

    parts = build(name)._replace(clip=make_clip(replace(architecture.text, extra=some_are_hidden)))
    with policy_of(parts, architecture.size) as policy:
        conds = [policy.encode(prompt) for prompt in PROMPTS]
        seen = [int(conds[i].positive[0][1]["attention_mask"].sum()) for i in ORDER]
        assert len(set(seen)) > 1, "all masks are the same: this test shows nothing"
        by_number = [seen.count(number) for number in dict.fromkeys(seen)]
        rows_are_their_own(policy, conds, by_number if name == COUNTED else [len(ORDER)])


@pytest.mark.parametrize("name", ["SD3", "FLUX dev", "Qwen-Image", "Wan 2.1"])
def test_texts_of_other_lengths_are_called_for_by_themselves(policy_of, modules, name):
    """6 tokens and 12: the host would repeat the shorter text."""
    architecture = ARCHITECTURES[name]
    longer = {"attention_mask": torch.ones(1, 12, dtype=torch.long)}
    text = replace(architecture.text, length=12, extra=architecture.text.extra and (lambda _: longer))
    encode = modules.module("nodes.host.policy.conditioning").encode
    with policy_of(build(name), architecture.size) as policy:
        conds = [policy.encode(PROMPTS[0]), type(policy.encode(""))(encode(make_clip(text), PROMPTS[1], 3.5))]
        conds.append(policy.encode(PROMPTS[2]))
        rows_are_their_own(policy, conds, [3, 1])


def test_the_guidance_of_each_row_counts(policy_of, modules):
    encode = modules.module("nodes.host.policy.conditioning").encode
    parts = build("FLUX dev")
    with policy_of(parts) as policy:
        made = type(policy.encode(""))
        conds = [made(encode(parts.clip, PROMPTS[0], guidance)) for guidance in (1.0, 3.5, 20.0)]
        rows_are_their_own(policy, conds, [len(ORDER)])


def test_a_conditioning_of_a_part_of_the_image_is_called_for_by_itself(policy_of, stock):
    area = {"width": 32, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    with policy_of((stock.model, stock.clip, stock.vae)) as policy:
        conds = [policy.encode(prompt) for prompt in PROMPTS]
        (conds[0].positive,) = stock.call("ConditioningSetArea", conditioning=conds[0].positive, **area)
        rows_are_their_own(policy, conds, [2, 2])


def test_one_conditioning_for_all_is_not_joined(policy_of, modules, stock, monkeypatch):
    def fails(*_):
        raise AssertionError

    monkeypatch.setattr(modules.module("nodes.host.policy.joined"), "join", fails)
    with policy_of((stock.model, stock.clip, stock.vae)) as policy, torch.no_grad():
        cond = policy.encode(PROMPTS[0])
        x, sigma = batch(policy)
        policy.velocity(x, sigma, [cond] * len(x))
        ((rows, prepared),) = policy._joining.calls((policy._prepared[cond],) * len(x), sigma)
        assert rows == list(range(len(x)))
        assert prepared is policy._prepared[cond]


def test_no_conditioning_is_made_twice_in_a_session(policy_of, modules, stock, monkeypatch):
    joined = modules.module("nodes.host.policy.joined")
    made = []

    def recording(of, name):
        theirs = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *args: made.append(name) or theirs(*args))

    recording(joined, "join")
    recording(modules.native, "prepare")
    policy = policy_of((stock.model, stock.clip, stock.vae))
    for _ in range(2):
        with policy, torch.no_grad():
            conds = [policy.encode(prompt) for prompt in PROMPTS]
            x, sigma = batch(policy)
            for _ in range(3):
                policy.velocity(x, sigma, [conds[i] for i in ORDER])
            assert made == ["prepare"] * 3 + ["join"]
            for n in range(2, 2 + 2 * joined.KEPT):
                policy.velocity(*batch(policy, n), conds[:1] + conds[1:2] * (n - 1))
            assert len(policy._joining._kept) == joined.KEPT
        assert not policy._joining._kept
        made.clear()


@pytest.mark.parametrize("recompute_chains", [False, True])
def test_the_gradient_is_the_sum_of_the_rows(policy_of, modules, stock, recompute_chains):
    """Of items of two structures, with a third that is called for by itself."""
    area = {"width": 32, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    with policy_of((stock.model, stock.clip, stock.vae), recompute_chains=recompute_chains) as policy:
        look_trained(policy)
        conds = [policy.encode(prompt) for prompt in PROMPTS]
        (conds[2].positive,) = stock.call("ConditioningSetArea", conditioning=conds[2].positive, **area)
        x, sigma = batch(policy)
        weight = randn(*x.shape, seed=2)
        parameters = list(policy.parameters().values())

        def gradient(compute):
            return torch.autograd.grad((weight * compute()).sum(), parameters)

        together = gradient(lambda: policy.velocity(x, sigma, [conds[i] for i in ORDER]))
        rows = [(lambda i=i: policy.velocity(x[i : i + 1], sigma[i : i + 1], [conds[ORDER[i]]])) for i in range(len(x))]
        apart = gradient(lambda: torch.cat([row() for row in rows]))
    for found, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-4)

"""Pipelines of every family as policies, with the pipelines themselves as oracles: their own latents and images."""

import socket

import pytest
import torch

from _tiny_pipelines import FAMILIES, build
from pave_core.config.adapter import LoraConfig
from pave_core.config.memory import MemoryConfig
from pave_core.errors import ConfigError
from pave_core.policies.diffusers.policy import PipelineDecoder, PipelinePolicy, Sampling

STEPS = 4
PROMPTS = ("a red circle", "a blue star on a dark background")
NEGATIVE = "ugly green"
LORA = LoraConfig(rank=4, alpha=8.0)
WITHOUT_CFG = ("FLUX.2",)
"""Their pipelines have no negative prompt."""
SAME = 1e-5
"""The largest difference of latents of about 1 that are computed in another order, a step of the network apart."""
IN_DOUBLE = 2e-6
"""The same of networks in float64, where float32 is left in the sigmas and the scheduler."""
CASES = [(name, cfg) for name in FAMILIES for cfg in (1.0, 3.0) if cfg == 1 or name not in WITHOUT_CFG]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever would download something fails."""

    def refused(*args, **kwargs):
        raise AssertionError("something wants to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refused)


def policy_of(name, lora=LORA, memory=None, dtype=torch.float32, **sampling):
    sampling = {"width": 64, "height": 64, "negative_prompt": NEGATIVE} | sampling
    return PipelinePolicy(build(name, dtype), lora, Sampling(**sampling), memory=memory)


def noise(policy, n, seed=1):
    return torch.randn(n, *policy.latent_shape, generator=torch.Generator().manual_seed(seed))


def randomise(policy, scale=0.2):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in policy.parameters().values():
            p.copy_(torch.randn(p.shape, generator=generator) * scale)


@torch.no_grad()
def drawn(policy, x, prompts, steps=STEPS, starts=()):
    """The latents after each Euler step from x, and the images of the last. starts: from where each step goes instead,
    since an untrained network makes a last digit 50 times as large in four.
    """
    sigmas, conds = policy.sigmas(steps), [policy.encode(prompt) for prompt in prompts]
    states = []
    for i, (sigma, then) in enumerate(zip(sigmas, sigmas[1:])):
        x = starts[i] if starts else x
        x = x + (then - sigma) * policy.velocity(x, x.new_full((len(x),), sigma), conds)
        states.append(x)
    return states, PipelineDecoder(policy).decode(x)


def drawn_by_the_pipeline(policy, x, prompts, steps=STEPS):
    """The same by the pipeline's own call."""
    pipeline, family, states = policy._pipeline, policy._family, []

    def keep(pipeline, i, t, tensors):
        states.append(tensors["latents"].clone())
        return tensors

    guided = policy.sampling.cfg > 1
    arguments = policy._size() | dict(family.fixed)
    if family.cfg is not None:
        arguments[family.cfg] = family.scale(policy.sampling.cfg)
    if guided and "negative_prompt" in policy.recorder.arguments:
        arguments["negative_prompt"] = [NEGATIVE] * len(prompts)
    policy._to_encode()
    images = pipeline(
        prompt=list(prompts),
        latents=family.given(x, *policy._grid).clone(),
        num_inference_steps=steps,
        output_type="pt",
        callback_on_step_end=keep,
        return_dict=False,
        **arguments,
    )[0]
    return states, family.images(images).movedim(1, -1).clamp(0, 1)


@pytest.mark.parametrize(("name", "cfg"), CASES)
def test_a_rollout_is_what_the_pipeline_draws_step_by_step(name, cfg):
    policy = policy_of(name, cfg=cfg, dtype=torch.float64)
    prompts = PROMPTS[:1] * 2  # a batch of one prompt, as a group is
    with policy:
        x = noise(policy, 2).double()
        theirs, its_image = drawn_by_the_pipeline(policy, x, prompts)
        mine, image = drawn(policy, x, prompts, starts=[x, *theirs])
    worst = max(float((one - other).abs().max()) for one, other in zip(mine, theirs, strict=True))
    print(f"{name:14} cfg {cfg:.0f}: latents {tuple(policy.latent_shape)} differ by {worst:.1e} in a step of {STEPS}")
    assert worst < IN_DOUBLE
    assert float((image - its_image).abs().max()) < IN_DOUBLE
    assert image.shape == (2, 64, 64, 3)
    assert 0 <= image.min() < image.max() <= 1
    assert float((mine[-1] - x).abs().max()) > 0.1, "the network did nothing"


@pytest.mark.parametrize("name", FAMILIES)
def test_each_row_of_a_batch_is_what_its_prompt_and_sigma_give_alone(name):
    policy = policy_of(name)
    with policy, torch.no_grad():
        conds = [policy.encode(prompt) for prompt in (*PROMPTS, PROMPTS[0])]
        x, sigma = noise(policy, 3), torch.tensor(policy.sigmas(STEPS)[:3])
        whole = policy.velocity(x, sigma, conds)
        alone = [policy.velocity(x[i : i + 1], sigma[i : i + 1], conds[i : i + 1]) for i in range(3)]
        other = policy.velocity(x[:1], sigma[:1], conds[1:2])
    assert float((whole - torch.cat(alone)).abs().max()) < 10 * SAME
    assert float((other - alone[0]).abs().max()) > 1e-3, "the prompt does not matter"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_reaches_the_adapter_and_is_that_of_differences(name):
    policy = policy_of(name, cfg=1.0 if name in WITHOUT_CFG else 2.0)
    with policy:
        cond = policy.encode(PROMPTS[0])
        base = policy.fingerprint()
        check = policy.check_gradient(cond)
        policy.leave_out(check.idle)
        randomise(policy, 0.05)
        x, sigma = noise(policy, 1), torch.tensor([0.6])
        weight = noise(policy, 1, seed=2)
        (policy.velocity(x, sigma, [cond]) * weight).mean().backward()
        gradients = {key: p.grad.clone() for key, p in policy.parameters().items()}
        assert all(float(g.abs().max()) > 0 for g in gradients.values())
        generator = torch.Generator().manual_seed(5)
        along = {key: torch.randn(p.shape, generator=generator) for key, p in policy.parameters().items()}
        expected = sum(float((gradients[key] * along[key]).sum()) for key in along)

        def moved(step):
            with torch.no_grad():
                for key, p in policy.parameters().items():
                    p += step * along[key]
                return float((policy.velocity(x, sigma, [cond]) * weight).mean())

        step = 1e-3
        found = (moved(step) - moved(-2 * step)) / (2 * step)
        assert found == pytest.approx(expected, rel=0.05, abs=2e-4)
        assert policy.fingerprint() == base


@pytest.mark.parametrize("name", ["SD3", "FLUX dev", "Z-Image", "Wan"])
def test_checkpointing_changes_no_gradient(name):
    def gradients(choice):
        policy = policy_of(name, memory=MemoryConfig(checkpointing=choice))
        with policy:
            randomise(policy)
            cond = policy.encode(PROMPTS[0])
            policy.velocity(noise(policy, 2), torch.tensor([0.7, 0.7]), [cond, cond]).square().mean().backward()
            return {key: p.grad.clone() for key, p in policy.parameters().items()}

    kept, again = gradients("off"), gradients("on")
    for key, gradient in kept.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("memory", [{}, {"checkpointing": "on"}, {"offload": 0.5}])
def test_chains_are_computed_again_for_the_same_gradient(memory):
    def gradients(again):
        policy = policy_of("SD3", memory=MemoryConfig(recompute_chains=again, **memory))
        calls = []
        with policy:
            randomise(policy)
            x, conds = noise(policy, 2), [policy.encode(prompt) for prompt in PROMPTS]
            policy._network.register_forward_pre_hook(lambda *args: calls.append(args))
            for sigma in (0.7, 0.4):
                x = x - 0.3 * policy.velocity(x, torch.tensor([sigma, sigma]), conds)
            x.square().mean().backward()
            return {key: p.grad.clone() for key, p in policy.parameters().items()}, len(calls)

    kept, again = gradients(False), gradients(True)
    assert (kept[1], again[1]) == (2, 4)
    for key, gradient in kept[0].items():
        torch.testing.assert_close(again[0][key], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["SD3", "FLUX dev", "Qwen-Image"])
def test_outside_its_block_the_pipeline_draws_as_before(name):
    policy = policy_of(name)
    x = noise(policy, 1)
    before, _ = drawn_by_the_pipeline(policy, x, PROMPTS[:1])
    with policy:
        randomise(policy)
        trained, _ = drawn(policy, x, PROMPTS[:1])
        with policy.reference():
            reference, _ = drawn(policy, x, PROMPTS[:1])
    after, _ = drawn_by_the_pipeline(policy, x, PROMPTS[:1])
    assert all(map(torch.equal, before, after))
    assert float((reference[-1] - before[-1]).abs().max()) < SAME
    assert float((trained[-1] - before[-1]).abs().max()) > 1e-3
    with policy:
        again, _ = drawn(policy, x, PROMPTS[:1])
    assert all(map(torch.equal, trained, again)), "the adapter's values outlive the block"


def test_the_schedule_follows_the_resolution_as_the_pipeline_does():
    small, large = (policy_of("FLUX dev", width=side, height=side).sigmas(STEPS) for side in (64, 256))
    assert small[0] == large[0] == 1
    assert small[-1] == large[-1] == 0
    assert all(one < other for one, other in zip(small[1:-1], large[1:-1]))


def test_embedded_guidance_counts_and_its_default_is_the_pipeline_s():
    def first(guidance):
        policy = policy_of("FLUX dev", guidance=guidance)
        with policy:
            return drawn(policy, noise(policy, 1), PROMPTS[:1])[0][-1]

    assert torch.equal(first(-1.0), first(3.5))
    assert not torch.equal(first(-1.0), first(1.0))


def test_text_encoders_leave_the_device_with_the_first_velocity_and_come_back():
    policy = policy_of("SD3")
    with policy, torch.no_grad():
        cond = policy.encode(PROMPTS[0])
        assert policy._pipeline.text_encoder is not None
        policy.velocity(noise(policy, 1), torch.ones(1), [cond])
        assert policy._pipeline.text_encoder is policy._pipeline.text_encoder_3 is None
        PipelineDecoder(policy).decode(noise(policy, 1))
        again = policy.encode(PROMPTS[0])
        assert torch.equal(again.positive["encoder_hidden_states"], cond.positive["encoder_hidden_states"])
    assert policy._pipeline.text_encoder is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_with_parameters_in_fp32(dtype):
    policy = policy_of("SD3", dtype=dtype)
    assert policy.loss_scale == (1.0 if dtype == torch.bfloat16 else 1024.0)
    with policy:
        v = policy.velocity(noise(policy, 2), torch.tensor([0.7, 0.7]), [policy.encode(PROMPTS[0])] * 2)
        (v.square().mean() * policy.loss_scale).backward()
        assert v.dtype == torch.float32
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in policy.parameters().values())
        assert any(float(p.grad.abs().max()) > 0 for p in policy.parameters().values())


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"width": 56}, r"pipeline: StableDiffusion3Pipeline cannot run with width 56, height 64"),
        ({"frames": 5}, "frames: 5 is above 1, and this model draws images"),
        ({"cfg": 31.0}, "cfg: 31.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sampling, message):
    with pytest.raises(ConfigError, match=message):
        policy_of("SD3", **sampling)


def test_guidance_that_a_pipeline_does_not_have_is_refused():
    with (
        pytest.raises(ConfigError, match="draws this model without classifier-free guidance: set it to 1"),
        policy_of("FLUX.2", cfg=2.0) as policy,
    ):
        policy.encode(PROMPTS[0])


def test_a_network_that_is_told_another_time_is_refused(monkeypatch):
    policy = policy_of("SD3")
    monkeypatch.setattr(type(policy._family), "time_of", lambda self, sigma: 1000 * (1 - sigma))
    with pytest.raises(ConfigError, match="tells its network the time 1000 at sigma 1, and not 0"):
        policy.sigmas(STEPS)


def test_the_remark_names_the_solver_that_is_replaced():
    assert policy_of("SD3").remarks() == []
    pipeline = build("Wan")
    from diffusers import UniPCMultistepScheduler

    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    policy = PipelinePolicy(pipeline, LORA, Sampling(width=64, height=64))
    assert policy.remarks() == [
        "pipeline: its solver is UniPCMultistepScheduler; the policy takes Euler steps with its shift, 3"
    ]


def test_whoever_cancels_is_asked_before_each_call_of_a_network():
    class CancelledError(Exception):
        pass

    asked = []

    def check():
        asked.append(1)
        if len(asked) == 3:
            raise CancelledError

    policy = PipelinePolicy(build("SD3"), LORA, Sampling(width=64, height=64), check=check)
    with policy, torch.no_grad():
        cond = policy.encode(PROMPTS[0])
        policy.velocity(noise(policy, 1), torch.ones(1), [cond])
        with pytest.raises(CancelledError):
            policy.velocity(noise(policy, 1), torch.ones(1), [cond])


def test_a_schedule_of_one_s_own_replaces_the_pipeline_s():
    given = (1.0, 0.6, 0.2, 0.0)
    policy = PipelinePolicy(build("SD3"), LORA, Sampling(width=64, height=64), schedule=given)
    assert policy.sigmas(3) == given

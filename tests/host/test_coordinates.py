"""The host's flows in the coordinates of the core: its own sampler, and closed forms, as oracles."""

import math

import pytest
import torch

from _tiny_architectures import ARCHITECTURES, build, known_to

STEPS = 4
PROMPT = "a red circle on a dark background"


@pytest.fixture(params=["SD3", "Cosmos-Predict2", "Cosmos-Predict2 I2V", "Anima", "HiDream-O1"])
def parts(request, host, pack, comfyui):
    if request.param not in known_to(comfyui):
        pytest.skip(f"this ComfyUI has no {request.param}")
    return request.param, build(request.param)


@pytest.fixture
def policy(modules, parts):
    name, (model, clip, vae) = parts
    size = ARCHITECTURES[name].size
    settings = modules.policy.PolicySettings(model, clip, vae, None, modules.policy.Guidance(cfg=1.5))
    return modules.native.NativePolicy(settings, modules.policy.Picture(size, size))


def test_a_rollout_is_what_ksampler_makes_of_the_same_seed(policy, parts, draw, stock):
    _, (model, clip, _) = parts
    (positive,), (negative,) = (stock.call("CLIPTextEncode", text=text, clip=clip) for text in (PROMPT, ""))
    expected = stock.call(
        "KSampler",
        **{"model": model, "seed": 5, "steps": STEPS, "cfg": 1.5, "positive": positive, "negative": negative},
        **{"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        latent_image={"samples": torch.zeros(1, *policy.latent_shape)},
    )[0]["samples"]
    with policy:
        found = draw(policy, PROMPT, seed=5)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected.clone(), atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_the_schedule_falls_from_noise_to_an_image_in_the_core_s_sigmas(policy, parts, stock):
    with policy:
        sigmas = policy.sigmas(STEPS)
    (levels,) = stock.call("BasicScheduler", model=parts[1].model, scheduler="simple", steps=STEPS, denoise=1.0)
    if parts[0].startswith("Cosmos"):
        assert levels[0] > 50
        levels = levels / (1 + levels)
    assert sigmas == pytest.approx(levels.tolist(), rel=1e-6)
    assert 0.98 < sigmas[0] <= 1
    assert sigmas[-1] == 0


def test_hidream_o1_begins_with_noise_of_its_scale_and_is_decoded_at_the_data_s(policy, parts, modules, monkeypatch):
    name, (model, _, vae) = parts
    scale = 8.0 if name == "HiDream-O1" else 1.0
    there, _ = policy._coordinates.to_host(torch.ones(1, *policy.latent_shape), torch.tensor([0.5]))
    assert there.flatten()[0] == {True: 2.0}.get(name.startswith("Cosmos"), scale)
    seen = []
    decoder = modules.decoder.NativeDecoder(model, vae)
    monkeypatch.setattr(decoder, "_process_out", lambda latents: seen.append(latents) or latents)
    decoder.decode(torch.ones(1, *policy.latent_shape))
    assert (seen[0] == scale).all()


MEAN, SPREAD = 1.5, 0.6  # of the data, in the host's latents


def host_denoiser(kind, scale):
    """E[D | y] for data D ~ N(MEAN, SPREAD^2) and noise of the host, in closed form."""

    def denoised(y, level):
        keep = 1.0 if kind == "EDMRectified" else 1 - level  # y = keep D + level scale eps
        gain = keep * SPREAD**2 / (keep**2 * SPREAD**2 + (level * scale) ** 2)
        return MEAN + gain * (y - keep * MEAN)

    return denoised


@pytest.mark.parametrize(("kind", "scale"), [("Rectified", 1.0), ("Rectified", 8.0), ("EDMRectified", 1.0)])
def test_the_stochastic_step_keeps_the_marginal_of_the_host_s_flow(modules, kind, scale):
    """The SDE's samples at every noise level are distributed as data and noise of the host are."""
    made = modules.coordinates
    flow = made.Rectified(scale) if kind == "Rectified" else made.EDMRectified()
    denoised, generator = host_denoiser(kind, scale), torch.Generator().manual_seed(0)
    grid = [1 - i / 200 for i in range(160)]  # fine steps: the kernel is exact only in their limit
    x = torch.randn(20_000, 1, generator=generator)
    if kind == "EDMRectified":
        grid[0] = 0.999
    checked = 0
    for sigma, sigma_next in zip(grid, grid[1:]):
        at = torch.full((len(x),), sigma)
        y, level = flow.to_host(x, at)
        v = made.velocity(x, at, flow.data(denoised(y, level[:, None])))
        step = modules.kernels.transition(x, v, sigma=sigma, sigma_next=sigma_next, eta=0.6, sigma_ceiling=grid[1])
        x = step.mean + step.std * torch.randn(x.shape, generator=generator)
        if sigma_next < 0.9 and round(sigma_next * 200) % 40 == 0:
            y, (level, *_) = flow.to_host(x, torch.full((len(x),), sigma_next))
            keep = 1.0 if kind == "EDMRectified" else 1 - level.item()
            assert y.mean().item() == pytest.approx(keep * MEAN, abs=0.03 * max(1, y.std().item()))
            expected = math.hypot(keep * SPREAD, level.item() * scale)
            assert y.std().item() == pytest.approx(expected, rel=0.03), sigma_next
            checked += 1
    assert checked == 3


def test_data_and_latent_are_inverse(modules):
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    for flow in (modules.coordinates.Rectified(8.0), modules.coordinates.EDMRectified()):
        torch.testing.assert_close(flow.data(flow.latent(x)), x)


def test_with_noise_of_unit_scale_nothing_is_computed_that_was_not_computed_before(modules):
    """Runs of earlier versions go on bit for bit."""
    x, denoised = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1)).unbind()
    sigma = torch.tensor([0.3, 0.7])
    flow = modules.coordinates.Rectified()
    y, level = flow.to_host(x, sigma)
    assert y is x
    assert level is sigma
    v = modules.coordinates.velocity(x, sigma, flow.data(denoised))
    assert torch.equal(v, (x - denoised) / sigma[:, None])
    assert torch.equal(flow.latent(denoised), denoised)

"""Memory in the host: what stays on the device, what leaves it, and what is done where it runs out."""

import pytest
import torch


@pytest.fixture
def decoder(modules, stock):
    return modules.decoder.NativeDecoder(stock.model, stock.vae)


def latents(n):
    return torch.randn(n, 16, 8, 8, generator=torch.Generator().manual_seed(n))


def limited(monkeypatch, vae, most):
    """The VAE's network takes at most `most` latents at once, as on a card; the sizes of its calls."""
    network, sizes = vae.first_stage_model.decode, []

    def decode(z, *args, **options):
        sizes.append(len(z))
        if len(z) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return network(z, *args, **options)

    monkeypatch.setattr(vae.first_stage_model, "decode", decode)
    return sizes


def test_images_that_do_not_fit_are_halved_not_tiled(modules, decoder, stock, monkeypatch):
    z = latents(7)
    whole = torch.cat([decoder.decode(z[i : i + 1]) for i in range(7)])
    before = dict(vars(stock.vae))
    sizes = limited(monkeypatch, stock.vae, 2)
    batches = modules.batches.Batches(7)
    found = batches.map(decoder.decode, z)
    assert batches.size == 1  # 7, 3, 1
    assert max(sizes) == 7
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
    assert vars(stock.vae) == before, "something of the host's was left changed"


def test_one_image_that_does_not_fit_is_decoded_in_tiles_by_the_host(decoder, stock, monkeypatch):
    """As in the host's own node: the VAE's network takes the tiles, which are smaller, and not the latent."""
    network, shapes = stock.vae.first_stage_model.decode, []

    def decode(z, *args, **options):
        shapes.append(tuple(z.shape[-2:]))
        if len(shapes) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return network(z, *args, **options)

    monkeypatch.setattr(stock.vae.first_stage_model, "decode", decode)
    assert decoder.decode(latents(1)).shape == (1, 64, 64, 3)
    assert len(shapes) > 1


def test_another_error_of_the_vae_passes(modules, decoder, stock, monkeypatch):
    def decode(z, *args, **options):
        raise ZeroDivisionError

    before = dict(vars(stock.vae))
    monkeypatch.setattr(stock.vae.first_stage_model, "decode", decode)
    with pytest.raises(ZeroDivisionError):
        modules.batches.Batches(4).map(decoder.decode, latents(4))
    assert vars(stock.vae) == before


def test_caches_are_freed_by_the_host(pack, modules, monkeypatch):
    import comfy.model_management as management

    asked = []
    monkeypatch.setattr(management, "soft_empty_cache", lambda *_: asked.append("empty"))
    modules.train.free_caches()
    assert asked == ["empty"]


def test_a_run_frees_them_where_memory_runs_out(modules, stock, make_policy, monkeypatch):
    """Through the function that a training node calls."""
    asked = []
    monkeypatch.setattr(modules.train, "free_caches", lambda: asked.append("freed"))
    sizes = limited(monkeypatch, stock.vae, 1)
    config = modules.config.TrainConfig(
        rollout=modules.config.RolloutConfig(steps=3, branch_steps=(0,), group_size=3),
        lora=modules.config.LoraConfig(rank=2, alpha=4),
        run=modules.config.RunConfig(iterations=2),
    )
    settings = modules.settings.RunSettings(name="memory", evaluation_seeds=2, check_reward=False)
    prompts = modules.prompts.PromptSet(("a red circle on a dark background",), ())
    reward = modules.mix.RewardMix.of(modules.colour.ColourReward(1.0, 0.5, 0.0))
    task = modules.settings.Task(config, settings, prompts, reward)
    policy = modules.policy.PolicySettings(stock.model, stock.clip, stock.vae, config.lora)
    rollout = modules.policy.RolloutSettings(config.rollout, modules.policy.Picture(64, 64))
    modules.train.run_training(policy, rollout, task, None)
    assert [n for n in sizes if n > 1] == [2]  # the evaluation's two images, once
    assert asked == ["freed"]

"""The host's MODEL as a policy, with the host's own KSampler and loaders as oracles."""

import logging
import math

import pytest
import torch

from _tiny_architectures import build, known_to

PROMPT = "a red circle on a dark background"
STEPS = 4


def randomise(policy, scale=0.2):
    """A trained-looking adapter: B is no longer 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in policy.parameters().values():
            p.copy_(torch.randn(p.shape, generator=generator) * scale)


def encode(stock, text=PROMPT):
    return stock.call("CLIPTextEncode", text=text, clip=stock.clip)[0]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_rollout_is_what_ksampler_makes_of_the_same_seed(make_policy, draw, stock, cfg):
    expected = stock.sample(stock.model, encode(stock), seed=5, cfg=cfg, negative=encode(stock, ""))
    with make_policy(cfg=cfg) as policy:
        found = draw(policy)
    torch.testing.assert_close(found, expected.clone(), atol=2e-4, rtol=1e-4)


def test_the_schedule_is_the_models_own(make_policy, stock):
    (shifted,) = stock.call("ModelSamplingSD3", model=stock.model, shift=7.0)
    with make_policy(model=shifted) as policy:
        sigmas = policy.sigmas(STEPS)
    u = [1 - i / STEPS for i in range(STEPS + 1)]
    assert sigmas == pytest.approx([7 * x / (1 + 6 * x) for x in u], abs=2e-3)


def test_a_patched_model_is_trained_as_it_is_patched(make_policy, draw, stock):
    (shifted,) = stock.call("ModelSamplingSD3", model=stock.model, shift=7.0)
    expected = stock.sample(shifted, encode(stock), seed=5)
    with make_policy(model=shifted) as policy:
        torch.testing.assert_close(draw(policy), expected.clone(), atol=2e-4, rtol=1e-4)


def test_training_works_under_inference_mode_with_a_model_that_has_sampled(make_policy, train_briefly, stock):
    stock.sample(stock.model, encode(stock), seed=1)
    assert any(p.is_inference() for p in stock.model.model.diffusion_model.parameters())
    with torch.inference_mode(), make_policy() as policy:  # as nodes run, and as the run leaves it
        records = train_briefly(policy)
        moved = [
            name for name, p in policy.parameters().items() if name.endswith("lora_B.weight") and p.abs().max() > 0
        ]
    assert all(m.grad_norm > 0 for m in records)
    assert moved


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_a_quantised_base_is_trained_as_it_is(make_policy, train_briefly, modules, stock, weight_dtype):
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype=weight_dtype)
    weights = {name: p.clone() for name, p in model.model.diffusion_model.named_parameters()}
    assert any(p.dtype.itemsize == 1 for p in weights.values())
    with make_policy(model=model) as policy:
        records = train_briefly(policy)
        assert all(p.dtype == torch.float32 for p in policy.parameters().values())
    assert all(m.grad_norm > 0 and math.isfinite(m.grad_norm) for m in records)
    after = dict(model.model.diffusion_model.named_parameters())
    assert all(torch.equal(p.view(torch.uint8), after[name].view(torch.uint8)) for name, p in weights.items())


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "with a LoRA"])
def test_the_model_generates_the_same_bits_after_training(make_policy, train_briefly, stock, patched):
    model = lora_patched(make_policy, stock) if patched else stock.model
    positive = encode(stock)
    before = stock.sample(model, positive, seed=5)
    names = [name for name, _ in model.model.named_modules()]
    with make_policy(model=model) as policy:
        train_briefly(policy)
    assert torch.equal(stock.sample(model, positive, seed=5), before)
    assert [name for name, _ in model.model.named_modules()] == names


def lora_patched(make_policy, stock):
    """MODEL with another LoRA on it, by the host's own patching."""
    with make_policy(rank=2) as policy:
        randomise(policy)
        weights = policy.export()
    return stock.call("LoraModelLoader", model=stock.model, lora=weights, strength_model=1.0)[0]


def test_another_lora_on_the_model_counts_in_the_policy(make_policy, draw, stock):
    patched = lora_patched(make_policy, stock)
    expected = stock.sample(patched, encode(stock), seed=5)
    assert not torch.allclose(expected, stock.sample(stock.model, encode(stock), seed=5), atol=1e-2)
    with make_policy(model=patched) as policy:
        torch.testing.assert_close(draw(policy), expected.clone(), atol=2e-4, rtol=1e-4)


def test_policy_lora_model_saved_file_and_stock_loaders_agree(make_policy, draw, host, stock, pack, caplog):
    """The adapter in the policy, LORA_MODEL in LoraModelLoader, SaveLoRA's file and Pave Save LoRA's file in the
    stock LoraLoader.
    """
    with make_policy() as policy:
        plain = draw(policy)
        randomise(policy)
        trained = draw(policy)
        weights = policy.export()
    positive = encode(stock)
    with caplog.at_level(logging.WARNING):
        by_type = stock.call("LoraModelLoader", model=stock.model, lora=weights, strength_model=1.0)[0]
        with torch.inference_mode():
            host.nodes.NODE_CLASS_MAPPINGS["SaveLoRA"].execute(weights, "loras/by_host")
            path = host.nodes.NODE_CLASS_MAPPINGS["PaveSaveLoRA"].execute(weights, "ours").result[0]
        host.folder_paths.filename_list_cache.clear()
        listed = host.folder_paths.get_filename_list("loras")
        theirs = next(name for name in listed if name.startswith("by_host"))
        assert "ours.safetensors" in listed
        assert path == str(host.base / "output" / "loras" / "ours.safetensors")
        models = [
            by_type,
            *(
                stock.call("LoraLoaderModelOnly", model=stock.model, lora_name=name, strength_model=1.0)[0]
                for name in (theirs, "ours.safetensors")
            ),
        ]
        images = [stock.sample(model, positive, seed=5) for model in models]
    assert "not loaded" not in caplog.text
    for image in images:
        torch.testing.assert_close(image.clone(), trained, atol=2e-3, rtol=2e-3)
    assert (trained - plain).abs().max() > 0.1


def test_the_model_may_be_evicted_and_comes_back_with_its_adapter(make_policy, train_briefly, draw, stock):
    import comfy.model_management

    patched = lora_patched(make_policy, stock)
    with make_policy(model=patched) as policy:
        randomise(policy)
        expected = draw(policy)
        with torch.inference_mode():
            comfy.model_management.unload_all_models()
        assert not policy._patcher.is_injected
        assert torch.equal(draw(policy), expected)
        train_briefly(policy, iterations=1)


def test_the_reference_is_the_base_model(make_policy, draw, stock):
    with make_policy() as policy:
        plain = draw(policy)
        randomise(policy)
        with policy.reference():
            assert torch.equal(draw(policy), plain)
        assert not torch.equal(draw(policy), plain)


def test_the_fingerprint_knows_models_apart_and_not_runs(make_policy, stock):
    prints = []
    for model in (stock.model, stock.model, lora_patched(make_policy, stock)):
        with make_policy(model=model) as policy:
            randomise(policy)
            prints.append(policy.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_cancel_stops_at_the_next_network_call(make_policy, stock):
    import comfy.model_management

    with make_policy() as policy:
        cond = policy.encode(PROMPT)
        comfy.model_management.interrupt_current_processing()
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            policy.velocity(torch.zeros(1, *policy.latent_shape), torch.ones(1), [cond])


def test_a_model_that_is_no_flow_is_refused(make_policy, stock):
    (eps,) = stock.call("ModelSamplingDiscrete", model=stock.model, sampling="eps", zsnr=False)
    with pytest.raises(ValueError, match=r"^model: .* is not a flow model: .*SD3"):
        make_policy(model=eps)


def test_a_vae_of_another_latent_space_is_refused(make_policy, host):
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD

    other = VAE(sd=TAESD(latent_channels=4).state_dict())
    with pytest.raises(ValueError, match="^vae: it has 4 latent channels, the model has 16"):
        make_policy(vae=other)


def test_a_size_the_vae_can_not_make_is_refused(make_policy):
    with pytest.raises(ValueError, match="^width: 60 is not a multiple of 8"):
        make_policy(width=60)


def test_targets_that_match_nothing_leave_the_model_alone(make_policy, stock, modules, monkeypatch):
    names = [name for name, _ in stock.model.model.named_modules()]
    policy = make_policy()

    def fails(*_, **__):
        raise modules.errors.ConfigError("targets: none")

    monkeypatch.setattr(modules.native, "LoraAdapter", fails)
    with pytest.raises(modules.errors.ConfigError), policy:
        pass
    assert [name for name, _ in stock.model.model.named_modules()] == names
    assert not policy._patcher.is_injected


def moved_outside_inference_mode(model):
    """What Module.to() on a GPU leaves: .data set outside inference mode, so that is_inference() is False and there is
    still no version counter.
    """
    for p in model.model.diffusion_model.parameters():
        p.data = p.data.clone()
        assert not p.is_inference()
        with pytest.raises(RuntimeError, match="version counter"):
            p._version  # noqa: B018


@pytest.mark.parametrize("moved", [False, True], ids=["as loaded", "moved as to a card"])
def test_weights_made_in_inference_mode_are_trained_whatever_their_flag_says(
    make_policy, train_briefly, modules, stock, moved
):
    (expected,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    if moved:
        moved_outside_inference_mode(model)
    adapters, prints = [], []
    for each in (expected, model):
        with make_policy(model=each) as policy:
            prints.append(policy.fingerprint())
            train_briefly(policy)
            adapters.append({name: p.detach().clone() for name, p in policy.parameters().items()})
    assert prints[0] == prints[1]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    assert any(p.abs().max() > 0 for name, p in adapters[0].items() if "lora_B" in name)


def test_the_hosts_parameters_are_the_same_objects_afterwards(make_policy, train_briefly, modules, stock):
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    network = model.model.diffusion_model
    for p in network.parameters():
        p._model_dtype = torch.float16  # as newer hosts hang on them
    before = {
        name: (tensor, tensor.data_ptr()) for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }
    with make_policy(model=model) as policy:
        train_briefly(policy, iterations=1)
        assert all(p._model_dtype == torch.float16 for name, p in network.named_parameters() if "lora_" not in name)
    after = dict([*network.named_parameters(), *network.named_buffers()])
    assert after.keys() == before.keys()
    for name, (tensor, address) in before.items():
        assert after[name] is tensor, name
        assert after[name].data_ptr() == address, f"{name} was copied"


def test_nothing_of_the_adapter_stays_in_what_a_network_keeps_from_call_to_call(modules, host, pack, comfyui):
    """HiDream-O1 keeps the keys and values of a prompt."""
    if "HiDream-O1" not in known_to(comfyui):
        pytest.skip("this ComfyUI has no HiDream-O1")
    model, clip, vae = build("HiDream-O1")
    settings = modules.policy.PolicySettings(model, clip, vae, modules.config.LoraConfig(rank=4, alpha=8))
    with modules.native.NativePolicy(settings, modules.policy.Picture(64, 64)) as policy, torch.no_grad():
        sigma, cond = torch.tensor([policy.sigmas(STEPS)[1]]), policy.encode(PROMPT)
        x = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
        plain = policy.velocity(x, sigma, [cond])
        randomise(policy)
        trained = policy.velocity(x, sigma, [cond])
        with policy.reference():
            assert torch.equal(policy.velocity(x, sigma, [cond]), plain)
        model.model.diffusion_model.clear_kv_cache()
        assert torch.equal(policy.velocity(x, sigma, [cond]), trained)
        assert not torch.allclose(trained, plain, atol=1e-2)
        assert model.model.diffusion_model._kv_cache_entries, "it keeps nothing: this test shows nothing"
    assert not model.model.diffusion_model._kv_cache_entries

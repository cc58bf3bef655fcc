"""Memory in the host: what stays on the device, what leaves it, and what is done where it runs out."""

import gc
import weakref

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


PROMPT = "a red circle on a dark background"


def loads(monkeypatch, after=lambda: None):
    """The memory_required of each call of the host's load_models_gpu from here on, after which `after` is called."""
    import comfy.model_management as management

    load, asked = management.load_models_gpu, []

    def loaded(models, memory_required=0, **options):
        result = load(models, memory_required=memory_required, **options)
        asked.append(memory_required)
        after()
        return result

    monkeypatch.setattr(management, "load_models_gpu", loaded)
    return asked


def on_the_device():
    """The classes of the models that the host has loaded."""
    import comfy.model_management as management

    return sorted(type(each.model.model).__name__ for each in management.current_loaded_models)


def gradient(policy, cond):
    x = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    v = policy.velocity(x, torch.tensor([0.8]), [cond])
    return torch.autograd.grad(v.square().mean(), list(policy.parameters().values()), allow_unused=True)


def randomise(policy):
    with torch.no_grad():
        for p in policy.parameters().values():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3)) * 0.2)


def test_pages_that_come_and_go_are_no_reason_to_load_again(make_policy, train_briefly, monkeypatch):
    """loaded_size() of a dynamically loaded model falls as its pages are evicted."""
    with make_policy() as policy:
        whole = policy._patcher.loaded_size()
        sizes = iter(range(whole - 1, 0, -1000))
        monkeypatch.setattr(policy._patcher, "loaded_size", lambda: next(sizes))
        asked = loads(monkeypatch)
        cond = policy.encode(PROMPT)
        asked.clear()
        for _ in range(3):
            gradient(policy, cond)
        assert asked == []


def test_a_partly_loaded_model_trains_as_a_whole_one_without_loading_again(make_policy, monkeypatch):
    """A device that holds half of the model, whenever it is loaded."""
    with make_policy() as whole:
        randomise(whole)
        expected = gradient(whole, whole.encode(PROMPT))
    policy = make_policy()
    patcher = policy._patcher
    half = patcher.model_size() // 2

    def give_up_half():
        if patcher.model.model_loaded_weight_memory > half and patcher.model.current_weight_patches_uuid is not None:
            patcher.partially_unload(patcher.offload_device, half)

    asked = loads(monkeypatch, give_up_half)
    with policy:
        randomise(policy)
        cond = policy.encode(PROMPT)
        assert patcher.model.model_lowvram
        assert 0 < patcher.loaded_size() < 0.6 * patcher.model_size()
        first = gradient(policy, cond)
        asked.clear()
        for _ in range(3):
            found = gradient(policy, cond)
        assert asked == []
        assert all(torch.equal(a, b) for a, b in zip(first, found, strict=True))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)


def test_what_the_host_has_taken_off_the_device_is_loaded_again(make_policy, monkeypatch):
    """In part, as for a VAE that decodes, and whole."""
    with make_policy() as policy:
        patcher, cond = policy._patcher, policy.encode(PROMPT)
        expected = gradient(policy, cond)
        asked = loads(monkeypatch)
        with torch.inference_mode():
            patcher.partially_unload(patcher.offload_device, patcher.model_size() // 2)
        assert patcher.loaded_size() < patcher.model_size()
        found = gradient(policy, cond)
        assert len(asked) == 1
        assert patcher.loaded_size() == patcher.model_size()
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_another_clone_of_the_model_does_not_stay_in_its_place(modules, stock, make_policy, draw):
    """A KSampler between two calls of a policy without an adapter loads its own clone, with patches, over ours."""
    with make_policy() as trained:
        randomise(trained)
        weights = trained.export()
    (patched,) = stock.call("LoraModelLoader", model=stock.model, lora=weights, strength_model=1.0)
    (positive,) = stock.call("CLIPTextEncode", text=PROMPT, clip=stock.clip)
    settings = modules.policy.PolicySettings(stock.model, stock.clip, stock.vae, None)
    with modules.native.NativePolicy(settings, modules.policy.Picture(64, 64)) as policy:
        before = draw(policy)
        other = stock.sample(patched, positive, seed=5)
        assert not torch.allclose(other.clone(), before, atol=1e-2)
        assert torch.equal(draw(policy), before)


def test_others_leave_the_device_while_gradients_are_taken(make_policy, decoder, stock):
    import comfy.model_management as management

    management.unload_all_models()
    model, vae, clip = (
        type(each).__name__ for each in (stock.model.model, stock.vae.patcher.model, stock.clip.patcher.model)
    )
    with make_policy() as policy:
        cond = policy.encode(PROMPT)
        with torch.no_grad():
            x = policy.velocity(torch.zeros(1, *policy.latent_shape), torch.tensor([0.8]), [cond])
        images = decoder.decode(x)
        assert on_the_device() == sorted([model, vae, clip])
        gradient(policy, cond)
        assert on_the_device() == [model]
        assert torch.equal(decoder.decode(x), images)
        assert on_the_device() == sorted([model, vae])
        with torch.no_grad():
            policy.velocity(torch.zeros(1, *policy.latent_shape), torch.tensor([0.8]), [cond])
        assert on_the_device() == sorted([model, vae]), "without gradient, the host decides"
        gradient(policy, cond)
        assert on_the_device() == sorted([model, vae]), "what comes back in each step stays where there is room"
        policy._on_device.room = 1e18
        gradient(policy, cond)
        assert on_the_device() == [model]


def test_models_that_hang_on_the_model_stay_with_it(make_policy, stock):
    import comfy.model_management as management

    management.unload_all_models()
    model = stock.model.clone()
    model.set_additional_models("beside", [stock.vae.patcher])
    with make_policy(model=model) as policy:
        gradient(policy, policy.encode(PROMPT))
        assert len(on_the_device()) == 2


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_offload_asks_the_host_for_so_much_room_that_the_share_does_not_fit(modules, stock, monkeypatch, share):
    """What the host loads is what is free less the room and what it reserves."""
    import comfy.model_management as management

    free = 24 * 2**30
    monkeypatch.setattr(management, "get_free_memory", lambda *_, **__: free)
    place = modules.on_device.OnDevice(stock.model.clone(), offload=share, room=2**20)
    asked = loads(monkeypatch)
    place.load()
    loaded = free - asked[-1] - management.extra_reserved_memory()
    assert loaded == pytest.approx((1 - share) * stock.model.model_size())
    assert place.holds()


def test_without_offload_the_host_is_asked_for_the_run_s_room(modules, stock, monkeypatch):
    place = modules.on_device.OnDevice(stock.model.clone(), offload=0.0, room=3 * 2**30)
    asked = loads(monkeypatch)
    place.load()
    assert asked == [3 * 2**30]


def test_a_model_that_nobody_holds_any_more_is_not_in_the_way(modules, stock):
    """The host forgets it with its next load, and until then lists it without its model."""
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher

    device = stock.model.load_device
    gone = ModelPatcher(torch.nn.Linear(1, 1), device, device)
    entry = management.LoadedModel(gone)
    entry.real_model = weakref.ref(gone.model)  # as once it is loaded
    management.current_loaded_models.append(entry)
    try:
        del gone
        gc.collect()
        assert entry.model is None
        place = modules.on_device.OnDevice(stock.model.clone(), offload=0.0, room=0.0)
        place.load()
        management.current_loaded_models.append(entry)
        place.clear()
        management.current_loaded_models.append(entry)
        assert modules.preflight.budget_of(stock.model) > 0
    finally:
        management.current_loaded_models[:] = [each for each in management.current_loaded_models if each is not entry]

"""What hangs on MODEL and CLIP counts in the policy as in the stock KSampler: hook LoRAs, their keyframes, schedules,
patches and wrappers.
"""

import inspect

import pytest
import torch
from safetensors.torch import save_file

from _gradients import check_gradient

PROMPT = "a red circle on a dark background"
STEPS = 4


def layers(stock) -> dict[str, torch.nn.Linear]:
    network = stock.model.model.diffusion_model
    return {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}


def lora_on(stock, host, name: str, kinds: tuple[str, ...]) -> str:
    """A LoRA file, on the layers whose names have one of `kinds` in them; its name in the host's list."""
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for path, layer in layers(stock).items():
        if any(kind in path for kind in kinds):
            for key, shape in (("lora_A", (2, layer.in_features)), ("lora_B", (layer.out_features, 2))):
                weights[f"diffusion_model.{path}.{key}.weight"] = torch.randn(shape, generator=generator) * 0.3
    assert weights
    folder = host.base / "output" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{name}.safetensors")
    host.folder_paths.filename_list_cache.clear()
    return f"{name}.safetensors"


@pytest.fixture
def hooked(host, stock):
    """hooked(kinds, keyframes=((strength, start), ...), schedule) -> CLIP with a hook LoRA on it."""

    def made(kinds, keyframes=(), schedule=False):
        file = lora_on(stock, host, f"hook_{'_'.join(kinds)}", kinds)
        (hooks,) = stock.call("CreateHookLora", lora_name=file, strength_model=1.0, strength_clip=0.0)
        frames = None
        for strength, start in keyframes:
            (frames,) = stock.call(
                "CreateHookKeyframe", strength_mult=strength, start_percent=start, prev_hook_kf=frames
            )
        if frames is not None:
            (hooks,) = stock.call("SetHookKeyframes", hooks=hooks, hook_kf=frames)
        return stock.call("SetClipHooks", clip=stock.clip, apply_to_conds=True, schedule_clip=schedule, hooks=hooks)[0]

    return made


def sampled(stock, clip=None, model=None, cfg=1.0, seed=5):
    positive, negative = (stock.call("CLIPTextEncode", text=text, clip=clip or stock.clip)[0] for text in (PROMPT, ""))
    return stock.sample(model or stock.model, positive, seed=seed, cfg=cfg, negative=negative, steps=STEPS).clone()


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def apart(a, b):
    assert (a - b).abs().max() > 1e-2, "the hook does nothing: the test would prove nothing"


@pytest.mark.parametrize("targets", ["attention", "attention + MLP", "all linear"])
@pytest.mark.parametrize("kinds", [("attn.qkv",), ("mlp", "adaLN"), ("",)], ids=["attention", "mlp", "all"])
def test_a_hook_lora_counts_whatever_layers_get_an_adapter(make_policy, draw, hooked, stock, kinds, targets):
    clip = hooked(kinds)
    expected = sampled(stock, clip)
    apart(expected, sampled(stock))
    with make_policy(clip=clip, targets=targets) as policy:
        close(draw(policy), expected)
        close(draw(policy), expected)
    close(sampled(stock), sampled(stock))
    with make_policy(targets=targets) as policy:
        close(draw(policy), sampled(stock))


@pytest.mark.parametrize("schedule", [False, True], ids=["clip once", "clip scheduled"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_keyframes_of_a_hook_count(make_policy, draw, hooked, stock, cfg, schedule):
    clip = hooked(("attn", "mlp"), keyframes=((1.0, 0.0), (0.2, 0.3), (-0.5, 0.8)), schedule=schedule)
    expected = sampled(stock, clip, cfg=cfg)
    apart(expected, sampled(stock, hooked(("attn", "mlp")), cfg=cfg))
    with make_policy(clip=clip, cfg=cfg) as policy:
        close(draw(policy), expected)
        close(draw(policy), expected)  # the keyframes are where they were: at the beginning


def test_a_velocity_under_keyframes_depends_on_nothing_but_its_sigma(make_policy, hooked, stock):
    clip = hooked(("attn", "mlp"), keyframes=((1.0, 0.0), (-0.5, 0.6)))
    with make_policy(clip=clip) as policy, torch.no_grad():
        sigmas = policy.sigmas(STEPS)[:-1]
        cond = policy.encode(PROMPT)
        x = torch.randn(len(sigmas), *policy.latent_shape, generator=torch.Generator().manual_seed(1))

        def one(i):
            return policy.velocity(x[i : i + 1], torch.tensor([sigmas[i]]), [cond])

        down = [one(i) for i in range(len(sigmas))]
        up = [one(i) for i in reversed(range(len(sigmas)))][::-1]
        together = policy.velocity(x, torch.tensor(sigmas), [cond] * len(x))
    for i, velocity in enumerate(down):
        close(up[i], velocity)
        close(together[i : i + 1], velocity)


def test_items_of_one_prompt_at_one_sigma_share_a_call_under_keyframes(make_policy, hooked):
    clip = hooked(("attn", "mlp"), keyframes=((1.0, 0.0), (-0.5, 0.6)))
    with make_policy(clip=clip) as policy, torch.no_grad():
        high, low = policy.sigmas(STEPS)[0], policy.sigmas(STEPS)[-2]
        one, other = policy.encode(PROMPT), policy.encode("a blue square")
        items = [(one, high), (other, low), (one, high), (one, low), (other, low)]
        x = torch.randn(len(items), *policy.latent_shape, generator=torch.Generator().manual_seed(1))
        alone = [policy.velocity(x[i : i + 1], torch.tensor([s]), [cond]) for i, (cond, s) in enumerate(items)]
        sizes = []
        network = policy._patcher.model.diffusion_model
        handle = network.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        together = policy.velocity(x, torch.tensor([s for _, s in items]), [cond for cond, _ in items])
        handle.remove()
    assert sizes == [2, 2, 1]
    close(together, torch.cat(alone))


def test_the_gradient_through_two_keyframes_is_that_of_finite_differences(make_policy, hooked):
    clip = hooked(("attn", "mlp"), keyframes=((1.0, 0.0), (-0.5, 0.6)))
    with make_policy(clip=clip) as policy:
        sigmas = policy.sigmas(STEPS)
        cond = policy.encode(PROMPT)
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(1, *policy.latent_shape, generator=generator)
        weight = torch.randn(1, *policy.latent_shape, generator=generator)
        parameters = list(policy.parameters().values())
        with torch.no_grad():
            for p in parameters:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)

        def value():
            y = x + (sigmas[3] - sigmas[0]) * policy.velocity(x, torch.tensor([sigmas[0]]), [cond])
            return (weight * policy.velocity(y, torch.tensor([sigmas[3]]), [cond])).mean()

        check_gradient(value, parameters)


def test_conditioning_that_is_scheduled_counts_in_a_batch_of_several_sigmas(make_policy, draw, hooked, stock):
    """SetClipHooks with schedule_clip makes one conditioning for each range of time steps."""
    clip = hooked(("attn",), keyframes=((0.0, 0.0), (1.0, 0.5)), schedule=True)
    expected = sampled(stock, clip)
    with make_policy(clip=clip) as policy:
        close(draw(policy), expected)


def patched(stock, change):
    model = stock.model.clone()
    return change(model) or model


def strength_by_time(model):
    """A patch as packs write it: it reads the schedule and the time step of the batch's first row."""

    def scale(args):
        options = args["model_options"]["transformer_options"]
        place = (options["sample_sigmas"] > args["sigma"][0]).sum().item()
        return args["denoised"] * (1 + 0.1 * place)

    model.set_model_sampler_post_cfg_function(scale)


def prediction_wrapper(model):
    from comfy.patcher_extension import WrappersMP

    def halve(execute, x, timestep, model_options, seed):
        return 0.5 * execute(x, timestep, model_options, seed)

    model.add_wrapper(WrappersMP.PREDICT_NOISE, halve)


def network_wrapper(model):
    from comfy.patcher_extension import WrappersMP

    def shifted(execute, *args, **kwargs):
        return execute(*args, **kwargs) + 0.05

    model.add_wrapper(WrappersMP.APPLY_MODEL, shifted)


def attention_patch(model):
    model.set_model_attn1_patch(lambda q, k, v, extra_options=None, **_: (q, k, v))
    model.set_model_unet_function_wrapper(lambda apply, args: 0.9 * apply(args["input"], args["timestep"], **args["c"]))


def step_by_equality(model):
    """As packs find their step: the place in the schedule of exactly this noise level."""

    def scale(args):
        (place,) = (args["model_options"]["transformer_options"]["sample_sigmas"] == args["sigma"][0]).nonzero()[0]
        return args["denoised"] * (1 + 0.1 * place.item())

    model.set_model_sampler_post_cfg_function(scale)


def context_windows(model):
    """The host's: four rows of the latent at a time, at other places in each step."""
    from comfy.context_windows import ContextSchedules
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    newer = (
        {"freenoise": False} if "freenoise" in inspect.signature(ContextWindowsManualNode.execute).parameters else {}
    )
    inputs = {"context_length": 4, "context_overlap": 2, "context_stride": 1, "closed_loop": False, "dim": 2} | newer
    schedule = ContextSchedules.UNIFORM_STANDARD
    made = ContextWindowsManualNode.execute(model, context_schedule=schedule, fuse_method="pyramid", **inputs)
    return made.result[0]


@pytest.mark.parametrize("change", [strength_by_time, step_by_equality, context_windows], ids=lambda f: f.__name__)
def test_a_patch_finds_its_step_also_between_the_levels_of_the_schedule_and_in_a_batch(make_policy, stock, change):
    """The finer steps of the loss: what acts by the step is in the step that they lie in."""
    with make_policy(model=patched(stock, change)) as policy, torch.no_grad():
        levels = policy.sigmas(STEPS)
        conds = [policy.encode(PROMPT), policy.encode("a blue star")] * 2
        x = torch.randn(4, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
        between = 0.5 * (levels[1] + levels[2])
        sigma = torch.tensor([levels[1], between, levels[2], between])
        together = policy.velocity(x, sigma, conds)
        alone = [policy.velocity(x[i, None], sigma[i, None], [cond]) for i, cond in enumerate(conds)]
        close(together, torch.cat(alone))


@pytest.mark.parametrize("change", [strength_by_time, step_by_equality, context_windows], ids=lambda f: f.__name__)
def test_it_trains_with_a_patch_that_looks_for_its_step(make_policy, train_briefly, stock, change):
    with make_policy(model=patched(stock, change)) as policy:
        assert not any(metrics.skipped for metrics in train_briefly(policy))


@pytest.mark.parametrize(
    "change",
    [strength_by_time, step_by_equality, context_windows, prediction_wrapper, network_wrapper, attention_patch],
    ids=lambda change: change.__name__,
)
def test_patches_and_wrappers_on_the_model_count(make_policy, draw, stock, change):
    model = patched(stock, change)
    expected = sampled(stock, model=model)
    apart(expected, sampled(stock))
    with make_policy(model=model) as policy:
        close(draw(policy), expected)


def test_a_run_with_a_hook_trains_and_leaves_model_and_clip_as_they_were(make_policy, train_briefly, hooked, stock):
    clip = hooked(("attn", "mlp"), keyframes=((1.0, 0.0), (0.3, 0.5)))
    before = sampled(stock, clip), sampled(stock)
    with torch.inference_mode(), make_policy(clip=clip) as policy:  # as nodes run
        records = train_briefly(policy, branch_steps=(0, 2))
    assert all(record.grad_norm > 0 for record in records)
    assert torch.equal(sampled(stock, clip), before[0])
    assert torch.equal(sampled(stock), before[1])


def test_models_that_hang_on_the_model_are_loaded_with_it(make_policy, modules, stock):
    import comfy.model_management

    (other,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    model = stock.model.clone()
    model.set_additional_models("test", [other])
    comfy.model_management.unload_all_models()
    with make_policy(model):
        assert any(loaded.model is other.model for loaded in comfy.model_management.loaded_models())

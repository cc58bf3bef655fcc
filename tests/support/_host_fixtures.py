"""The real ComfyUI in the test's own process, on the CPU unless there is CUDA, with its folders in a temporary one."""

import asyncio
import importlib
import sys
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result, from a thread of its own: in this one Playwright's event loop may be running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def host(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The host's modules: .nodes, .folder_paths, .execution, .comfy; and .base, the folder that holds its models, input
    and output.
    """
    # Before the first import of folder_paths, which computes its paths then. The host parses argv only when it is the
    # main program.
    sys.path.insert(0, str(comfyui))
    base = tmp_path_factory.mktemp("host")
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = not torch.cuda.is_available()
    args.base_directory = str(base)
    folder_paths = importlib.import_module("folder_paths")
    for folder in (
        "input",
        "output",
        "temp",
        "user",
        *(f"models/{name}" for name in ("loras", "vae", "diffusion_models", "text_encoders")),
    ):
        (base / folder).mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path("loras", str(base / "output" / "loras"))
    importlib.import_module("utils.install_util")  # before nodes, which puts comfy/ with its utils.py on sys.path
    nodes = importlib.import_module("nodes")
    server = importlib.import_module("server").PromptServer(
        asyncio.new_event_loop()
    )  # packs register their routes on it
    run(nodes.init_builtin_extra_nodes())
    torch.set_num_threads(1)  # two threads that wait for each other crawl when another program has a core
    return SimpleNamespace(
        base=base,
        folder_paths=folder_paths,
        nodes=nodes,
        server=server,
        execution=importlib.import_module("execution"),
        comfy=importlib.import_module("comfy.sd"),
    )


@pytest.fixture(scope="session")
def pack(host: SimpleNamespace, root: Path) -> ModuleType:
    """The pack, loaded by the host's own loader; its nodes are in host.nodes.NODE_CLASS_MAPPINGS."""
    assert run(host.nodes.load_custom_node(str(root))), "the host could not load the pack: see the log above"
    return sys.modules[str(root).replace(".", "_x_")]


@pytest.fixture(scope="session")
def modules(pack: ModuleType) -> SimpleNamespace:
    """The pack's own modules, as the host loaded them; .module("pave_core.flow.paving") gives any other."""
    prefix = pack.__name__

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"{prefix}.{name}")

    config = SimpleNamespace()  # the settings of all parts
    for part in ("rollout", "objective", "adapter", "optimizer", "memory", "train"):
        vars(config).update(vars(module(f"pave_core.config.{part}")))
    places = {
        "errors": "pave_core.errors",
        "batches": "pave_core.batches",
        "memory": "pave_core.config.memory",
        "targets": "pave_core.policies.targets",
        "solvers": "pave_core.flow.solvers",
        "loop": "pave_core.training.loop",
        "state": "pave_core.training.state",
        "guard": "pave_core.evaluation.guard",
        "prompts": "pave_core.rollout.prompts",
        "checkpoint": "pave_core.runs.checkpoint",
        "settings": "pave_core.runs.settings",
        "mix": "pave_core.scoring.mix",
        "colour": "pave_core.rewards.colour",
        "clip_score": "pave_core.rewards.clip_score",
        "statistics": "pave_core.rewards.statistics",
        "native": "nodes.host.policy.native",
        "shelf": "nodes.host.policy.shelf",
        "decoder": "nodes.host.policy.decoder",
        "measure": "nodes.host.policy.measure",
        "on_device": "nodes.host.policy.on_device",
        "coordinates": "nodes.host.policy.coordinates",
        "attached": "nodes.host.policy.attached",
        "kernels": "pave_core.flow.kernels",
        "policy": "nodes.host.policy.settings",
        "autograd": "nodes.host.policy.autograd.network",
        "writes": "nodes.host.policy.autograd.writes",
        "recompute": "nodes.host.policy.autograd.recompute",
        "layers": "nodes.host.policy.autograd.layers",
        "blocks": "nodes.host.policy.autograd.blocks",
        "placement": "nodes.host.placement",
        "needs": "pave_core.memory.needs",
        "preflight": "nodes.host.preflight",
        "progress": "nodes.host.panel.progress",
        "result": "nodes.host.result",
        "train": "nodes.host.train",
        "folders": "nodes.host.folders",
        "tiny": "nodes.host.tiny",
    }
    return SimpleNamespace(config=config, module=module, **{name: module(place) for name, place in places.items()})


@pytest.fixture
def executor(host: SimpleNamespace, pack: ModuleType) -> Callable[[dict[str, Any], list[str]], Any]:
    """executor(graph, [node ids]) runs a graph in a real executor with the plain cache, on one thread; the executor."""

    def run_graph(graph: dict[str, Any], outputs: list[str]) -> Any:
        cache = {"lru": 0, "ram": 16.0, "ram_inactive": 16.0}  # the last for newer hosts
        made = host.execution.PromptExecutor(host.server, cache_type=host.execution.CacheType.CLASSIC, cache_args=cache)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(made.execute, graph, uuid.uuid4().hex, {}, outputs).result()
        assert made.success, made.status_messages[-1]
        return made

    return run_graph


@pytest.fixture
def execute(executor: Callable[[dict[str, Any], list[str]], Any]) -> Callable[..., dict[str, Any]]:
    """execute(graph, [node ids]) -> {node id: what it shows}."""
    return lambda graph, outputs: executor(graph, outputs).history_result["outputs"]


@pytest.fixture
def stock(host: SimpleNamespace, modules: SimpleNamespace) -> SimpleNamespace:
    """As load_stock()."""
    return load_stock(host, modules)


def load_stock(host: SimpleNamespace, modules: SimpleNamespace) -> SimpleNamespace:
    """Stock nodes by plain calls, under inference_mode as the host runs them.

    MODEL and VAE of the tiny model are from the stock loaders.
    """
    tiny = modules.tiny
    for folder, file in (("diffusion_models", tiny.DIFFUSION_MODEL), ("vae", tiny.VAE)):
        link = host.base / "models" / folder / file.name
        if not link.exists():
            link.write_bytes(file.read_bytes())
    classes = host.nodes.NODE_CLASS_MAPPINGS

    def call(name: str, **inputs):
        """The outputs of a node; V1 and V3 alike."""
        node = classes[name]
        with torch.inference_mode():
            result = getattr(node(), node.FUNCTION)(**inputs)
        return getattr(result, "result", result)

    def sample(
        model, positive, *, seed: int, cfg: float = 1.0, negative=None, steps: int = 4, shape=(16, 8, 8)
    ) -> torch.Tensor:
        """KSampler (euler, simple) from an empty latent, by default that of a 64x64 image: the latent."""
        empty = {"samples": torch.zeros(1, *shape)}
        inputs = {"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, "latent_image": empty}
        return call(
            "KSampler",
            model=model,
            seed=seed,
            steps=steps,
            cfg=cfg,
            positive=positive,
            negative=negative or positive,
            **inputs,
        )[0]["samples"]

    (model,) = call("UNETLoader", unet_name=tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    (vae,) = call("VAELoader", vae_name=tiny.VAE.name)
    with torch.inference_mode():
        clip = tiny.load_clip()
    return SimpleNamespace(call=call, sample=sample, model=model, vae=vae, clip=clip)


@pytest.fixture
def make_policy(modules: SimpleNamespace, stock: SimpleNamespace) -> Callable[..., Any]:
    """make_policy(model=..., clip=..., vae=..., width=..., cfg=..., memory={...}, rank=..., ...) -> a NativePolicy, not
    entered.

    Images are of 64 pixels in height, unless size is given, for both ways; frames: of a video.
    """

    def made(model=None, *, clip=None, vae=None, width=64, size=None, frames=1, cfg=1.0, memory=None, **lora):
        config = modules.config.LoraConfig(**({"rank": 4, "alpha": 8, "targets": "attention + MLP"} | lora))
        guidance = modules.policy.Guidance(cfg=cfg)
        parts = (model or stock.model, clip or stock.clip, vae or stock.vae)
        settings = modules.policy.PolicySettings(*parts, config, guidance)
        picture = modules.policy.Picture(size or width, size or 64, frames=frames)
        return modules.native.NativePolicy(settings, picture, memory=modules.config.MemoryConfig(**(memory or {})))

    return made


@pytest.fixture
def draw(modules: SimpleNamespace) -> Callable[..., torch.Tensor]:
    """draw(policy, prompt, seed) -> the latent of a plain ODE rollout of 4 steps, scaled as KSampler gives it."""

    def ode(policy, prompt="a red circle on a dark background", seed=5):
        noise = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(seed))
        sigmas = policy.sigmas(4)
        cond, batches = policy.encode(prompt), modules.batches.Batches(1)
        latent = modules.solvers.ode(policy, noise * sigmas[0], cond=cond, sigmas=sigmas, batches=batches)
        return policy._patcher.model.process_latent_out(policy._coordinates.latent(latent))

    return ode


@pytest.fixture
def train_briefly(modules: SimpleNamespace) -> Callable[..., list[Any]]:
    """train_briefly(policy) -> the metrics of a short run on a colour. Inside the policy."""

    def run(policy, iterations=2, branch_steps=(0, 1), prompt="a red circle on a dark background"):
        config = modules.config.TrainConfig(
            rollout=modules.config.RolloutConfig(steps=4, branch_steps=branch_steps, group_size=3),
            optim=modules.config.OptimConfig(learning_rate=1e-2),
            run=modules.config.RunConfig(iterations=iterations),
        )
        reward = modules.mix.RewardMix.of(modules.colour.ColourReward(1.0, 0.5, 0.0))
        decoder = modules.decoder.NativeDecoder(policy._settings.model, policy._settings.vae)
        state = modules.state.TrainState.begin(policy, config)
        conds = {prompt: policy.encode(prompt)}
        steps = modules.loop.train(policy, decoder, reward=reward, conds=conds, config=config, state=state)
        return list(steps)

    return run

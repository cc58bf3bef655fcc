"""Processes that train the toy world together: a program that forks them, so that they begin at once.

Each line that it reads is an order, as JSON: world, store (a file by which the processes find each other), output,
iterations, config ({"section.field": value} besides toy_config), settings (of RunSettings), sharding, guard, held_out
(how many prompts are), until (the step after which all end, as by a signal), fsdp (whether the base is shared out), die
and hang: {rank: the step in which it kills itself, or stops answering}. It answers with the status of each. What each
says is in <output>/rank_<RANK>.log, the adapter and metrics of each in <output>/rank_<RANK>.safetensors and .json; the
run's files are below <output>/runs.
"""

import json
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

from _host.package import load_core  # noqa: E402

load_core()

import matplotlib.pyplot  # noqa: E402, F401 - once, and not in each process
import torch  # noqa: E402
import torch._dynamo  # noqa: E402 - which optimizers import
import torch.utils.tensorboard  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import distributed  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402

from _toy import PROMPTS, Brightness, Negative, ToyDecoder, ToyPolicy, toy_config, without_clock  # noqa: E402
from pave_core.errors import PaveError  # noqa: E402
from pave_core.evaluation.guard import GuardConfig, GuardSettings  # noqa: E402
from pave_core.rollout.prompts import PromptSet  # noqa: E402
from pave_core.runs.begin import begin  # noqa: E402
from pave_core.runs.folder import Places  # noqa: E402
from pave_core.runs.settings import RunSettings, Task  # noqa: E402
from pave_core.scoring.mix import RewardMix  # noqa: E402
from pave_core.training.loop import train  # noqa: E402
from pave_core.training.processes import ALONE, Several, Sharding  # noqa: E402

MORE = (*PROMPTS, "a horse", "a cow")
HELD_OUT = ("a tree", "a stone", "a lake")


def config_of(order):
    """The TrainConfig: toy_config, and {"section.field": value} of the order."""
    config = toy_config(iterations=order.get("iterations", 5))
    for name, value in order.get("config", {}).items():
        section, field = name.split(".")
        value = tuple(value) if isinstance(value, list) else value
        config = replace(config, **{section: replace(getattr(config, section), **{field: value})})
    return config


def shard(policy, world):
    """Keep of each weight of the base only this process's share (FSDP2); the adapter stays whole in each."""
    mesh = init_device_mesh("cpu", (world,))
    own = set(policy.parameters().values())
    for p in policy.model.parameters():
        p.requires_grad_(p in own)
    layers = [policy.model.attn["qkv"], policy.model.attn["proj"], policy.model.out]
    for layer in (*layers, policy.model):
        fully_shard(layer, mesh=mesh, ignored_params=own)
    assert all(len(layer.weight.to_local()) == len(layer.weight) // world for layer in layers)


def main(order, rank):
    torch.set_num_threads(1)
    output = Path(order["output"])
    config, sharding = config_of(order), Sharding(**order.get("sharding", {}))
    processes = ALONE
    if order["world"] > 1:
        store = f"file://{order['store']}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=order["world"])
        processes = Several(sharding, config, device=torch.device("cpu"))
    policy = ToyPolicy(config.lora, config.run.seed)
    if order.get("fsdp"):
        shard(policy, order["world"])
    guard = None
    if order.get("guard"):
        guard = GuardSettings(GuardConfig(**order["guard"]), Negative())
    settings = RunSettings(
        evaluation_seeds=3,
        check_reward=False,
        guard=guard,
        iterations=config.run.iterations,
        **order.get("settings", {}),
    )
    reward = RewardMix((Brightness(),), (1.0,))
    run = begin(
        policy,
        ToyDecoder(),
        task=Task(config, settings, PromptSet(MORE, HELD_OUT[: order.get("held_out", 3)]), reward),
        places=Places(output / "runs", output / "loras", output / "spare"),
        processes=processes,
    )
    deaths = {int(each): step for each, step in order.get("die", {}).items()}
    hangs = {int(each): step for each, step in order.get("hang", {}).items()}

    def fate():
        if run.state.step == deaths.get(rank, -2):
            os.kill(os.getpid(), signal.SIGKILL)
        if run.state.step == hangs.get(rank, -2):
            time.sleep(600)

    policy.fail = fate
    metrics = []
    try:
        steps = train(
            policy,
            run.decoder,
            reward=reward,
            conds=run.conds,
            config=config,
            state=run.state,
            batches=run.batches,
            processes=processes,
        )
        for each in steps:
            run.after_step(each)
            metrics.append(each)
            if run.stopped:
                break
            if each.step == order.get("until"):
                run.stop("stopped")
                break
        else:
            run.finish()
            run.close()
    except PaveError as error:
        run.stop("stopped")
        print(f"rank {rank}: {error}", flush=True)
        os._exit(3)
    weights = {name: p.detach().clone() for name, p in policy.parameters().items()}
    save_file(weights, output / f"rank_{rank}.safetensors")
    (output / f"rank_{rank}.json").write_text(json.dumps(without_clock(metrics)), "utf-8")


def child(order, rank):
    """Train, with what is said in a file."""
    log = os.open(Path(order["output"]) / f"rank_{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        main(order, rank)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def serve():
    for line in sys.stdin:
        order, children = json.loads(line), []
        for rank in range(order["world"]):
            pid = os.fork()
            if pid == 0:
                child(order, rank)
            children.append(pid)
        statuses = dict.fromkeys(children)
        while None in statuses.values():
            pid, status = os.wait()
            statuses[pid] = os.waitstatus_to_exitcode(status)
            hung = [children[int(rank)] for rank in order.get("hang", {})]
            if status and all(statuses[other] is not None for other in children if other not in hung):
                for other in hung:
                    if statuses[other] is None:
                        os.kill(other, signal.SIGKILL)
        print(json.dumps(list(statuses.values())), flush=True)


if __name__ == "__main__":
    serve()

"""The workflows that come with the pack, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graph import Out, Ref, Workflow
from .real_models import REAL_MODELS

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "star")
CAPTIONS = "\n".join(f"a {c} {s} on a {b} background" for c in COLOURS for s in SHAPES for b in ("dark", "light"))
WARM: dict[str, Any] = {"red": 1.0, "green": 0.75, "blue": 0.4, "softness": 0.5}
PROMPT = "a green star on a light background"
QUICK: dict[str, Any] = {"preset": "quick", "width": 64, "height": 64}
DRAWING: dict[str, Any] = {"steps": 8, "branch_steps": "0, 2, 4", "group_size": 8, "batch_size": 64, "width": 64, "height": 64}
LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "targets": "attention + MLP"}
SHORT: dict[str, Any] = {**DRAWING, **LORA, "iterations": 10, "prompts_per_step": 4, "learning_rate": 5e-4}
RUN: dict[str, Any] = {"iterations": 10, "prompts_per_step": 4, "evaluation_seeds": 4}
MIX: dict[str, Any] = {"weight_1": 1.0, "weight_2": 1.0, "normalise": "raw"}


def tiny(w: Workflow, captions: str = CAPTIONS) -> tuple[Ref, Ref]:
    """The bundled model and its prompts."""
    return w.node("PaveTinyModel", size=(400, 0)), w.node("PavePrompts", size=(400, 360), text=captions, held_out=0.2, seed=0)


def rewards(w: Workflow) -> Ref:
    """CLIP score and colour, mixed."""
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    colour = w.node("PaveColour", "Colour: what you like", **WARM)
    w.column()
    return w.node("PaveRewardMix", reward_1=clip, reward_2=colour, **MIX)


def picture(w: Workflow, title: str, model: Ref | Out, source: Ref, prompt: str = PROMPT, seed: int = 1, size: int = 64) -> None:
    """Generate with the stock KSampler, in four columns."""
    positive = w.node("CLIPTextEncode", f"{title}: prompt", clip=source["clip"], text=prompt)
    negative = w.node("CLIPTextEncode", f"{title}: negative (unused at cfg 1)", clip=source["clip"], text="")
    latent = w.node("EmptySD3LatentImage", width=size, height=size, batch_size=4)
    w.column()
    sampler = w.node(
        "KSampler",
        f"{title}: KSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=seed,
        steps=16,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
    )
    w.column()
    decoded = w.node("VAEDecode", samples=sampler, vae=source["vae"])
    w.column()
    w.preview(title, decoded, (420, 440))


def outcome(w: Workflow, train: Ref, name: str, grid: bool = True, height: int = 760) -> None:
    """Curve, grid, summary and the saved LoRA. height: of the pictures; Nodes 2.0 shows them as wide as their node, and lets them run over."""
    w.preview("Reward curve", train["curve"], (560, height))
    w.node("PaveSaveLoRA", lora=train["lora"], name=name)
    w.column()
    if grid:
        w.preview("Before and after, same seeds", train["grid"], (560, height))
    w.text("Summary", train["summary"], (560, 380))


def quickstart() -> Workflow:
    w = Workflow("quickstart", cover=("2", "3", "4"))
    w.group("1. The model and the prompts")
    w.note(
        """
## Pave-GRPO quickstart

Tunes a LoRA toward a reward, by reinforcement learning, in this graph. The bundled model draws coloured shapes at 64x64, so it takes
minutes on a CPU.

1. **Run**. Pave Train shows its progress and a picture of what it is drawing.
2. **The reward** is a warm colour the images should take on (*Pave Colour*) and a CLIP score that keeps them true to their prompts. Change
   the colour or the weights and run again.
3. **The judge** is a classifier that is measured before and after, and never trained on. If it falls, the reward is being fooled.
4. **The result**: the reward curve, held-out prompts before and after from the same seeds, and a LoRA in `output/loras` for the stock *Load
   LoRA* node.
5. At the bottom, one prompt and one seed with the model as it was and as it is now.

To tune your own model, replace *Pave Tiny Model* by your loaders, set width and height, and write your own prompts.
""",
        (400, 460),
    )
    model, prompts = tiny(w)
    w.group("2. What you like", "#8A8")
    mix = rewards(w)
    judge = w.node("PaveTinyAdherence", "Adherence: the judge")
    w.group("3. Train", "#b06634")
    train = w.node(
        "PaveTrain",
        size=(420, 0),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        judge=judge,
        run_name="quickstart",
        evaluation_seeds=16,
        evaluate_every=10,
        **QUICK,
    )
    w.group("4. What came out")
    outcome(w, train, "quickstart")
    w.row()
    w.group("5. Generate: the model as it was", "#8A8", after=model)
    picture(w, "Before", model["model"], model)
    w.group("6. Generate: the trained model, same prompt, same seed", "#8A8", after=train)
    picture(w, "After", train["model"], model)
    return w


def settings(w: Workflow, model: Ref, **optimizer: Any) -> tuple[Ref, dict[str, Ref]]:
    """The policy as a node; rollout, objective and optimizer, by the sockets that they go into."""
    lora = w.node("PaveLoRASettings", **LORA)
    rollout = w.node("PaveRolloutSettings", **DRAWING)
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    objective = w.node("PaveObjective")
    w.column()
    return policy, {"rollout": rollout, "objective": objective, "optimizer": w.node("PaveOptimizer", **{"learning_rate": 5e-4, **optimizer})}


def train_advanced() -> Workflow:
    w = Workflow("train_advanced", cover=("2", "3", "4"))
    w.group("1. The model and the prompts")
    w.note(
        """
## Training with its settings on wires

The same training as *quickstart*, with every setting in a small node of its own. Share them between several trainings, swap one for
another, or take them out of a LoRA with *Pave LoRA Recipe*.

Here the learning rate falls along a cosine, and the plain step counts half. Set `iterations` and `decay_steps` to 40 for a run as long as
the quickstart's.
""",
        (400, 280),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    policy, wires = settings(w, model, schedule="cosine", decay_steps=10)
    w.nodes[wires["objective"].id - 1]["widgets"]["plain_weight"] = 0.5
    w.group("3. What you like", "#8A8")
    mix = rewards(w)
    judge = w.node("PaveTinyAdherence", "Adherence: the judge")
    w.group("4. Train", "#b06634")
    train = w.node(
        "PaveTrainAdvanced", size=(400, 0), policy=policy, prompts=prompts, reward=mix, judge=judge, run_name="advanced", **wires, **RUN
    )
    w.group("5. What came out")
    outcome(w, train, "advanced")
    return w


def loop(w: Workflow, policy: Ref, prompts: Ref, name: str, iterations: int, **wires: Any) -> tuple[Ref, Ref, Ref]:
    """Begin, Loop Begin and Rollout."""
    run = {key: value for key, value in RUN.items() if key != "iterations"}
    begin = w.node("PaveBegin", policy=policy, prompts=prompts, run_name=name, **wires, **run)
    w.column()
    start = w.node("PaveLoopBegin", state=begin, iterations=iterations)
    w.column()
    return begin, start, w.node("PaveRollout", state=start["state"])


def learn(w: Workflow, start: Ref, drawn: Ref, scores: Ref) -> Ref:
    """From scores to the end of the loop."""
    advantage = w.node("PaveAdvantage", rollout=drawn["rollout"], scores=scores)
    w.column()
    loss = w.node("PaveDecompositionLoss", state=start["state"], rollout=drawn["rollout"], advantages=advantage["advantages"])
    w.node("PavePreviewGroup", "The groups, in every iteration", (520, 600), advantages=advantage["advantages"], rows=4)
    w.column()
    step = w.node("PaveOptimizerStep", state=loss["state"])
    w.text("What each chain does", loss["segments"], (300, 180))
    w.column()
    return w.node("PaveLoopEnd", loop=start["loop"], state=step["state"])


def step_by_step_loop() -> Workflow:
    w = Workflow("step_by_step_loop", cover=("4",))
    w.group("1. The model and the prompts")
    w.note(
        """
## The training loop, drawn

What *Pave Train* does, one part a node: with the same settings and seed it gives the same LoRA, bit for bit.

- **Pave Begin** gives the state. Each state goes to one node that changes it.
- **Between Pave Loop Begin and Pave Loop End** one iteration is drawn; the host repeats it.
- **Pave Rollout** draws groups of images that differ by one noisy step, **Pave Score** rates them, **Pave Advantage** compares within each
  group, **Pave Decomposition Loss** adds the gradient, **Pave Optimizer Step** moves the LoRA.
- **Pave Finish** gives the trained MODEL to a KSampler. Change the prompt there and run again: it does not train again.

Cancel keeps checkpoint and LoRA; choose the run in `resume` of Pave Begin to go on.
""",
        (400, 480),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    policy, wires = settings(w, model)
    w.group("3. What you like", "#8A8")
    mix = rewards(w)
    w.group("4. The loop: one iteration", "#b06634")
    _, start, drawn = loop(w, policy, prompts, "step_by_step", 10, reward=mix, **wires)
    w.column()
    scores = w.node("PaveScore", reward=mix, images=drawn["images"], prompts=drawn["prompts"])
    w.column()
    end = learn(w, start, drawn, scores)
    w.group("5. What came out")
    finish = w.node("PaveFinish", state=end["state"])
    w.column()
    outcome(w, finish, "step_by_step", grid=False)
    w.row()
    w.group("6. Generate with it", "#8A8", after=finish)
    picture(w, "The trained model", finish["model"], model)
    return w


def custom_reward_graph() -> Workflow:
    w = Workflow("custom_reward_graph", cover=("3",))
    w.group("1. The model and the prompts")
    w.note(
        """
## Any nodes as the reward

The score of each image is computed by stock image nodes: a plain picture of the colour you like, the difference to it, and the mean of that
difference. *Pave Image Statistic* makes a number of a picture, *Pave Scores From Numbers* makes scores of numbers: here with weight -1,
since a smaller difference is better.

A CLIP score is added, so that images stay true to their prompts.

Replace the difference by anything that gives one number an image: a detector, an aesthetic model, a counter of faces.
""",
        (400, 360),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    lora = w.node("PaveLoRASettings", **LORA)
    rollout = w.node("PaveRolloutSettings", **DRAWING)
    optimizer = w.node("PaveOptimizer", learning_rate=5e-4)
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    target = w.node("EmptyImage", "The colour you like", width=64, height=64, batch_size=96, color=0xFFBF66)
    w.group("3. The loop: one iteration", "#b06634")
    _, start, drawn = loop(w, policy, prompts, "custom_reward", 10, rollout=rollout, optimizer=optimizer)
    w.column()
    difference = w.node("ImageBlend", "Difference to it", image1=drawn["images"], image2=target, blend_factor=1.0, blend_mode="difference")
    score = w.node("PaveScore", reward=clip, images=drawn["images"], prompts=drawn["prompts"])
    w.column()
    number = w.node("PaveImageStatistic", "Mean difference", images=difference, statistic="mean")
    w.preview("Difference", difference, (320, 320))
    w.column()
    graded = w.node("PaveScoresFromNumbers", numbers=number, name="colour difference", weight=-1.0, scores=score["scores"])
    w.column()
    end = learn(w, start, drawn, graded)
    w.group("4. What came out")
    finish = w.node("PaveFinish", state=end["state"])
    w.column()
    outcome(w, finish, "custom_reward", grid=False)
    return w


def train_then_generate() -> Workflow:
    w = Workflow("train_then_generate", cover=("1", "2", "3", "4"))
    w.group("1. The model and the prompts")
    w.note(
        """
## From training straight into generation

One Run trains and generates. The MODEL of *Pave Train* has the LoRA in it; the LoRA itself also goes into the stock *Save LoRA Weights* and
*Load LoRA Model* nodes, where its strength can be changed without training again.

Change a prompt or a seed on the right and press Run: only the pictures are made anew.
""",
        (400, 280),
    )
    model, prompts = tiny(w)
    w.group("2. What you like", "#8A8")
    mix = rewards(w)
    w.group("3. Train", "#b06634")
    train = w.node(
        "PaveTrain",
        size=(420, 0),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        run_name="then_generate",
        evaluation_seeds=4,
        **SHORT,
    )
    w.group("4. The LoRA in stock nodes")
    w.node("SaveLoRA", lora=train["lora"], prefix="loras/then_generate", steps=10)
    half = w.node("LoraModelLoader", "The LoRA at half strength", model=model["model"], lora=train["lora"], strength_model=0.5)
    w.node("LossGraphNode", "Minus the reward, as the stock graph", (480, 330), loss=train["loss_map"], filename_prefix="pave_loss")
    w.preview("Reward curve", train["curve"], (480, 360))
    w.row()
    w.group("5. The model as it was", "#8A8", after=model)
    picture(w, "Before", model["model"], model)
    w.group("6. Half strength", "#8A8", after=half)
    picture(w, "Half", half, model)
    w.group("7. The trained model", "#8A8", after=train)
    picture(w, "After", train["model"], model)
    return w


def generate_with_lora() -> Workflow:
    w = Workflow("generate_with_lora", cover=("1", "2", "3"))
    w.group("1. The model and the LoRA")
    w.note(
        """
## Generate with a saved LoRA

The stock *Load LoRA* takes the files that *Pave Save LoRA*, *Pave Train* and *Pave Finish* write. Run the *quickstart* template once: it
saves `quickstart.safetensors`. Then press **R** here, so that the list shows it.

*Pave LoRA Recipe* reads out of the file how it was trained.
""",
        (400, 260),
    )
    model = w.node("PaveTinyModel", size=(400, 0))
    w.column()
    loaded = w.node("LoraLoaderModelOnly", "Load LoRA", (400, 0), model=model["model"], lora_name="quickstart.safetensors", strength_model=1.0)
    recipe = w.node("PaveLoRARecipe", size=(400, 0), lora="quickstart.safetensors")
    w.column()
    w.text("How it was trained", recipe["text"], (400, 480))
    w.group("2. The model as it was", "#8A8")
    picture(w, "Before", model["model"], model)
    w.group("3. With the LoRA", "#8A8")
    picture(w, "After", loaded, model)
    return w


def resume_training() -> Workflow:
    w = Workflow("resume_training", cover=("2", "3", "4"))
    w.group("1. The model and the prompts")
    w.note(
        """
## Stop and go on

1. **Run**. Press **Cancel** whenever you like, or let it reach its 10 steps.
2. Press **R**. The run is now in the list of `resume` of Pave Train, as `resume_me_00001`.
3. Choose it, raise `iterations`, and **Run** again: training goes on where it stopped, to the bit as if it had never been interrupted.

All other settings must be as they were; Pave Train says which one is not.
""",
        (400, 320),
    )
    model, prompts = tiny(w)
    w.group("2. What you like", "#8A8")
    mix = rewards(w)
    w.group("3. Train, stop, go on", "#b06634")
    train = w.node(
        "PaveTrain",
        size=(420, 0),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        run_name="resume_me",
        evaluation_seeds=4,
        checkpoint_every=5,
        **SHORT,
    )
    w.group("4. What came out")
    outcome(w, train, "resumed")
    return w


def compare_before_after() -> Workflow:
    w = Workflow("compare_before_after")
    w.group("1. The model and the prompts")
    w.note(
        """
## Two models side by side

The same prompts from the same seeds, without and with the LoRA, scored by the same reward. The table gives the gain and its standard error,
in all and prompt by prompt.

Run the *quickstart* template once: it saves `quickstart.safetensors`. Then press **R** here. Any two MODELs can be compared: two LoRAs, two
strengths, two checkpoints.
""",
        (400, 300),
    )
    model, prompts = tiny(w)
    w.group("2. The LoRA, and the reward", "#8A8")
    loaded = w.node("LoraLoaderModelOnly", "Load LoRA", model=model["model"], lora_name="quickstart.safetensors", strength_model=1.0)
    mix = rewards(w)
    w.group("3. Compare", "#b06634")
    compared = w.node(
        "PaveCompare",
        size=(380, 0),
        model_a=model["model"],
        model_b=loaded,
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        seeds=4,
        steps=8,
        width=64,
        height=64,
        batch_size=64,
    )
    w.group("4. Side by side")
    w.preview("Without and with the LoRA", compared["grid"], (640, 620))
    w.column()
    w.text("Rewards", compared["table"], (620, 400))
    return w


def multi_reward_guarded() -> Workflow:
    w = Workflow("multi_reward_guarded", cover=("4", "5"))
    w.group("1. The model and the prompts")
    w.note(
        """
## Several rewards, watched by a guard

A reward that is trained on is soon fooled. Three things are done about it here.

1. **A mix**: a warm colour is what you like, a CLIP score keeps the images true to their prompts, a statistic keeps their contrast. Each is
   brought to the same scale within a group, then weighed. The curve shows each by itself.
2. **A check** before the hours: can these rewards tell the images apart, and do they agree? Look at the report and at the groups.
3. **A guard**: every 2 steps it asks a judge that nothing is trained on whether the images still show what their prompts say, and how their
   look has changed. If it falls, the run ends, and the best weights come out.

Take the CLIP score out of the mix (weight 0), raise `iterations` to 60 and `learning_rate` to 0.002 to see the guard at work.
""",
        (400, 500),
    )
    model, prompts = tiny(w)
    w.group("2. What you like", "#8A8")
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    colour = w.node("PaveColour", "Colour: what you like", **WARM)
    contrast = w.node("PaveStatisticsReward", "Contrast: not flat", statistic="contrast", direction="more")
    w.column()
    balance = {"weight_1": 1.0, "weight_2": 0.3, "weight_3": 0.1, "normalise": "within group"}
    mix = w.node("PaveRewardMix", reward_1=clip, reward_2=colour, reward_3=contrast, **balance)
    w.group("3. Settings, and the check")
    policy, wires = settings(w, model)
    w.column()
    checked = w.node("PaveCheckReward", policy=policy, prompts=prompts, reward=mix, rollout=wires["rollout"])
    w.column()
    w.text("Can it teach?", checked["report"], (520, 330))
    w.preview("The groups of the check", checked["sheet"], (520, 420))
    w.group("4. Train, guarded", "#b06634")
    judge = w.node("PaveTinyAdherence", "Adherence: the judge")
    w.column()
    guard = w.node("PaveGuard", held_out=judge, every=2, max_drop=0.2, max_change=0.5)
    w.column()
    watched = {"judge": judge, "guard": guard}
    train = w.node("PaveTrainAdvanced", size=(400, 0), policy=policy, prompts=prompts, reward=mix, run_name="guarded", **watched, **wires, **RUN)
    w.group("5. What came out")
    outcome(w, train, "guarded", height=980)
    return w


RUNNABLE: dict[str, Callable[[], Workflow]] = {
    make.__name__: make
    for make in (
        quickstart,
        train_advanced,
        step_by_step_loop,
        custom_reward_graph,
        train_then_generate,
        generate_with_lora,
        resume_training,
        compare_before_after,
        multi_reward_guarded,
    )
}
"""Those that run on the bundled model."""

WORKFLOWS: dict[str, Callable[[], Workflow]] = {**RUNNABLE, **REAL_MODELS}

"""Workflows that train with one node: at its simplest, with settings on wires, resumed, and guarded."""

from __future__ import annotations

from typing import Any

from .graph import Ref, Workflow
from .parts import (
    BELOW_THE_WIRES,
    CAPTIONS,
    LORA,
    MIX,
    ROLLOUT,
    RUN,
    SHORT,
    SIZE,
    WARM,
    outcome,
    rewards,
    settings,
    tiny,
)

TASTE: dict[str, Any] = SHORT | {"iterations": 40, "checkpoint_every": 20}
"""A slow training: the warm colour pulls away from the prompt."""


def quickstart() -> Workflow:
    w = Workflow("quickstart", result="Before and after, same seeds")
    top = w.group("Read me")
    w.note(
        """
## Pave-GRPO quickstart: press Run

The bundled model draws coloured shapes, and often another colour or shape than was asked for. In about two minutes on a
CPU a LoRA teaches it better: no downloads, no data.

- **Pave Train** shows its progress and the images that it learns from; the tab *Pave-GRPO* on the left shows more.
- **The reward**, *CLIP contrast*, is how surely a small CLIP picks an image's own prompt among all prompts.
- **The judge** is only measured, before and after, and never trained on. If it falls, the reward is being fooled.
- **What came out**, on the right: the same seeds before and after, the curve, and a LoRA for the stock *Load LoRA*.

For your own model, put your loaders in the place of *Pave Tiny Model*, set width, height and cfg as you generate, write
your prompts, remove the judge, which knows only coloured shapes, and choose a reward.
""",
        (1060, 240),
    )
    w.group("1. Model and prompts", under=top)
    model, prompts = tiny(w, width=260)
    w.group("2. What you like", "#8A8", under=top, down=BELOW_THE_WIRES)
    contrast = w.node("PaveCLIPContrast", "Reward: CLIP contrast", prompts=prompts)
    judge = w.node("PaveTinyAdherence", "Judge: colour and shape")
    w.group("3. Train", "#b06634", under=top)
    _train_and_show(w, model, prompts=prompts, reward=contrast, judge=judge, name="quickstart", preset="quick")
    return w


def quickstart_taste() -> Workflow:
    w = Workflow("quickstart_taste", result="Before and after, same seeds")
    top = w.group("Read me")
    w.note(
        """
## A taste, and what keeps it in bounds

As *quickstart*, toward a matter of opinion: a warm colour that the images should take on (*Pave Colour*), and a CLIP
score that keeps them true to their prompts. Change the colour or the weights and run again.

The colour alone would soon flood every image: set the weight of the CLIP score to 0, and **the judge** falls, a
classifier of colour and shape that is measured before and after, and never trained on.

The weights are for *raw* scores here, because both rewards are already of about one size.
""",
        (1400, 160),
    )
    w.group("1. Model and prompts", under=top)
    model, prompts = tiny(w, width=260)
    w.group("2. What you like", "#8A8", under=top, down=BELOW_THE_WIRES)
    mix = rewards(w)
    judge = w.node("PaveTinyAdherence", "Judge: colour and shape")
    w.group("3. Train", "#b06634", under=top)
    _train_and_show(w, model, prompts=prompts, reward=mix, judge=judge, name="quickstart_taste", **TASTE)
    return w


CLICKED: dict[str, Any] = {
    **{"iterations": 30, "prompts_per_step": 2, "learning_rate": 6e-4, "checkpoint_every": 5, **LORA, **SIZE},
    **{"steps": 4, "branch_steps": "0", "group_size": 12, "batch_size": 64},
}
"""A question for each prompt of a step: 60 in all."""


def you_are_the_reward() -> Workflow:
    w = Workflow("you_are_the_reward", cut=("person_window.png", (30, 28, 1250, 740)))
    top = w.group("Read me")
    w.note(
        """
## You are the reward

1. **Run**. A window shows twelve images of one prompt.
2. **Click** those that you like, then *Done* (Enter). Keys: 1 to 9, arrows and space; 0 none of these, S skip, Z undo.
3. Two questions are one training step. After 40 answers your taste is known well enough to go on alone: you are then
   asked only about what is unsure. 0 in `alone_after` asks you always.

Follow one liking, such as *warm colours* or *large shapes*. The tab **Pave-GRPO** of the sidebar shows the curves; a
closed window waits there. **Cancel** loses nothing: choose the run in `resume`.

What you like pulls away from the prompt. To hold it, put a *Pave CLIP Contrast* beside you in a *Pave Reward Mix*.

Your taste is kept with the run. *Pave Taste* makes a reward of it that asks nobody.
""",
        (1060, 280),
    )
    w.group("1. Model and prompts", under=top)
    model, prompts = tiny(w, width=260)
    w.group("2. You", "#8A8", under=top, down=BELOW_THE_WIRES)
    person = w.node("PavePerson", size=(300, 0))
    w.group("3. Train", "#b06634", under=top)
    measured = {"evaluation_seeds": 8, "evaluate_every": 10}
    _train_and_show(w, model, prompts=prompts, reward=person, name="mine", **CLICKED | measured)
    return w


def _train_and_show(w: Workflow, model: Ref, *, prompts: Ref, reward: Ref, name: str, **method: Any) -> None:
    """Train, and show what came out. method: widgets of Pave Train, and its judge."""
    train = w.node(
        "PaveTrain",
        size=(310, 0),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=reward,
        **{"run_name": name, "evaluation_seeds": 16, "evaluate_every": 20} | SIZE | method,
    )
    w.group("4. What came out")
    _show(w, train, name)


def _show(w: Workflow, train: Ref, name: str) -> None:
    """What came out, in one column."""
    w.preview("Before and after, same seeds", train["grid"], (440, 520))
    w.preview("Curve", train["curve"], (440, 520))
    w.node("PaveSaveLoRA", lora=train["lora"], name=name)
    w.text("Summary", train["summary"], (440, 330))


def train_advanced() -> Workflow:
    w = Workflow("train_advanced", result="Before and after, same seeds")
    top = w.group("Read me")
    w.note(
        """
## Training with its settings on wires

The same training as *quickstart_taste*, with every setting in a small node of its own. Share them between several
trainings, swap one for another, or read them from a LoRA with *Pave LoRA Recipe*.

Here the learning rate falls along a cosine, and the plain step counts half. Set `iterations` and `decay_steps` to 40
for a run as long as the quickstart's.
""",
        (1400, 160),
    )
    w.group("1. Model and prompts", under=top)
    model = w.node("PaveTinyModel", size=(260, 0))
    lora = w.node("PaveLoRASettings", **LORA)
    prompts = w.node("PavePrompts", size=(260, 300), text=CAPTIONS, held_out=0.2, seed=0)
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    w.group("2. Settings, and what you like", "#8A8", under=top, down=BELOW_THE_WIRES + 300)
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    colour = w.node("PaveColour", "Colour: what you like", **WARM)
    w.column()
    mix = w.node("PaveRewardMix", reward_1=clip, reward_2=colour, **MIX)
    judge = w.node("PaveTinyAdherence", "Judge: colour and shape")
    rollout = w.node("PaveRolloutSettings", **ROLLOUT)
    objective = w.node("PaveObjective", plain_weight=0.5)
    optimizer = w.node("PaveOptimizer", learning_rate=5e-4, schedule="cosine", decay_steps=10)
    wires = {"rollout": rollout, "objective": objective, "optimizer": optimizer}
    w.group("3. Train", "#b06634", under=top, down=BELOW_THE_WIRES)
    train = w.node(
        "PaveTrainAdvanced",
        size=(400, 0),
        policy=policy,
        prompts=prompts,
        reward=mix,
        judge=judge,
        run_name="advanced",
        **wires,
        **RUN,
    )
    w.group("4. What came out")
    _show(w, train, "advanced")
    return w


def diffusers_pipeline() -> Workflow:
    w = Workflow("diffusers_pipeline", result="Before and after, same seeds")
    top = w.group("Read me")
    w.note(
        """
## A diffusers pipeline instead of a MODEL

*Pave Diffusers Policy* takes a folder of a diffusers pipeline (`models/diffusers/<name>` with its `model_index.json`):
SD3, FLUX, Qwen-Image, Z-Image, AuraFlow, Lumina 2, Sana, Wan, LTX. It draws as the pipeline itself does, and the LoRA
is for the stock *Load LoRA* all the same.

The tiny pipeline here is made when you press Run, with random weights: it draws patterns, which turn yellow in ten
steps. For your own, choose its folder, set `precision` to bf16 and width and height to 512, and write your prompts.
""",
        (1400, 180),
    )
    w.group("1. The pipeline and the prompts", under=top)
    lora = w.node("PaveLoRASettings", **LORA)
    prompts = w.node("PavePrompts", size=(260, 300), text=CAPTIONS, held_out=0.2, seed=0)
    w.column()
    policy = w.node("PaveDiffusersPolicy", lora=lora, precision="fp32")
    w.group("2. Settings, and what you like", under=top, down=BELOW_THE_WIRES + 200)
    rollout = w.node("PaveRolloutSettings", **ROLLOUT)
    objective = w.node("PaveObjective")
    optimizer = w.node("PaveOptimizer", learning_rate=2e-2)
    colour = w.node("PaveColour", "Colour: what you like", **WARM)
    w.group("3. Train", "#b06634", under=top, down=BELOW_THE_WIRES)
    train = w.node(
        "PaveTrainAdvanced",
        size=(400, 0),
        policy=policy,
        prompts=prompts,
        reward=colour,
        run_name="pipeline",
        **{"rollout": rollout, "objective": objective, "optimizer": optimizer},
        **RUN,
    )
    w.group("4. What came out")
    _show(w, train, "pipeline")
    return w


def resume_training() -> Workflow:
    w = Workflow("resume_training", result="Before and after, same seeds")
    top = w.group("Read me")
    w.note(
        """
## Stop and resume

1. **Run**. Press **Cancel** whenever you like, or let it reach its 10 steps.
2. Press **R**. The run is now in the list of `resume` of Pave Train, as `resume_me_00001`.
3. Choose it, raise `iterations`, and **Run** again: training goes on where it stopped, bit for bit as if it had never
   been interrupted.

All other settings must be as they were; Pave Train says which one is not.
""",
        (1400, 200),
    )
    w.group("1. Model and prompts", under=top)
    model, prompts = tiny(w, width=260)
    w.group("2. What you like", "#8A8", under=top, down=BELOW_THE_WIRES)
    mix = rewards(w)
    w.group("3. Train, stop, go on", "#b06634", under=top)
    settings = {"run_name": "resume_me", "evaluation_seeds": 4, "evaluate_every": 0, "checkpoint_every": 5}
    _train_and_show(w, model, prompts=prompts, reward=mix, name="resumed", **SHORT | settings)
    return w


def multi_reward_guarded() -> Workflow:
    w = Workflow("multi_reward_guarded", result="Before and after, same seeds")
    w.group("1. The model and the prompts")
    w.note(
        """
## Several rewards, watched by a guard

A reward that is trained on is soon fooled. This workflow does three things about it.

1. **A mix**: a warm colour is what you like, a CLIP score keeps the images true to their prompts, a statistic keeps
   their contrast. Each is brought to the same scale within a group, then weighted. The curve shows each by itself.
2. **A check** before a long run: can these rewards tell the images apart, and do they agree? Look at the report and
   at the groups.
3. **A guard**: every 2 steps it asks a judge, which is never trained on, whether the images still show what their
   prompts say, and measures how much their look has changed. If the judge falls or the look changes too much, the run
   ends, and the best weights come out.

To see the guard at work, take the CLIP score and the contrast out of the mix (weight 0), raise `iterations` to 60,
`evaluation_seeds` to 16 (fewer, and it would act on noise) and `learning_rate` to 0.002: the colour then floods the
images.
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
    judge = w.node("PaveTinyAdherence", "Judge: colour and shape")
    w.column()
    guard = w.node("PaveGuard", held_out=judge, every=2, max_drop=0.2, max_change=0.5)
    w.column()
    watched = {"judge": judge, "guard": guard}
    train = w.node(
        "PaveTrainAdvanced",
        size=(400, 0),
        policy=policy,
        prompts=prompts,
        reward=mix,
        run_name="guarded",
        **watched,
        **wires,
        **RUN,
    )
    w.group("5. What came out")
    outcome(w, train, "guarded")
    return w

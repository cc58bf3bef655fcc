"""Workflows with the training loop on the canvas: what the training node does, one node per part."""

from __future__ import annotations

from typing import Any

from .graph import Out, Ref, Workflow
from .parts import LORA, ROLLOUT, RUN, outcome, picture, rewards, settings, tiny


def loop(w: Workflow, name: str, **wires: Any) -> tuple[Ref, Ref]:
    """Begin, Loop Begin and Rollout; the last two."""
    run = {key: value for key, value in RUN.items() if key != "iterations"}
    begin = w.node("PaveBegin", run_name=name, **wires, **run)
    w.column()
    start = w.node("PaveLoopBegin", state=begin, iterations=RUN["iterations"])
    w.column()
    return start, w.node("PaveRollout", state=start["state"])


def learn(w: Workflow, start: Ref, sampled: Ref, scores: Ref) -> Ref:
    """The nodes from the scores to the end of the loop."""
    rollout = sampled["rollout"]
    advantages = w.node("PaveAdvantage", rollout=rollout, scores=scores)["advantages"]
    w.column()
    loss = w.node("PaveDecompositionLoss", state=start["state"], rollout=rollout, advantages=advantages)
    w.node("PavePreviewGroup", "The groups, in every iteration", (520, 600), advantages=advantages, rows=4)
    w.column()
    step = w.node("PaveOptimizerStep", state=loss["state"])
    w.text("What each chain does", loss["segments"], (300, 180))
    w.column()
    return w.node("PaveLoopEnd", loop=start["loop"], state=step["state"])


def step_by_step_loop() -> Workflow:
    w = Workflow("step_by_step_loop", result="The trained model")
    w.group("1. The model and the prompts")
    w.note(
        """
## The training loop on the canvas

What *Pave Train* does, one node per part: with the same settings and seed it gives the same LoRA, bit for bit.

- **Pave Begin** gives the state. Each state goes to one node that changes it.
- **Between Pave Loop Begin and Pave Loop End** stands one iteration; the host repeats it.
- **Pave Rollout** samples groups of images that differ by one noisy step, **Pave Score** rates them, **Pave
  Advantage** compares them within each group, **Pave Decomposition Loss** adds the gradient, **Pave Optimizer Step**
  moves the LoRA.
- **Pave Finish** gives the trained MODEL to a KSampler. Change the prompt there and run again: it does not train again.

**Careful: press Run without a change, and the whole loop trains again from the start**, unlike Pave Train, whose result
is kept. Cancel keeps checkpoint and LoRA; choose the run in `resume` of Pave Begin to go on.
""",
        (400, 480),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    policy, wires = settings(w, model)
    w.group("3. What you like", "#8A8")
    mix = rewards(w)
    w.row()
    w.group("4. The loop: one iteration", "#b06634")
    start, sampled = loop(w, "step_by_step", policy=policy, prompts=prompts, reward=mix, **wires)
    w.column()
    scores = w.node("PaveScore", reward=mix, images=sampled["images"], prompts=sampled["prompts"])
    w.column()
    end = learn(w, start, sampled, scores)
    w.row()
    w.group("5. What came out")
    finish = w.node("PaveFinish", state=end["state"])
    w.column()
    outcome(w, finish, "step_by_step", grid=False)
    w.group("6. Generate with it", "#8A8")
    picture(w, "The trained model", finish["model"], model)
    return w


def train_look_train() -> Workflow:
    w = Workflow("train_look_train", result="After the first half")
    w.group("1. The model and the prompts")
    w.note(
        """
## Train 50, look, train 50 more

One run in two halves, with pictures between them: the model draws after 50 steps, while the second half begins. One
LoRA comes out, of all 100 steps.

- Do you not like what you see? **Cancel**: LoRA and checkpoint are kept, as they are then.
- Is it enough? Cancel as well, or set `iterations` of the second *Pave Loop Begin* to 0 before you run.
- Do you want more of it? Copy the nodes of a half, and wire them in behind.

**Careful: press Run without a change, and it trains again from the start.**
""",
        (400, 330),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    lora = w.node("PaveLoRASettings", **LORA)
    rollout = w.node("PaveRolloutSettings", **ROLLOUT | {"steps": 4, "branch_steps": "0, 1"})
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    contrast = w.node("PaveCLIPContrast", "Reward: CLIP contrast", prompts=prompts)
    optimizer = w.node("PaveOptimizer", learning_rate=7e-4)
    w.row()
    w.group("3. The first half", "#b06634")
    wires = {"policy": policy, "prompts": prompts, "rollout": rollout, "optimizer": optimizer, "reward": contrast}
    run = {"prompts_per_step": 8, "evaluation_seeds": RUN["evaluation_seeds"]}
    begin = w.node("PaveBegin", run_name="look", **wires, **run)
    w.column()
    half = _half(w, begin, contrast)
    w.group("4. Look", "#8A8")
    drawn = w.node("PaveRollout", "Draw with it", state=half)
    w.column()
    w.preview("After the first half", drawn["images"], (480, 520))
    w.row()
    w.group("5. The second half", "#b06634")
    half = _half(w, half, contrast)
    w.group("6. What came out")
    finish = w.node("PaveFinish", state=half)
    w.column()
    outcome(w, finish, "look", grid=False)
    return w


def _half(w: Workflow, state: Ref | Out, reward: Ref) -> Out:
    """50 iterations, in columns of their own; the state after them."""
    start = w.node("PaveLoopBegin", state=state, iterations=50)
    w.column()
    sampled = w.node("PaveRollout", state=start["state"])
    w.column()
    scores = w.node("PaveScore", reward=reward, images=sampled["images"], prompts=sampled["prompts"])
    w.column()
    advantages = w.node("PaveAdvantage", rollout=sampled["rollout"], scores=scores)["advantages"]
    w.column()
    rollout = sampled["rollout"]
    loss = w.node("PaveDecompositionLoss", state=start["state"], rollout=rollout, advantages=advantages)
    w.column()
    step = w.node("PaveOptimizerStep", state=loss["state"])
    w.column()
    return w.node("PaveLoopEnd", loop=start["loop"], state=step["state"])["state"]


def custom_reward_graph() -> Workflow:
    w = Workflow("custom_reward_graph", result="Curve")
    w.group("1. The model and the prompts")
    w.note(
        """
## Any nodes as the reward

The score of each image is computed by stock image nodes: a plain picture of the colour you like, the difference from
it, and the mean of that difference. *Pave Image Statistic* turns a picture into a number, *Pave Scores From Numbers*
turns numbers into scores: here with weight -1, since a smaller difference is better.

A CLIP score is added, so that images stay true to their prompts.

Replace the difference with anything that gives one number per image: a detector, an aesthetic model, a counter of
faces.
""",
        (400, 360),
    )
    model, prompts = tiny(w)
    w.group("2. Settings")
    lora = w.node("PaveLoRASettings", **LORA)
    rollout = w.node("PaveRolloutSettings", **ROLLOUT)
    optimizer = w.node("PaveOptimizer", learning_rate=5e-4)
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    target = w.node("EmptyImage", "The colour you like", width=64, height=64, batch_size=96, color=0xFFBF66)
    w.row()
    w.group("3. The loop: one iteration", "#b06634")
    wires = {"policy": policy, "prompts": prompts, "rollout": rollout, "optimizer": optimizer}
    start, sampled = loop(w, "custom_reward", **wires)
    w.column()
    images = {"image1": sampled["images"], "image2": target}
    difference = w.node("ImageBlend", "Difference to it", **images, blend_factor=1.0, blend_mode="difference")
    score = w.node("PaveScore", reward=clip, images=sampled["images"], prompts=sampled["prompts"])
    w.column()
    number = w.node("PaveImageStatistic", "Mean difference", images=difference, statistic="mean")
    w.preview("Difference", difference, (320, 320))
    w.column()
    smaller = {"name": "colour difference", "weight": -1.0}
    graded = w.node("PaveScoresFromNumbers", numbers=number, **smaller, scores=score["scores"])
    w.column()
    end = learn(w, start, sampled, graded)
    w.row()
    w.group("4. What came out")
    finish = w.node("PaveFinish", state=end["state"])
    w.column()
    outcome(w, finish, "custom_reward", grid=False)
    return w

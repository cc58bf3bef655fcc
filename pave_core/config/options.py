"""The options of the method: what each computes, who published it, and where it does nothing.

tools/make_help.py prints them into docs/OPTIONS.md, with the range, default and help of their settings. `values` are
those that the matrix of combinations tells apart: tests/core/training/test_combinations.py tries each pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
"""{widget: value}."""


@dataclass(frozen=True)
class Option:
    """An option of the method, by the name of its widget."""

    formula: str  # in the symbols of docs/OPTIONS.md
    source: str
    limit: str  # the value at which it does nothing
    values: Mapping[Any, Values]  # {a value: what else must be set for it}, the default first


PAVE = "Pave-GRPO, arXiv 2606.01636"
FLOW = "Flow-GRPO, arXiv 2505.05470"
DANCE = "DanceGRPO, arXiv 2505.07818"
MIX = "MixGRPO, arXiv 2507.21802"
G2 = "G2RPO, arXiv 2510.01982"
ADA = "AdaGRPO, arXiv 2606.06828"
DPPO = "Flow-DPPO, arXiv 2606.11025"
SOL = "Sol-RL, arXiv 2604.06916"
OURS = "this pack"

OPTIONS: dict[str, Option] = {
    # what is sampled
    "exploration": Option(
        "branches: y_i ~ p(. | x_k), i = 1..G, at each k in K alone. trajectories: y_i ~ p(. | x_k^i) at every k in K "
        "on its way, from a noise each or from one",
        f"branches: {G2}. trajectories: {FLOW}, and Algorithm 1 of {PAVE}. one noise: {DANCE}",
        "with one noise and one branch step, trajectories are branches",
        {"branches": {}, "trajectories": {}, "trajectories, one noise": {}},
    ),
    "kernel": Option(
        "mar: mean = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt, std = s sqrt(-dt), "
        "s = eta sqrt(sigma / (1 - sigma)). cps: mean = (1 - sigma') (x - sigma v) + sqrt(sigma'^2 - std^2) "
        "(x + (1 - sigma) v), std = sigma' sin(eta pi / 2). dance: mean = x + (v + eta^2 / 2 (x - (1 - sigma) "
        "(x - sigma v)) / sigma^2) dt, std = eta sqrt(-dt)",
        f"mar: {FLOW}. cps: Flow-CPS, arXiv 2509.05952. dance: {DANCE}",
        "as eta goes to 0 all three are the Euler step x + v dt",
        {"mar": {}, "cps": {}, "dance": {}},
    ),
    "eta": Option(
        "the noise level in the three kernels",
        f"0.8: {PAVE}; 0.7 to 0.9: {FLOW}; 0.3: {DANCE}; 0.7: {MIX}, {ADA}",
        "as it goes to 0 the images of a group become one",
        {0.8: {}, 1.2: {}},
    ),
    "group_size": Option(
        "A_i = clamp((r_i - mean r) / (std r + 1e-8), -c, c), i = 1..G, within a group",
        "GRPO, arXiv 2402.03300; 12: Pave-GRPO, DanceGRPO, MixGRPO, G2RPO, AdaGRPO; 24: Flow-GRPO",
        "",
        {4: {}, 2: {}},
    ),
    "branch_steps": Option(
        "K: loss = 1/|K| sum_{k in K} loss_k",
        f"{PAVE}; a window of 4: {MIX}; all but the last: {FLOW}, {DANCE}",
        "",
        {"0, 2": {}, "0, 2, 4": {}},
    ),
    "window_every": Option(
        "K in training step n: k + window_stride (floor(n / window_every) mod m), with m the number of places up to "
        "step T - 2",
        f"{MIX} (25)",
        "0",
        {0: {}, 2: {"branch_steps": "0, 1"}},
    ),
    "window_stride": Option(
        "see window_every",
        f"{MIX} (1)",
        "window_every 0",
        {1: {}, 3: {"window_every": 2, "branch_steps": "0, 1"}},
    ),
    "tail_solver": Option(
        "euler: x' = x + h v. multistep: x' = x + h (v + h / (2 h_before) (v - v_before)), the first step Euler's",
        f"Adams-Bashforth 2 with variable steps (Hairer, Norsett, Wanner, III.5); {MIX} uses DPM-Solver++ of order 2",
        "euler; tails are not in the likelihood, so that it changes nothing but how exact a reward is",
        {"euler": {}, "multistep": {}},
    ),
    "tail_steps": Option(
        "the tail from sigma_{k+1} to 0 takes round((T - k - 1) tail_steps / T) steps, at least 1, evenly among the "
        "schedule's",
        f"{MIX} (its Flash compresses what follows the window to 0.4)",
        "0, or as many as steps",
        {0: {}, 3: {}, 9: {}},
    ),
    "coarser_tails": Option(
        "A_i = A_i on the schedule's tail + sum_m A_i on every m-th step of it",
        f"{G2} (every step and every 2nd)",
        "empty",
        {"": {}, "2": {}},
    ),
    "contrast": Option(
        "of the G advantages on cheap tails the c / 2 largest and the c / 2 smallest stay; A is computed again from "
        "these c, on the schedule's tails",
        f"after {SOL}; here tails are not in the likelihood",
        "0",
        {0: {}, 4: {"group_size": 6}},
    ),
    "candidates": Option(
        "B prompts: m = 0.8 m + 0.2 mean s, over the scores s of one image each; those with the smallest |s_j - m| are "
        "trained on",
        f"{ADA} (B = 10)",
        "0; as many as prompts_per_step chooses nothing",
        {0: {}, 2: {}, 3: {}},
    ),
    # what is minimised
    "segments": Option(
        "S: loss_k = w_1 L_1 + 1/|S| sum_{n in S} w_n L_n; L_n of n - 1 Euler sub-steps and a last noisy one, of "
        "dt / n each",
        PAVE,
        "empty is plain GRPO",
        {"2, 3": {}, "": {}, "2": {}},
    ),
    "plain_weight": Option(
        "w_1", f"{PAVE}: 1; others: {OURS}", "1", {1.0: {}, 0.0: {"segments": "2, 3", "segment_weights": ""}}
    ),
    "segment_weights": Option(
        "w_n, n in S",
        f"{PAVE}: 1; others: {OURS}",
        "empty, or all 1",
        {"": {}, "1, 0.5": {"segments": "2, 3"}},
    ),
    "advantage_clip": Option(
        "c of the advantage",
        "5: Pave-GRPO, Flow-GRPO, DanceGRPO, MixGRPO, AdaGRPO",
        "from (G - 1) / sqrt(G) on, which no advantage of one reward exceeds: 3.2 of 12 images",
        {5.0: {}, 0.5: {}},
    ),
    "variance": Option(
        "the std of L_n: reference: std_n of its own last sub-step. matched: std_1. span: std_1 with the mean of one "
        "whole step at v = (x^(n) - x_k) / dt, x^(n) by n Euler sub-steps",
        f"reference: {PAVE} as released; matched, span: {OURS}",
        "with segments empty; with cps, matched is reference",
        {"reference": {}, "matched": {}, "span": {}},
    ),
    "residual": Option(
        "of L_n, whose gradient is -1/G sum_i A_i e_i / (std_n^2 D) dmean_n: image: e_i = y_i - mean_n. noise: "
        "e_i = y_i - mean_1 of the policy that drew, the noise itself. They differ by A_i (mean_1 - mean_n), which "
        "comes from no reward",
        f"image: {PAVE}; noise: {OURS}",
        "branches whose advantages sum to 0 have one mean_n, and the same gradient with both; with segments empty",
        {"noise": {}, "image": {}},
    ),
    "updates_per_rollout": Option(
        "as many optimizer steps with ratio_i = p(y_i) / p_old(y_i), p_old: the policy that drew",
        f"1: {PAVE} as released; {FLOW}, {DANCE} and {MIX} split the images of one rollout among 2 to 4 steps",
        "1: the ratio is 1",
        {1: {}, 2: {}},
    ),
    "ratio": Option(
        "L = - mean_i f. unclipped: f = A ratio. clip: f = min(A ratio, A clamp(ratio, 1 - clip_range, "
        "1 + clip_range)). divergence mask: f = 0 where A (ratio - 1) > 0 and KL(p, p_old) > max_divergence, else "
        "A ratio",
        f"clip: PPO, arXiv 1707.06347, in {FLOW}; divergence mask: {DPPO}",
        "unclipped",
        {"unclipped": {}, "clip": {"updates_per_rollout": 2}, "divergence mask": {"updates_per_rollout": 2}},
    ),
    "clip_range": Option(
        "see ratio",
        f"1e-4: {FLOW}, {DANCE}, {MIX}, {G2}; 1e-5: Flow-GRPO's fast settings",
        "with another ratio than clip",
        {1e-4: {}, 1e-3: {}},
    ),
    "max_divergence": Option("see ratio", DPPO, "with another ratio than divergence mask", {1e-5: {}, 1e-4: {}}),
    "kl_weight": Option(
        "loss + beta mean |mu - mu_ref|^2 / (2 std^2), a mean over latent elements; mu_ref with the LoRA off",
        f"{FLOW}; beta there, 0.01 to 0.04 with SD3.5 and 0 with FLUX, divides by 2 s^2, which leaves out dt: the same "
        "weight is beta |dt| here",
        "0",
        {0.0: {}, 0.01: {}},
    ),
    "step_weights": Option(
        "u_k: loss = 1/|K| sum_k u_k loss_k",
        "weights by step: TempFlow-GRPO, arXiv 2508.04324; the values are yours",
        "empty, or all 1",
        {"": {}, "1, 0.5": {"branch_steps": "0, 1"}},
    ),
    "global_advantage": Option(
        "A_i + clamp(g_i, -c, c); z_i = (r_i - m) / (s + 1e-8) with the running mean and std of the candidates' "
        "scores; g_i = z_i / sum of the positive z, or z_i / |sum of the negative z| where negative; z_i - mean z "
        "where a sum is below 1e-6",
        ADA,
        "off",
        {False: {}, True: {"candidates": 3}},
    ),
    # the step
    "optimizer_step": Option(
        "accumulated: one step with the gradient of sum_k loss_k. per_step: one with that of each loss_k",
        f"accumulated: the LoRA mode of {PAVE} as released; per_step: its DeepSpeed mode",
        "with one branch step and one prompt both are the same",
        {"accumulated": {}, "per_step": {}},
    ),
    "sample_ahead": Option(
        "the images of step n + 1 are drawn by the weights of step n, before its update: ratio_i = p(y_i) / p_old(y_i) "
        "with p_old by those weights",
        "one step off-policy, as asynchronous RLHF (arXiv 2410.18252); here for people and slow judges",
        "off",
        {False: {}, True: {"ratio": "clip"}},
    ),
    "ema_decay": Option(
        "w_ema = d w_ema + (1 - d) w after each optimizer step; w_ema is evaluated and saved",
        f"{FLOW} (0.9 at every 8th step, about 0.987 a step)",
        "0",
        {0.0: {}, 0.9: {}},
    ),
    "prompts_per_step": Option(
        "P: the mean of the loss over P prompts",
        f"1 a card: {PAVE} as released",
        "",
        {1: {}, 3: {}},
    ),
}

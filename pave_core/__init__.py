"""Pave-GRPO (arXiv 2606.01636) for flow models: the host-independent core.

Symbols, used under these names everywhere: sigma runs 1 (noise) -> 0 (image); x_sigma = (1 - sigma) x0 + sigma eps; velocity
v = dx/dsigma = eps - x0. T = denoising steps, K = the stochastic (branch) steps, G = group size, S = the segment set, *S in a
shape = the latent shape without its batch axis. Nothing in this package imports ComfyUI.
"""

__version__ = "0.3.0"

"""Pave-GRPO (arXiv 2606.01636) for flow models: the host-independent core. Nothing in it imports ComfyUI.

Symbols, the same in every module:

    sigma    noise level, from 1 (pure noise) to 0 (image): x_sigma = (1 - sigma) x0 + sigma eps
    v        velocity, dx/dsigma = eps - x0
    T        denoising steps
    K        branch steps, the stochastic ones of the T; in a shape, how many there are
    G        group size: the images of one branch step, which are compared with each other
    P        prompts of a training step
    S        segment set: the numbers of sub-steps into which a branch step is decomposed
    *S       in a shape, and unrelated to S: the latent shape without its batch axis
"""

__version__ = "0.3.0"

"""What autograd cannot differentiate in the host's networks, and how that is changed while gradients are computed.

tensors       weights that the host made under torch.inference_mode()
layers        weights that are cast, dequantised or copied to the device anew at each call
writes        x += y, and out= of the functions that the host's networks call
kernels       kernels without a gradient formula: comfy_kitchen's, Sage and Flash attention
recompute     functions that are computed again instead of kept (gradient checkpointing)
blocks        the blocks of a network, which are such functions where memory is short

network.DifferentiableNetwork puts them together, for as long as the adapter is in the model. What they replace acts
only in the thread that computes a gradient, and nothing is left behind.
"""

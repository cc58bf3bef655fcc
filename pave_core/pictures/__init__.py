"""Curves and sheets of images, as (H, W, 3) tensors in [0, 1]."""

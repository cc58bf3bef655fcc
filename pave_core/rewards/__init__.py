"""Rewards: scores of images. One file per reward; heavy libraries are imported when a reward is made."""

from .registry import register

__all__ = ["register"]

"""Rewards: scores of images. One file a reward; heavy imports happen inside, when a reward is made."""

from .registry import register

__all__ = ["register"]

"""Rewards as nodes."""

from . import judge, mix, networks, pixels, registered

NODES = [node for part in (pixels, mix, networks, registered, judge) for node in part.NODES]

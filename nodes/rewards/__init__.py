"""Rewards as nodes."""

from . import judge, mix, networks, person, pixels, registered

NODES = [node for part in (pixels, mix, networks, person, registered, judge) for node in part.NODES]

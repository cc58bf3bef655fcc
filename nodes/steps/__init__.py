"""The training loop as nodes: each wraps one part of a step, with its data visible on the wires."""

from . import begin_finish, loop, preview, rollout, scores, update

NODES = [node for part in (begin_finish, rollout, scores, update, loop, preview) for node in part.NODES]

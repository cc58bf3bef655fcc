"""The training loop as nodes: each is one part of a training step, with its data on the wires."""

from . import begin_finish, choice, loop, preview, rollout, scores, update

NODES = [node for part in (begin_finish, rollout, scores, choice, update, loop, preview) for node in part.NODES]

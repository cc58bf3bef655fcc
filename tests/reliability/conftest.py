"""Fixtures of several proofs."""

from _judge_server import serve  # noqa: F401 - serve(behave) -> a Server

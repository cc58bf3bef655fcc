"""The judge as a node: a reward from a server."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io

from ...pave_core.config.fields import widgets_of
from ...pave_core.errors import ConfigError, quoted
from ...pave_core.rewards.http.apis import INSTRUCTION, Chat, Scorer
from ...pave_core.rewards.http.endpoint import Endpoint
from ...pave_core.rewards.http.replies import Kind, ParseRule
from ...pave_core.rewards.judge import MAX_REQUESTS, Judge
from ..host import interrupt
from ..host.panel.notices import tell_once
from ..shared import schema
from ..shared.schema import Reward, advanced

CHAT, SCORES = "chat completions", "scores"


def _api(
    api: str,
    rule: tuple[Kind, str],
    *,
    model: str = "default",
    instruction: str = INSTRUCTION,
    max_tokens: int = 512,
    batch_size: int = 8,
) -> Chat | Scorer:
    """The API that the widget `api` chooses; the widgets of the other one do not matter. rule: (parse, pattern)."""
    if api == CHAT:
        return Chat(model, instruction, ParseRule(*rule), max_tokens)
    if api == SCORES:
        return Scorer(batch_size)
    raise ConfigError(f"api: {quoted(api)} is not known: choose {CHAT} or {SCORES}")


def _input(kind: Any, config: type, name: str, **more: Any) -> io.Input:
    """The input of a setting of `config`."""
    widget = widgets_of(config)[name]
    return kind.Input(name, default=widget.default, tooltip=widget.setting.help, **more)


def _number(kind: Any, config: type, name: str, **more: Any) -> io.Input:
    """The input of a number, with its range."""
    said = widgets_of(config)[name].setting
    return _input(kind, config, name, min=said.low, max=said.high, **more)


def _server() -> list[io.Input]:
    return [
        _input(io.String, Endpoint, "base_url"),
        io.Combo.Input(
            "api",
            options=[CHAT, SCORES],
            default=CHAT,
            tooltip="chat completions: a vision model that answers in words, one image per request. scores: a scorer "
            "that takes a batch and answers with numbers, like docs/rewards/hpsv3_server.py.",
        ),
    ]


def _chat() -> list[io.Input]:
    return [
        _input(io.String, Chat, "model"),
        _input(io.String, Chat, "instruction", multiline=True),
        io.Combo.Input(
            "parse",
            options=list(get_args(Kind)),
            default="number",
            tooltip="For chat completions only: where the score is. number: the last number. final score: "
            '"Final Score: 1-5", divided by 5. json key: the number under the key in pattern. regex: the group ( ) of '
            "pattern.",
        ),
        io.String.Input(
            "pattern",
            default="score",
            tooltip="For parse json key: the key, such as score or result.score; for regex: the pattern; not used "
            "otherwise.",
        ),
    ]


def _patience() -> list[io.Input]:
    return [
        _number(io.Float, Endpoint, "timeout", step=1.0),
        _number(io.Int, Endpoint, "retries"),
        io.Int.Input(
            "concurrency",
            default=4,
            min=1,
            max=MAX_REQUESTS,
            tooltip="More is faster as long as the server keeps up: requests at once.",
        ),
    ]


def _for_experts() -> list[io.Input]:
    return [
        advanced(_number(io.Int, Chat, "max_tokens")),
        advanced(_number(io.Int, Scorer, "batch_size")),
        advanced(_input(io.Boolean, Endpoint, "allow_remote")),
        advanced(_input(io.String, Endpoint, "key_variable")),
    ]


class PaveJudge(io.ComfyNode):
    """A vision model, or a scorer, behind HTTP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveJudge",
            "Pave Judge (HTTP)",
            terms=["vlm", "llm as a judge", "openai", "vllm", "ollama", "hpsv3", "unifiedreward", "api"],
            description="Reward: a server on your machine scores each image, such as a vision model with OpenAI's API "
            "or a scorer such as HPSv3. A reply that cannot be read is reported and never becomes a score.",
            inputs=[*_server(), *_chat(), *_patience(), *_for_experts()],
            outputs=[
                Reward.Output(
                    display_name="reward", tooltip="For Pave Train, Pave Reward Mix or the judge of Pave Train."
                )
            ],
        )

    @classmethod
    def validate_inputs(  # not keyword-only: the host asks for the names of the positional arguments
        cls,
        base_url: str | None = None,
        api: str | None = None,
        allow_remote: bool | None = None,
        key_variable: str | None = None,
        parse: Kind | None = None,
        pattern: str | None = None,
        model: str | None = None,
        instruction: str | None = None,
    ) -> bool | str:
        # The host checks the other inputs against their ranges, and the node checks all when it runs. A linked input is
        # None here.
        if base_url is None or api is None or allow_remote is None or key_variable is None:
            return True
        if parse is None or pattern is None or model is None or instruction is None:
            return True
        return schema.checked(
            lambda: (
                Endpoint(base_url, allow_remote, key_variable=key_variable),
                _api(api, (parse, pattern), model=model, instruction=instruction),
            )
        )

    @classmethod
    def execute(
        cls,
        base_url: str,
        api: str,
        *,
        model: str,
        instruction: str,
        parse: Kind,
        pattern: str,
        timeout: float,
        retries: int,
        concurrency: int,
        max_tokens: int,
        batch_size: int,
        allow_remote: bool,
        key_variable: str,
    ) -> io.NodeOutput:
        endpoint = Endpoint(base_url, allow_remote, timeout=timeout, retries=retries, key_variable=key_variable)
        chosen = _api(
            api,
            (parse, pattern),
            model=model,
            instruction=instruction,
            max_tokens=max_tokens,
            batch_size=batch_size,
        )
        return io.NodeOutput(Judge(endpoint, chosen, concurrency=concurrency, check=interrupt.check, notice=tell_once))


NODES = [PaveJudge]

"""The judge as a node: a reward from a server."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ...pave_core.errors import ConfigError
from ...pave_core.rewards.http.apis import INSTRUCTION, Chat, Scorer
from ...pave_core.rewards.http.endpoint import Endpoint
from ...pave_core.rewards.http.replies import Kind, ParseRule
from ...pave_core.rewards.judge import Judge
from ..host import interrupt
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
    raise ConfigError(f"api: {api!r} is not known: choose {CHAT} or {SCORES}")


def _server() -> list[io.Input]:
    return [
        io.String.Input(
            "base_url",
            default="http://127.0.0.1:8000/v1",
            tooltip="The server's address, to which /chat/completions or /score is added. It must be on this machine, "
            "unless allow_remote is on.",
        ),
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
        io.String.Input("model", default="default", tooltip="For chat completions: the model's name on the server."),
        io.String.Input(
            "instruction",
            default=INSTRUCTION,
            multiline=True,
            tooltip="For chat completions: what the model is told. {prompt} becomes the prompt of the image.",
        ),
        io.Combo.Input(
            "parse",
            options=list(get_args(Kind)),
            default="number",
            tooltip="For chat completions: where in the answer the score is. number: the last number. final score: "
            '"Final Score: 1-5", divided by 5. json key: the number under the key in pattern. regex: the group ( ) of '
            "pattern.",
        ),
        io.String.Input(
            "pattern",
            default="score",
            tooltip="For json key: the key, such as score or result.score. For regex: the pattern.",
        ),
    ]


def _patience() -> list[io.Input]:
    return [
        io.Float.Input(
            "timeout", default=60.0, min=0.1, max=3600.0, step=1.0, tooltip="Seconds to wait for one complete reply."
        ),
        io.Int.Input(
            "retries", default=2, min=0, max=20, tooltip="How often a request is repeated after a bad reply or none."
        ),
        io.Int.Input(
            "concurrency",
            default=4,
            min=1,
            max=64,
            tooltip="Requests at once. More is faster as long as the server keeps up.",
        ),
    ]


def _for_experts() -> list[io.Input]:
    max_tokens = "For chat completions: the longest answer, reasoning included."
    allow_remote = (
        "Off: only servers on this machine. On: images and prompts are sent to the address above, wherever that is."
    )
    key_variable = (
        "The name of an environment variable that holds the API key, beginning with PAVE_, such as PAVE_JUDGE_KEY. "
        "Never the key itself: workflows are shared. Empty: no key."
    )
    return [
        advanced(io.Int.Input("max_tokens", default=512, min=1, max=32768, tooltip=max_tokens)),
        advanced(io.Int.Input("batch_size", default=8, min=1, max=256, tooltip="For scores: images in one request.")),
        advanced(io.Boolean.Input("allow_remote", default=False, tooltip=allow_remote)),
        advanced(io.String.Input("key_variable", default="", tooltip=key_variable)),
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
    ) -> bool | str:
        # The host checks the other inputs against their ranges, and the node checks all when it runs. A linked input is
        # None here.
        if base_url is None or api is None or allow_remote is None or key_variable is None:
            return True
        if parse is None or pattern is None:
            return True
        return schema.checked(
            lambda: (Endpoint(base_url, allow_remote, key_variable=key_variable), _api(api, (parse, pattern)))
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
        return io.NodeOutput(Judge(endpoint, chosen, concurrency, interrupt.check))


NODES = [PaveJudge]

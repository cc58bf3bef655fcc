"""The loop around the step nodes, as nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...pave_core.errors import ConfigError
from ..host.graphs import checks, queue
from ..host.graphs.expansion import NOT_RUN, Loop, next_iterations
from ..host.panel.progress import forget_finished
from ..shared import schema


class PaveLoopBegin(io.ComfyNode):
    """Where each iteration starts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveLoopBegin",
            "Pave Loop Begin",
            "Repeats everything between here and Pave Loop End, each time with the state at the end of the previous "
            "iteration.",
            terms=["for loop", "repeat", "iterate"],
            category=schema.STEPS,
            inputs=[
                schema.State.Input("state", tooltip="The state to begin with, from Pave Begin."),
                io.Int.Input(
                    "iterations",
                    default=40,
                    min=0,
                    max=10_000,
                    tooltip="How long it trains: the steps that this loop makes now, also in a resumed run, which has "
                    "made others before (in Pave Train it is the length of the whole run). 0: none, to finish a "
                    "resumed run that is done.",
                ),
                io.AnyType.Input(
                    "value",
                    optional=True,
                    tooltip="Anything else that is to go around the loop, such as a count or a text.",
                ),
            ],
            outputs=[
                schema.Loop.Output(display_name="loop", tooltip="For Pave Loop End."),
                schema.State.Output(display_name="state", tooltip="The state at the beginning of the iteration."),
                io.AnyType.Output(display_name="value", tooltip="The value at the beginning of the iteration."),
                io.Int.Output(display_name="iteration", tooltip="0 in the first iteration, then 1, 2, 3, ..."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_loop_begin)

    @classmethod
    def execute(cls, state, iterations, value=None) -> io.NodeOutput:
        owner = state.check()
        if iterations or state.step:  # after 0 and 0, Pave Finish says that there is nothing to finish
            owner.run.expect(iterations)
        loop = Loop(cls.hidden.unique_id, owner, range(1, iterations))
        if iterations == 0:
            prompt = cls.hidden.dynprompt
            checks.check_no_iterations({node: prompt.get_node(node) for node in prompt.all_node_ids()}, loop.begin)
            return io.NodeOutput(loop, *3 * [NOT_RUN])
        return io.NodeOutput(loop, state, value, 0)


class PaveLoopEnd(io.ComfyNode):
    """Where each iteration ends."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveLoopEnd",
            "Pave Loop End",
            "Passes the state back to Pave Loop Begin until all iterations are done or the run's guard ends the run, "
            "then gives it out. Nodes inside the loop that show something show it in every iteration.",
            terms=["for loop", "repeat", "iterate"],
            category=schema.STEPS,
            enable_expand=True,
            is_input_list=True,  # else the host would run it once for each item of a list that comes from outside
            inputs=[
                schema.Loop.Input("loop", tooltip="From Pave Loop Begin."),
                # Raw: this node runs after the one that gives the state, and also where that was not to run.
                schema.State.Input(
                    "state",
                    tooltip="The state at the end of the iteration, from Pave Optimizer Step.",
                    extra_dict={"rawLink": True},
                ),
                io.AnyType.Input("value", optional=True, tooltip="Anything else that is to go around the loop."),
            ],
            outputs=[
                schema.State.Output(display_name="state", tooltip="The state after the last iteration."),
                io.AnyType.Output(display_name="value", tooltip="The value after the last iteration."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_loop_end)

    @classmethod
    def execute(cls, loop, state, value=(None,), **outside: Any) -> io.NodeOutput:
        if len(value) != 1:
            raise ConfigError(f"value: a list of {len(value)} cannot go around a loop: carry one value")
        (this,), (carried,) = loop, value
        forget_finished(f"{this.end}.")
        now = this.owner.state()
        if not this.left or this.owner.run.stopped:
            return io.NodeOutput(now, carried)
        new, outputs = next_iterations(
            this,
            cls.hidden.unique_id,
            carried={"state": now, "value": carried},
            outside=outside,
            prompt=cls.hidden.dynprompt,
        )
        return io.NodeOutput(*outputs, expand=new)


NODES = [PaveLoopBegin, PaveLoopEnd]

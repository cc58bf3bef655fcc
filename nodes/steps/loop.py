"""The loop around the step nodes, as nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.graphs import checks, queue
from ..host.graphs.expansion import Loop, next_iterations
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
                    min=1,
                    max=10_000,
                    tooltip="Training steps to make; in a resumed run, this many more.",
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
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_loop_begin)

    @classmethod
    def execute(cls, state, iterations, value=None) -> io.NodeOutput:
        state.check().run.expect(iterations)
        return io.NodeOutput(Loop(cls.hidden.unique_id, iterations), state, value, 0)


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
            inputs=[
                schema.Loop.Input("loop", tooltip="From Pave Loop Begin."),
                schema.State.Input("state", tooltip="The state at the end of the iteration, from Pave Optimizer Step."),
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
    def execute(cls, loop: Loop, state, value=None) -> io.NodeOutput:
        run = state.owner.run
        if run.stopped:
            return io.NodeOutput(state, value)
        inputs = {"state": state, "value": value}
        at_most = None if run.watch is None else run.watch.steps_to_check(run.state.step)
        following = next_iterations(
            loop, cls.hidden.unique_id, inputs=inputs, prompt=cls.hidden.dynprompt, at_most=at_most
        )
        if following is None:
            return io.NodeOutput(state, value)
        expansion, outputs = following
        return io.NodeOutput(*outputs, expand=expansion)


NODES = [PaveLoopBegin, PaveLoopEnd]

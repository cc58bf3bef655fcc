"""The route by which people steer the run that trains."""

from __future__ import annotations

from aiohttp import web
from server import PromptServer

from ....pave_core.errors import ConfigError, quoted
from ....pave_core.training.steering import ORDERS
from .acting import body_of, refused
from .live import live
from .runs import RUNS, is_listed

STEER = f"{RUNS}/{{name}}/steer"


def register() -> None:
    """POST /pave/runs/NAME/steer {"order": one of ORDERS}: the run acts on it at its next network call, and the answer
    does not wait for that. Once, as of routes.register.
    """
    routes = PromptServer.instance.routes
    if any(getattr(route, "path", None) == STEER for route in routes):
        return

    @routes.post(STEER)
    async def steer(request: web.Request) -> web.Response:
        order = (await body_of(request, {"order": str}))["order"]
        if order not in ORDERS:
            raise refused(web.HTTPBadRequest, f"order: {quoted(order)} is not one of {', '.join(ORDERS)}")
        name, now = request.match_info["name"], live()
        if now is None or now.name != name:
            if not await is_listed(name):
                raise refused(web.HTTPNotFound, f"there is no run {quoted(name)}")
            raise refused(web.HTTPConflict, f"{quoted(name)} does not train now, so that it cannot be steered")
        try:
            now.steering.order(order)
        except ConfigError as error:
            raise refused(web.HTTPConflict, str(error)) from None
        orders = now.steering.view()
        return web.json_response({"paused": orders.paused, "ordered": list(orders.waiting)})

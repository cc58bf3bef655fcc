"""Ways for the wires that would run over nodes: around the corners of these, by the page's reroutes.

A wire is drawn as the front end draws it (`curve`), and one that meets no node stays as it is. The others go by the
shortest way along corners, where each turn costs as much as a detour. Wires of one output share their way as long as
they can, and no two outputs turn at one place.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

CLEAR = 7.0
"""Pixels that a wire keeps from a node."""
LANES = (14.0, 24.0, 34.0, 44.0)
"""Pixels from a node's edges at which wires turn around its corners; nodes are at least 60 apart."""
TURN = 160.0
"""Pixels of detour that a turn is worth."""
APART = 9.0
"""Pixels between the turns of wires of different outputs."""
LEAST = 18.0
"""Pixels to the right of an output, or to the left of an input, within which a wire does not turn."""
_SOCKETS = np.array([14.0, 0.0, -14.0, 0.0])
"""What of a node its own wires may not meet: sockets lie within it, near its left or right edge."""
TRIES = 200
"""Of the wires of one output, until none meets a node."""
SAMPLES = 49
"""Points of a curve between two turns."""
LONGEST_TANGENT = 20.0
"""Of a reroute: what the front end's setting LiteGraph.Reroute.SplineOffset is at first."""


@dataclass(frozen=True)
class Wire:
    """A link, from the output of one node to the input of another, and where both are."""

    id: int
    origin: int
    start: Point
    target: int
    end: Point
    slot: int = 0  # of the output


@dataclass
class Reroute:
    """A turn. `parent` is the one before it, on the way from the output; `links` are all that come by."""

    id: int
    pos: Point
    parent: int | None
    links: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Routes:
    """The reroutes by id, and by the id of a link the last one on its way. `over`: links that still meet a node."""

    reroutes: dict[int, Reroute]
    last: dict[int, int]
    over: tuple[int, ...]


def curve(way: Sequence[Point], tangents: Sequence[Point]) -> NDArray[np.float64]:
    """Points along a wire as the front end draws it: [points, 2].

    way: the output, the turns and the input. tangents: the direction at each turn, of length 1.
    """
    ends = [(1.0, 0.0), *tangents, (1.0, 0.0)]
    t = np.linspace(0, 1, SAMPLES)[:, None]
    pieces = []
    for i, (a, b) in enumerate(zip(way, way[1:], strict=False)):
        length = math.dist(a, b) / 4
        of_turn = min(LONGEST_TANGENT, length)
        leaving = np.array(ends[i]) * (of_turn if i else length)
        coming = np.array(ends[i + 1]) * (of_turn if i + 2 < len(way) else length)
        p = [np.array(a), np.array(a) + leaving, np.array(b) - coming, np.array(b)]
        pieces.append((1 - t) ** 3 * p[0] + 3 * (1 - t) ** 2 * t * p[1] + 3 * (1 - t) * t**2 * p[2] + t**3 * p[3])
    return np.concatenate(pieces)


def tangent(before: Point, at: Point, after: Iterable[Point]) -> Point:
    """The direction at a turn: half way between that in which the wire comes and those in which it goes on."""
    going = [math.atan2(y - at[1], x - at[0]) for x, y in after]
    coming = math.atan2(at[1] - before[1], at[0] - before[0])
    half = (coming - sum(going) / len(going)) / 2
    if abs(half) > math.pi / 2:
        half += math.pi
    return (math.cos(coming - half), math.sin(coming - half))


def routes(boxes: dict[int, Box], wires: Sequence[Wire]) -> Routes:
    """Ways for `wires` around the nodes in `boxes`, which include their title bars."""
    if not wires:
        return Routes({}, {}, ())
    plan = _Plan(boxes, wires)
    by_output: dict[tuple[int, int], list[Wire]] = defaultdict(list)
    for wire in wires:
        if plan.meets(curve([wire.start, wire.end], []), wire):
            by_output[wire.origin, wire.slot].append(wire)
    trees = [plan.tree(group) for _, group in sorted(by_output.items(), key=lambda item: -_farthest(item[1]))]
    found = Routes({}, {}, tuple(sorted(link for tree in trees for link in tree.over)))
    for tree in trees:
        ids = {}
        for way in tree.ways.values():
            for place in way:
                ids.setdefault(place, len(found.reroutes) + len(ids) + 1)
        for link, way in tree.ways.items():
            for parent, place in zip((None, *way), way, strict=False):
                known = found.reroutes.setdefault(
                    ids[place], Reroute(ids[place], plan.places[place], None if parent is None else ids[parent])
                )
                known.links.append(link)
            if way:
                found.last[link] = ids[way[-1]]
    return found


def _farthest(wires: list[Wire]) -> float:
    return max(math.dist(wire.start, wire.end) for wire in wires)


@dataclass
class _Tree:
    """The wires of one output: the turns of each by their place, first to last, and those that still meet a node."""

    ways: dict[int, tuple[int, ...]]
    over: tuple[int, ...]


class _Plan:
    """The places where wires can turn, around corners and beside sockets, and which of them see each other."""

    def __init__(self, boxes: dict[int, Box], wires: Sequence[Wire]):
        self._ids = list(boxes)
        self._boxes = np.array(list(boxes.values()))
        outputs, inputs = sorted({wire.start for wire in wires}), sorted({wire.end for wire in wires})
        beside = [(x + LEAST + lane, y + down) for lane in LANES for down in (-LEAST, LEAST) for x, y in outputs]
        beside += [(x - LEAST - lane, y + down) for lane in LANES for down in (-LEAST, LEAST) for x, y in inputs]
        corners = np.concatenate([*(self._corners(lane) for lane in LANES), np.array(beside)])
        free = ~_inside(corners, _grown(self._boxes, LANES[0] - 1)).any(1)
        kept: list[Point] = []
        for x, y in corners[free].round():
            if all(abs(x - a) + abs(y - b) >= 4 for a, b in kept):
                kept.append((float(x), float(y)))
        self.places = kept
        at = np.array(kept)
        seen = _sees(at[:, None], at[None], _grown(self._boxes, CLEAR))
        lengths = np.linalg.norm(at[:, None] - at[None], axis=-1)
        between = np.where(seen & (lengths > 0), lengths + TURN, np.inf)
        self._costs = np.concatenate([between, np.full((1, len(at)), TURN)])
        self._taken = np.zeros(len(at), bool)
        self._at = at

    def _corners(self, lane: float) -> NDArray[np.float64]:
        left, top, right, bottom = _grown(self._boxes, lane).T
        corners = ((left, top), (right, top), (left, bottom), (right, bottom))
        return np.concatenate([np.stack(corner, 1) for corner in corners])

    def meets(self, points: NDArray[np.float64], wire: Wire) -> bool:
        """Whether a wire drawn through `points` comes near a node: its own two count only from their far side."""
        others = [i for i, node in enumerate(self._ids) if node not in (wire.origin, wire.target)]
        own = [i for i, node in enumerate(self._ids) if node in (wire.origin, wire.target)]
        near = _inside(points, _grown(self._boxes[others], 0.6 * CLEAR)).any()
        return bool(near or _inside(points, self._boxes[own] + _SOCKETS).any())

    def tree(self, wires: list[Wire]) -> _Tree:
        """Ways for the wires of one output, whose turns are then taken."""
        costs, best = self._costs.copy(), None  # to come to each place, from the places and, last, from the output
        costs[:, self._taken] = np.inf
        reach = {wire.id: (self._from_output(wire), self._to_input(wire)) for wire in wires}
        for _ in range(TRIES):
            ways: dict[int, tuple[int, ...]] = {}
            for wire in sorted(wires, key=lambda wire: -math.dist(wire.start, wire.end)):
                ways[wire.id] = self._way(costs, *reach[wire.id], ways)
            over = self._over(wires, ways)
            if best is None or len(over) < len(best.over):
                best = _Tree(ways, tuple(over))
            if not over:
                break
            costs[:, [place for bad in over.values() for place in bad]] += TURN
        assert best is not None
        used = self._at[sorted({place for way in best.ways.values() for place in way})]
        if len(used):
            self._taken |= (np.linalg.norm(self._at[:, None] - used[None], axis=-1) < APART).any(1)
        return best

    def _way(
        self,
        costs: NDArray[np.float64],
        from_output: NDArray[np.float64],
        to_input: NDArray[np.float64],
        ways: dict[int, tuple[int, ...]],
    ) -> tuple[int, ...]:
        """The cheapest way of a wire, on from any turn of the ways that its output has."""
        n = len(self._at)
        full = np.full((n + 2, n + 2), np.inf)
        full[: n + 1, :n] = costs
        full[n, :n] += from_output
        full[:n, n + 1] = to_input
        roads = {place: way[: i + 1] for way in ways.values() for i, place in enumerate(way)}
        for place in roads:  # what is there already costs nothing
            full[n, place] = 1.0
        full[~np.isfinite(full)] = 0
        _, before = dijkstra(full, indices=n, return_predecessors=True)
        way, place = [], n + 1
        while before[place] != n:
            place = before[place]
            if place < 0:
                return ()
            way.append(int(place))
        way.reverse()
        return (*roads[way[0]], *way[1:]) if way and way[0] in roads else tuple(way)

    def _from_output(self, wire: Wire) -> NDArray[np.float64]:
        """How far each place is from the output; inf where the wire cannot go there at once."""
        start = np.array(wire.start)
        free = (self._at[:, 0] > start[0] + LEAST) & _sees(start[None], self._at, self._boxes_for(wire.origin))
        return np.where(free, np.linalg.norm(self._at - start, axis=-1), np.inf)

    def _to_input(self, wire: Wire) -> NDArray[np.float64]:
        """How far each place is from the input; inf where the wire cannot come from there."""
        end = np.array(wire.end)
        free = (self._at[:, 0] < end[0] - LEAST) & _sees(self._at, end[None], self._boxes_for(wire.target))
        return np.where(free, np.linalg.norm(self._at - end, axis=-1), np.inf)

    def _boxes_for(self, own: int) -> NDArray[np.float64]:
        grown = _grown(self._boxes, CLEAR)
        i = self._ids.index(own)
        grown[i] = self._boxes[i] + _SOCKETS
        return grown

    def _points(self, way: tuple[int, ...]) -> list[Point]:
        return [self.places[place] for place in way]

    def _tangents(self, wires: list[Wire], ways: dict[int, tuple[int, ...]]) -> dict[int, Point]:
        after, before = defaultdict(list), {}
        for wire in wires:
            points = [wire.start, *self._points(ways[wire.id]), wire.end]
            for i, place in enumerate(ways[wire.id]):
                before[place] = points[i]
                after[place].append(points[i + 2])
        return {place: tangent(before[place], self.places[place], after[place]) for place in before}

    def _over(self, wires: list[Wire], ways: dict[int, tuple[int, ...]]) -> dict[int, list[int]]:
        """The links that meet a node, and the turns beside which they do."""
        tangents = self._tangents(wires, ways)
        return {
            wire.id: bad
            for wire in wires
            if (bad := self._bad_turns(wire, ways[wire.id], [tangents[place] for place in ways[wire.id]])) is not None
        }

    def _bad_turns(self, wire: Wire, way: tuple[int, ...], tangents: list[Point]) -> list[int] | None:
        """The turns of a way beside which its curve meets a node; None if it meets none."""
        drawn = curve([wire.start, *self._points(way), wire.end], tangents)
        pieces = [drawn[SAMPLES * i : SAMPLES * (i + 1)] for i in range(len(way) + 1)]
        met = [i for i, piece in enumerate(pieces) if self.meets(piece, wire)]
        return [place for i in met for place in way[max(0, i - 1) : i + 1]] if met else None


def _grown(boxes: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    return boxes + np.array([-by, -by, by, by])


def _inside(points: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[points, boxes]."""
    x, y = points[:, None, 0], points[:, None, 1]
    return (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])


def _sees(a: NDArray[np.float64], b: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the straight lines from a to b, which broadcast, miss all boxes."""
    a, b = np.broadcast_arrays(a, b)
    clear = np.ones(a.shape[:-1], bool)
    way = b - a
    with np.errstate(divide="ignore", invalid="ignore"):
        for left, top, right, bottom in boxes:
            enters, leaves = np.zeros(clear.shape), np.ones(clear.shape)
            outside = np.zeros(clear.shape, bool)
            for side, low, high in ((0, left, right), (1, top, bottom)):
                one, other = (low - a[..., side]) / way[..., side], (high - a[..., side]) / way[..., side]
                still = way[..., side] == 0
                outside |= still & ((a[..., side] <= low) | (a[..., side] >= high))
                enters = np.where(still, enters, np.maximum(enters, np.minimum(one, other)))
                leaves = np.where(still, leaves, np.minimum(leaves, np.maximum(one, other)))
            clear &= outside | (enters >= leaves)
    return clear

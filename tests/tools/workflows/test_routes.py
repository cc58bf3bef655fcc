"""Wires around nodes: none is lost, none runs over a node unnamed, and a way is one that the page can draw."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _workflows.routes import Wire, curve, routes, tangent

BOX = (200.0, 300.0)  # width and height of a node in these tests


def box(column, row, width=BOX[0], height=BOX[1]):
    left, top = column * 280.0, row * 400.0
    return (left, top, left + width, top + height)


def wire(id, boxes, origin, target, slot=0):
    start, end = boxes[origin], boxes[target]
    return Wire(
        id, origin, (start[2] - 9, start[1] + 40 + 20 * slot), target, (end[0] + 10, end[1] + 40 + 20 * slot), slot
    )


def way_of(found, link):
    """The turns of a link, from the output on."""
    way, turn = [], found.last.get(link)
    while turn is not None:
        way.append(found.reroutes[turn])
        turn = way[-1].parent
    return way[::-1]


def drawn(found, wires, one):
    """The curve of a wire as the page draws it: at a turn, it looks where all links go on that pass there."""
    ways = {each.id: way_of(found, each.id) for each in wires}
    tangents = []
    for i, turn in enumerate(ways[one.id]):
        before = ways[one.id][i - 1].pos if i else one.start
        after = []
        for link in turn.links:
            way = [*(each.pos for each in ways[link]), next(each.end for each in wires if each.id == link)]
            after.append(way[way.index(turn.pos) + 1])
        tangents.append(tangent(before, turn.pos, after))
    return curve([one.start, *(turn.pos for turn in ways[one.id]), one.end], tangents)


def over(points, boxes, one):
    return [
        node
        for node, (left, top, right, bottom) in boxes.items()
        if node not in (one.origin, one.target) and any(left < x < right and top < y < bottom for x, y in points)
    ]


def test_a_wire_in_the_clear_stays_as_it_is():
    boxes = {1: box(0, 0), 2: box(1, 0)}
    found = routes(boxes, [wire(1, boxes, 1, 2)])
    assert (found.reroutes, found.last, found.over) == ({}, {}, ())


def test_a_wire_goes_around_what_is_between():
    boxes = {1: box(0, 0), 2: box(1, 0), 3: box(2, 0)}
    one = wire(1, boxes, 1, 3)
    assert over(curve([one.start, one.end], []), boxes, one) == [2], "it would run over it"
    found = routes(boxes, [one])
    assert found.over == ()
    assert over(drawn(found, [one], one), boxes, one) == []
    assert len(way_of(found, 1)) == 2


def test_wires_of_one_output_share_their_way_and_those_of_two_do_not():
    boxes = {1: box(0, 0), 2: box(1, 0), 3: box(2, 0), 4: box(3, 0)}
    wires = [wire(1, boxes, 1, 4), wire(2, boxes, 1, 3), wire(3, boxes, 1, 4, slot=1)]
    found = routes(boxes, wires)
    assert found.over == ()
    shared, alone = {turn.id for turn in way_of(found, 2)}, {turn.id for turn in way_of(found, 3)}
    assert shared & {turn.id for turn in way_of(found, 1)}
    assert not alone & (shared | {turn.id for turn in way_of(found, 1)})
    places = [turn.pos for turn in found.reroutes.values()]
    assert all(math.dist(a, b) > 3 for a, b in combinations(places, 2))


def test_a_wire_with_no_way_is_named():
    walls = {3: (210.0, -50.0, 1000.0, 400.0), 4: (-50.0, -50.0, 205.0, -2.0), 5: (-50.0, 302.0, 205.0, 400.0)}
    boxes = {1: box(0, 0), 2: box(5, 0), **walls}
    found = routes(boxes, [wire(7, boxes, 1, 2)])
    assert found.over == (7,)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_graph(data):
    columns, rows = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    sizes = st.tuples(st.integers(80, 210), st.integers(60, 320))
    places = [(column, row) for column in range(columns) for row in range(rows)]
    boxes = {i: box(*place, *data.draw(sizes)) for i, place in enumerate(places, 1)}
    pairs = [(a, b) for a, b in combinations(boxes, 2) if places[a - 1][0] < places[b - 1][0]]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=8, unique=True))
    wires = [wire(i, boxes, *pair) for i, pair in enumerate(chosen, 1)]
    found = routes(boxes, wires)
    assert found == routes(boxes, wires)
    for one in wires:
        way = way_of(found, one.id)
        assert all(one.id in turn.links for turn in way)
        if one.id not in found.over:
            assert over(drawn(found, wires, one), boxes, one) == []
    assert all(turn.links for turn in found.reroutes.values())
    assert len(found.over) <= len(wires) / 4, "most have a way"


def test_a_tangent_is_half_way_between_coming_and_going():
    assert tangent((0, 0), (10, 0), [(20, 0)]) == pytest.approx((1, 0))
    assert tangent((0, 0), (10, 0), [(10, 10)]) == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))
    assert np.linalg.norm(tangent((0, 0), (3, 4), [(0, 9), (5, 5)])) == pytest.approx(1)

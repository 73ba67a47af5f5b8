"""`maxlite.plan.roofline`: the arithmetic of the least time."""

import pytest

from maxlite.chips import CHIPS, of_kind
from maxlite.plan.program import NETWORK, Exchange, Phase, Work
from maxlite.plan.roofline import bandwidth, least, split
from maxlite.plan.topology import parse

V5E = CHIPS["v5e"]
LINE = parse("v5e:4x4")
PLACES = [(0, x, y, 0) for x in range(4) for y in range(4)]
ROW, ALL = (0, 1, 2, 3), tuple(range(16))


def test_a_phase_takes_the_longest_of_what_can_overlap_and_all_that_cannot():
    second = 50e9 / 0.75  # the payload whose three quarters take a link a second
    hidden, opened = (Exchange("all-gather", second * n, ROW, n == 2) for n in (2, 3))
    phases = [
        Phase(10, flops=V5E.flops, traffic=4 * V5E.hbm, exchanges=[hidden, opened]),
        Phase(1, flops=7 * V5E.flops, traffic=V5E.hbm),
    ]
    found = least(Work(phases, []), LINE, PLACES)
    assert found.step == pytest.approx(10 * (4 + 3) + 7)
    assert found.compute == pytest.approx(17) and found.memory == pytest.approx(41)
    assert found.hidden == pytest.approx(20) and found.open == pytest.approx(30)
    assert found.network == 0


@pytest.mark.parametrize(
    ("name", "group", "links"),
    [
        ("v5e:4x4", ROW, 1),  # a line of four: its ends have one neighbour
        ("v5e:4x4", ALL, 2),  # a corner has two
        ("v5p:2x2x4", ALL, 3),
        ("v4:4x4x4", ROW, 2),  # whole cubes are joined to rings
        ("v5e:16x4", ROW, 1),
    ],
)
def test_links_are_those_of_the_least_connected(name, group, links):
    top = parse(name)
    sides = [range(side) for side in top.sides]
    places = [(0, x, y, z) for x in sides[0] for y in sides[1] for z in [*sides, range(1)][2]]
    if len(group) == 4:
        places = [(0, 0, i, 0) for i in range(4)]
    chip = top.chip
    assert bandwidth(top, places) == links * chip.link


def test_a_ring_of_sixteen_has_two_ways():
    top = parse("v5e:16x16")
    assert bandwidth(top, [(0, i, 0, 0) for i in range(16)]) == 2 * V5E.link
    assert bandwidth(top, [(0, i, 0, 0) for i in range(8)]) == V5E.link
    assert bandwidth(parse("h100:8"), [(0, i) for i in range(8)]) == CHIPS["h100"].link


def test_between_slices_only_a_share_goes_over_the_network():
    top = parse("2*v5e:2x2")
    places = [(s, x, y, 0) for s in range(2) for x in range(2) for y in range(2)]
    one = Exchange("all-reduce", 8e9, tuple(range(8)), False)
    within, between = split(one, top, places)
    assert within == pytest.approx(8e9 * 2 * 3 / 4 / (2 * V5E.link))
    assert between == pytest.approx(8e9 / 4 * 2 / 2 / V5E.network)
    assert split(Exchange(NETWORK, 5e9, (), False), top, places) == (0, 5e9 / V5E.network)
    alone = Exchange("all-gather", 8e9, (0, 4), False)
    assert split(alone, top, places) == (0, pytest.approx(4e9 / V5E.network))


def test_devices_of_one_chip_share_it():
    top = parse("tpu7x:2x2x1")
    found = least(Work([Phase(1, flops=1e12)], []), top, [])
    assert top.chips == 4 and top.devices == 8
    assert found.compute == 2 * 1e12 / CHIPS["tpu7x"].flops


def test_chips_are_known_by_the_longest_name():
    assert of_kind("TPU v5 lite") is of_kind("TPU v5e") is CHIPS["v5e"]
    assert of_kind("TPU v5") is of_kind("TPU v5p") is CHIPS["v5p"]
    assert of_kind("NVIDIA H100 80GB HBM3") is CHIPS["h100"] and of_kind("cpu") is None

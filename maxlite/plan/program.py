"""What a compiled program does in each of its loops: products, memory traffic, exchanges.

Sizes are those of one device. Memory traffic is what instructions read from and write to the
device's main memory: a fusion reads of a stack only the layer that it takes, and what lies on the
chip itself counts nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from maxlite.plan.hlo import Array, Computation, Instruction, Program, flops

COLLECTIVES = (
    *("all-gather", "reduce-scatter", "all-reduce", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)
NETWORK = "network"  # what a TPU's hosts carry between slices, whatever the collective
# What does no work, or whose work is counted elsewhere.
_FREE = (
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "while"),
    *("partition-id", "replica-id", "conditional", "call", "opt-barrier", "domain"),
)
_FREE_CALLS = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast|SliceId|Async\w+)"')
_PASSED_ON = ("parameter", "custom-call", *COLLECTIVES)  # of a fusion beside a collective
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclass(frozen=True)
class Exchange:
    """A collective.

    Attributes:
      kind: its name in HLO, or `NETWORK`.
      payload: bytes of the whole array on one device: gathered, or before it is scattered.
      group: numbers of the devices of one group that take part, in the order of the mesh.
      hidden: whether the compiler runs other work meanwhile.
    """

    kind: str
    payload: float
    group: tuple[int, ...]
    hidden: bool

    @property
    def sent(self) -> float:
        """Bytes that each device must send: on a ring, all but its own share of the payload."""
        if self.kind in ("collective-permute", NETWORK):
            return self.payload
        share = 1 - 1 / max(len(self.group), 1)
        return self.payload * share * (2 if self.kind == "all-reduce" else 1)


@dataclass
class Phase:
    """The body of a loop, or what is around all loops.

    Attributes:
      times: that it runs in a step.
      flops: of products, once.
      traffic: bytes to and from main memory, once.
      exchanges: of one run.
    """

    times: int
    flops: float = 0.0
    traffic: float = 0.0
    exchanges: list[Exchange] = field(default_factory=list)


@dataclass
class Work:
    """All that a program does.

    Attributes:
      phases: in no order.
      unknown: names of loops whose number of turns is not known; they count once.
    """

    phases: list[Phase]
    unknown: list[str]

    @property
    def flops(self) -> float:
        """Of products in a step, on one device."""
        return sum(phase.times * phase.flops for phase in self.phases)

    @property
    def traffic(self) -> float:
        """Bytes to and from one device's main memory in a step."""
        return sum(phase.times * phase.traffic for phase in self.phases)

    @property
    def sent(self) -> dict[str, float]:
        """Bytes that each device sends in a step, by kind of collective."""
        found: dict[str, float] = {}
        for phase in self.phases:
            for one in phase.exchanges:
                found[one.kind] = found.get(one.kind, 0.0) + phase.times * one.sent
        return dict(sorted(found.items()))


def work(program: Program, devices: int) -> Work:
    """Counts what a program does.

    Args:
      program: of one of several equal devices.
      devices: how many there are.
    """
    counter = _Counter(program, devices)
    counter.visit(program.entry, 1)
    return Work(counter.phases, counter.unknown)


class _Counter:
    def __init__(self, program: Program, devices: int):
        self.program, self.devices = program, devices
        self.phases: list[Phase] = []
        self.unknown: list[str] = []

    def visit(self, body: Computation, times: int) -> None:
        phase = Phase(times)
        self.phases.append(phase)
        self._add(body, phase)
        for one in body.instructions.values():
            if one.opcode == "while":
                turns = self.program.trips(body, one)
                if turns is None:
                    self.unknown.append(one.name)
                inner = self.program.called(one, "body")
                if inner:
                    self.visit(inner, times * (1 if turns is None else turns))
            elif one.opcode == "conditional":  # any branch may be the one
                for name in re.findall(r"%([\w.\-]+)", one.attributes.split("metadata=")[0]):
                    if name in self.program.computations:
                        self.visit(self.program.computations[name], times)

    def _add(self, body: Computation, phase: Phase, hidden: bool = False) -> None:
        """Everything that is not a loop."""
        for one in body.instructions.values():
            inner = None
            if one.opcode in ("call", "async-start"):
                inner = self.program.called(one) or self.program.called(one, "to_apply")
            if inner:
                self._add(inner, phase, hidden or one.opcode == "async-start")
                continue
            phase.traffic += moved(self.program, body, one)
            phase.flops += flops(one, body.operands(one))
            self._exchange(body, one, phase, hidden)
            if one.opcode == "fusion":
                self._fused(self.program.called(one), phase)

    def _fused(self, inner: Computation | None, phase: Phase) -> None:
        """Products and collectives within a fusion; its traffic is that of its operands."""
        if inner is None:
            return
        # A collective that runs beside other work stands in each fusion that it spans.
        begins = any(
            "AsyncCollectiveStart" in one.attributes for one in inner.instructions.values()
        )
        scatters = inner.name.startswith("all-reduce-scatter")
        for one in inner.instructions.values():
            if one.opcode == "fusion":
                self._fused(self.program.called(one), phase)
            phase.flops += flops(one, inner.operands(one))
            if one.opcode in COLLECTIVES and (begins or "chain_id=" not in one.attributes):
                kind = "reduce-scatter" if scatters else one.opcode
                phase.exchanges.append(self._of(kind, one, inner, hidden=begins))

    def _exchange(self, body: Computation, one: Instruction, phase: Phase, hidden: bool) -> None:
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            hidden = hidden or one.opcode.endswith("-start")
            phase.exchanges.append(self._of(kind, one, body, hidden))
        elif one.opcode == "send" and "megascale" in one.attributes:
            payload = sum(a.nbytes for a in one.arrays[:1])
            phase.exchanges.append(Exchange(NETWORK, payload, (), hidden=False))

    def _of(self, kind: str, one: Instruction, body: Computation, hidden: bool) -> Exchange:
        given = sum(operand.nbytes for operand in body.operands(one))
        everyone = group(one, self.devices)
        payload = given * len(everyone) if kind == "all-gather" else given
        return Exchange(kind, payload, everyone, hidden)


def moved(program: Program, body: Computation, one: Instruction) -> float:
    """Bytes that an instruction reads from main memory and writes there."""
    if one.opcode in _FREE or _FREE_CALLS.search(one.attributes):
        return 0
    if one.opcode.endswith(("-start", "-update")):
        return 0
    if one.opcode.endswith("-done"):  # one way at least: from main memory or to it
        return one.nbytes if one.opcode in ("copy-done", "slice-done") else 0
    operands = body.operands(one)
    if one.opcode in _SLICES:
        return _main(operands[0].arrays) and one.nbytes + _main(one.arrays)
    if one.opcode == "dynamic-update-slice":
        return 2 * operands[1].nbytes if _main(one.arrays) else 0
    inner = program.called(one) if one.opcode == "fusion" else None
    if inner is None:
        return _main(one.arrays) + sum(_main(operand.arrays) for operand in operands)
    total = _written(inner, inner.root, one.arrays)
    for number, operand in enumerate(operands):
        if _main(operand.arrays):
            total += _read(program, inner, number)
    return total


def _main(arrays: Iterable[Array]) -> float:
    return sum(array.nbytes for array in arrays if not array.space)


def _read(program: Program, inner: Computation, number: int) -> float:
    """How much of a parameter a fusion reads."""
    parameter = inner.parameters.get(number)
    if parameter is None:
        return 0
    total = 0.0
    for user, name in inner.users(parameter.name):
        nested = program.called(user) if user.opcode == "fusion" else None
        if user.opcode in _SLICES and user.operands[0] == name:
            total += user.nbytes
        elif nested:
            total += sum(
                _read(program, nested, i) for i, n in enumerate(user.operands) if n == name
            )
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue
        elif user.opcode not in ("tuple", *_PASSED_ON):
            return parameter.nbytes
    return min(total, parameter.nbytes)


def _written(inner: Computation, name: str, arrays: tuple[Array, ...]) -> float:
    """How much of its results a fusion writes to main memory."""
    one = inner.instructions.get(name)
    while one and one.opcode == "bitcast":
        one = inner.instructions.get(one.operands[0])
    if one and one.opcode == "tuple" and len(one.operands) == len(arrays):
        parts = zip(one.operands, arrays, strict=True)
        return sum(_written(inner, part, (array,)) for part, array in parts)
    if one and one.opcode in _PASSED_ON:
        return 0
    if one and one.opcode == "dynamic-update-slice" and _main(arrays):
        return inner.instructions[one.operands[1]].nbytes
    return _main(arrays)


def group(one: Instruction, devices: int) -> tuple[int, ...]:
    """The first group of devices of a collective, in the order of the mesh."""
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", one.attributes)
    if pairs:
        after = {int(a): int(b) for a, b in re.findall(r"(\d+),(\d+)", pairs[1] + "}")}
        ring = [next(iter(after))]
        while (following := after.get(ring[-1])) is not None and following not in ring:
            ring.append(following)
        return tuple(ring)
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", one.attributes)
    if listed:
        return tuple(int(n) for n in listed[1].split(","))
    # [groups, of]<=[sizes]T(order): the numbers in a grid of these sizes, its axes in that order
    tiled = re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", one.attributes
    )
    if tiled:
        shape, sizes, order = ([int(n) for n in (p or "").split(",") if n] for p in tiled.groups())
        grid = np.arange(math.prod(sizes)).reshape(sizes)
        return tuple(grid.transpose(order or range(len(sizes))).reshape(shape)[0].tolist())
    return _along(one.attributes) or tuple(range(devices))


def _along(attributes: str) -> tuple[int, ...]:
    """The first group along named axes: mesh['a'=2,'b'=4] {'b'}, or a part of one, 'b':(2)2."""
    found = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes)
    if not found:
        return ()
    sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", found[1])}
    numbers = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    index: list[slice | int] = [0] * len(sizes)
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", found[2]):
        step = sizes[name] // (int(before) * int(size)) if before else 1
        stop = step * int(size) if before else sizes[name]
        index[list(sizes).index(name)] = slice(0, stop, step)
    return tuple(np.atleast_1d(numbers[tuple(index)]).ravel().tolist())

"""The text of a compiled program (HLO), read as far as its cost is concerned.

XLA counts a loop's body once in its own cost analysis. Here the body is found, how often it runs,
and what each instruction in it computes and moves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_BITS = {"pred": 8, "token": 0, "opaque": 0}
# Products of queries and keys, and of their likes, in attention's forward pass and in the two
# kernels of its backward pass, which both compute the scores again.
_SPLASH = re.compile(r"splash_m[hq]a_(fwd|dq|dkv)_")
_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_COPIES = ("copy", "bitcast", "convert", "copy-start", "copy-done")


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result.

    Attributes:
      kind: its element type, as HLO names it.
      shape: on one device.
      space: the memory it lies in; 0 is the device's main memory, 1 a TPU's on-chip one.
    """

    kind: str
    shape: tuple[int, ...]
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> float:
        """Bytes; elements of 4 bits take half of one."""
        digits = re.search(r"\d+", self.kind)
        bits = _BITS.get(self.kind, int(digits[0]) if digits else 0)
        return self.size * bits / 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in the program.
      opcode: what it does.
      arrays: its result, a tuple's parts in order.
      operands: names of instructions of the same computation.
      literal: what stands between the brackets.
      attributes: the rest of the line.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    literal: str
    attributes: str

    @property
    def nbytes(self) -> float:
        """Bytes of the result, wherever it lies."""
        return sum(array.nbytes for array in self.arrays)

    def attribute(self, name: str) -> str:
        """The value of an attribute that is one word or a list in brackets; empty if absent."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.attributes)
        return found[1].lstrip("%") if found else ""

    def numbers(self, name: str) -> list[int]:
        """The numbers in an attribute, such as dimensions={0,1}."""
        return [int(n) for n in re.findall(r"\d+", self.attribute(name))]


@dataclass
class Computation:
    """A list of instructions, by name, in the order in which they run."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def operands(self, one: Instruction) -> list[Instruction]:
        """The instructions whose results one takes, in its order."""
        return [self.instructions[name] for name in one.operands if name in self.instructions]

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """By number."""
        found = self.instructions.values()
        return {int(one.literal): one for one in found if one.opcode == "parameter"}

    @cached_property
    def _users(self) -> dict[str, list[Instruction]]:
        found: dict[str, list[Instruction]] = {}
        for one in self.instructions.values():
            for name in one.operands:
                found.setdefault(name, []).append(one)
        return found

    def users(self, name: str) -> Iterator[tuple[Instruction, str]]:
        """Who reads an array, seen through bitcasts, and under which name."""
        for one in self._users.get(name, ()):
            if one.opcode == "bitcast":
                yield from self.users(one.name)
            else:
                yield one, name

    def constant(self, name: str) -> int | None:
        """The number that an instruction is a copy of."""
        one = self.instructions.get(name)
        while one and one.opcode in _COPIES and one.operands:
            one = self.instructions.get(one.operands[0])
        whole = one and one.opcode == "constant" and re.fullmatch(r"-?\d+", one.literal)
        return int(whole[0]) if whole else None


@dataclass
class Program:
    """A compiled program, as one device runs it."""

    computations: dict[str, Computation]
    entry: Computation

    def called(self, one: Instruction, attribute: str = "calls") -> Computation | None:
        """The computation that an attribute of an instruction names."""
        return self.computations.get(one.attribute(attribute))

    def trips(self, within: Computation, loop: Instruction) -> int | None:
        """How often the body of a `while` runs; None if the program does not say.

        Some compilers note it (`known_trip_count`). Otherwise the loop must count a number up to a
        constant: from where the number begins, by what the body adds to it.
        """
        noted = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if noted:
            return int(noted[1])
        condition, body = self.called(loop, "condition"), self.called(loop, "body")
        if not condition or not body:
            return None
        test = condition.instructions[condition.root]
        if test.opcode != "compare" or test.attribute("direction") not in ("LT", "NE"):
            return None
        counter = condition.instructions[test.operands[0]]
        limit = condition.constant(test.operands[1])
        index = counter.attribute("index")
        if limit is None or counter.opcode != "get-tuple-element":
            return None
        start = within.constant(within.instructions[loop.operands[0]].operands[int(index)])
        after = body.instructions[body.instructions[body.root].operands[int(index)]]
        if after.opcode != "add" or start is None:
            return None
        by = [n for n in map(body.constant, after.operands) if n is not None]
        return -(-(limit - start) // by[0]) if len(by) == 1 and by[0] > 0 else None


def parse(text: str) -> Program:
    """Reads what `jax.stages.Compiled.as_text` gives."""
    found: dict[str, Computation] = {}
    entry = current = Computation("")
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = found[head[2]] = Computation(head[2])
            entry = current if head[1] else entry
            continue
        match = _LINE.match(line)
        if match:
            one = _instruction(*match.groups()[1:])
            current.instructions[one.name] = one
            if match[1]:
                current.root = one.name
    return Program(found, entry)


def _instruction(name: str, kind: str, opcode: str, rest: str) -> Instruction:
    depth, end = 1, 0
    for end, letter in enumerate(rest):  # noqa: B007
        depth += (letter == "(") - (letter == ")")
        if not depth:
            break
    inside, after = rest[:end], rest[end + 1 :]
    operands = () if opcode == "constant" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, opcode, _arrays(kind), operands, inside.strip(), after)


def _arrays(kind: str) -> tuple[Array, ...]:
    found = []
    for element, sizes, layout in _ARRAY.findall(kind):
        space = re.search(r"S\((\d+)\)", layout)
        shape = tuple(int(n) for n in sizes.split(",") if n)
        found.append(Array(element, shape, int(space[1]) if space else 0))
    return tuple(found)


def flops(one: Instruction, operands: list[Instruction]) -> float:
    """Floating-point operations of a product of matrices, two for each pair of numbers in it.

    A TPU's compiler writes products as convolutions, whose windows may lie partly outside of what
    they go over: only the pairs that are there count. Attention's splash kernels, which no compiler
    looks into, count as causal, by their names and shapes. Everything else counts nothing.
    """
    kernel = _SPLASH.match(one.name) if one.opcode == "custom-call" else None
    if kernel:
        return _splash(kernel[1], operands)
    if one.opcode == "dot":
        shape = operands[0].arrays[0].shape
        return (
            2
            * one.arrays[0].size
            * math.prod(shape[i] for i in one.numbers("lhs_contracting_dims"))
        )
    return _convolution(one, operands) if one.opcode == "convolution" else 0


def _splash(part: str, operands: list[Instruction]) -> float:
    floats = [
        o.arrays[0] for o in operands if len(o.arrays[0].shape) > 2 and "f" in o.arrays[0].kind
    ]
    blocks = operands[0].arrays[0].shape[-1]  # of keys; one may be seen in part
    queries, keys = floats[0].size, floats[1].shape[-2]
    return _PRODUCTS[part] * 2 * queries * keys * (1 + 1 / blocks) / 2


def _convolution(one: Instruction, operands: list[Instruction]) -> float:
    lhs_names, rhs_names, out_names = re.split("_|->", one.attribute("dim_labels"))
    lhs, rhs = (dict(zip(n, o.arrays[0].shape, strict=True)) for n, o in
                zip((lhs_names, rhs_names), operands, strict=True))  # fmt: skip
    out = dict(zip(out_names, one.arrays[0].shape, strict=True))
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    given = dict(part.split("=") for part in window[1].split()) if window else {}
    pairs = out["b"] * out["f"] * rhs["i"]
    for number, axis in enumerate(sorted(n for n in out_names if n.isdigit())):

        def of(name: str, default: str, at: int = number) -> str:
            return given[name].split("x")[at] if name in given else default

        low = int(of("pad", "0_0").split("_")[0])
        outputs, taps = np.arange(out[axis])[:, None], np.arange(rhs[axis])[None]
        place = outputs * int(of("stride", "1")) - low + taps * int(of("rhs_dilate", "1"))
        apart = int(of("lhs_dilate", "1"))
        there = (place >= 0) & (place <= (lhs[axis] - 1) * apart) & (place % apart == 0)
        pairs *= int(there.sum())
    return 2 * pairs

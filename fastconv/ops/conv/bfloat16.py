"""Convolution over bfloat16 planes: one to three of them on the processor's tile unit, or one on vectors (``bf16``).

docs/convolution has the split, the products, and what each number of planes promises.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node
from fastconv.kernels import planes as kernels
from fastconv.kernels import tiles
from fastconv.kernels.cpu import Cpu
from fastconv.lowering.lower import Lowering
from fastconv.ops.conv import planes
from fastconv.ops.conv.choose import Algorithm, offer, promise
from fastconv.ops.conv.problem import Problem

PLANES = {"highest": 3, "high": 2, "medium": 1}
PRODUCTS = {1: 1, 2: 3, 3: 6}


class Bf16(Algorithm):
    """Operands rounded to bfloat16, float32 accumulation: VDPBF16PS, or the same by fused multiply-adds."""

    name = "bf16"
    fuses_backward_data = True
    takes_cropped = True

    @property
    def note(self) -> str:
        return "" if kernels.has_dot() else "bfloat16 products are emulated here: both operands rounded, then float32"

    def refuses(self, which: str, p: Problem) -> str | None:
        return "not for one channel per group" if p.depthwise else None

    def keeps(self, which: str, p: Problem, precision: str) -> str:
        return "medium"

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        C, K = (p.K, p.C) if which == "backward_data" else (p.C, p.K)
        rate = 2 * cpu.madds if kernels.has_dot() else 0.7 * cpu.madds
        lanes, pairs = -(-K // cpu.width) * cpu.width, C + C % 2
        arithmetic = p.multiply_adds / (K * C) * lanes * pairs / rate
        if which == "backward_weight":  # panels of interleaved pixels
            arithmetic *= 1.1 + 8 / min(C, 256) + 8 / min(K, 256)
        return max(1.08 * arithmetic + pointers(p), nbytes(p, 1) / cpu.memory_bytes) + splits(which, p, 1)

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.forward(cx, "bf16_conv_direct", 1, node, p)

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.backward_data(cx, "bf16_conv_direct", 1, node, p)

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.backward_weight(cx, "bf16_conv_backward_weight", 1, node, p)


class Tiles(Algorithm):
    """One, two or three planes per operand, as many as the precision asks for, on tiles."""

    name = tiles.NAME
    fuses_backward_data = True
    takes_cropped = True

    @property
    def note(self) -> str:
        return tiles.EMULATED if tiles.emulated() else ""

    def refuses(self, which: str, p: Problem) -> str | None:
        return "not for one channel per group" if p.depthwise else tiles.why_not()

    def keeps(self, which: str, p: Problem, precision: str) -> str:
        return precision

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        count = PLANES[precision]
        C, K = (p.K, p.C) if which == "backward_data" else (p.C, p.K)
        pixels = p.multiply_adds / (p.groups * K * C * p.taps)
        if which == "backward_weight":
            rows, columns, depth, times = -(-C // 16) * 16, -(-K // 16) * 16, pixels, p.taps
        else:
            rows, columns, depth, times = pixels, -(-K // 16) * 16, -(-C * p.taps // 32) * 32, 1
        products = p.groups * times * rows * columns * depth * PRODUCTS[count] / 512
        panels = count * p.groups * pixels * p.taps * C / 32 * (1 if which != "backward_weight" else 6)
        traffic = nbytes(p, count) / cpu.memory_bytes
        cost = max(1.5 * products + panels + pointers(p), traffic) + splits(which, p, count)
        return 1e4 * cost if tiles.emulated() else cost

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.forward(cx, tiles.FORWARD, PLANES[promise(cx)], node, p)

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.backward_data(cx, tiles.FORWARD, PLANES[promise(cx)], node, p)

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        planes.backward_weight(cx, tiles.BACKWARD_WEIGHT, PLANES[promise(cx)], node, p)


def pointers(p: Problem) -> float:
    """Cycles for the table of pointers to pixels."""
    return p.n * prod(p.y) * p.taps * p.groups


def nbytes(p: Problem, count: int) -> float:
    """Bytes of split input, split weights and output."""
    pixels = p.n * prod(p.y)
    return 2 * count * (p.n * prod(p.x) * p.groups * p.C + p.groups * p.K * p.C * p.taps) + 4 * pixels * p.groups * p.K


def splits(which: str, p: Problem, count: int) -> float:
    """Cycles for the planes of the operands: half a cycle per element, from measurements with one plane."""
    x, y = p.n * prod(p.x) * p.groups * p.C, p.n * prod(p.y) * p.groups * p.K
    return (0.35 + 0.15 * count) * {"forward": x, "backward_data": y, "backward_weight": x + y}[which]


offer(Tiles())
offer(Bf16())

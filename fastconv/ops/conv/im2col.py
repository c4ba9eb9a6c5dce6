"""The im2col algorithm: panels of unfolded pixels times weights, by BLAS.

One packed copy of the weights, [group][tap][channel][filter], serves the forward pass and backward to data.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import im2col, layout
from fastconv.kernels.cpu import Cpu
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref
from fastconv.ops.conv.choose import Algorithm, offer
from fastconv.ops.conv.problem import Problem, arriving, cut_parts, epilogue
from fastconv.ops.geometry import window_taps


class Im2col(Algorithm):
    name = "im2col"
    takes_cropped = True

    def refuses(self, which: str, p: Problem) -> str | None:
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        # measured with OpenBLAS: products of whole blocks of 16 filters at about half of the peak (LeNet-5's first
        # convolution, with 6 filters, at 4 %), plus an unfolded copy written and read again; and never less than the
        # memory's time, which all algorithms have in common
        panel = 8 * p.n * prod(p.y) * p.groups * p.C * p.taps
        filters = p.C if which == "backward_data" else p.K
        products = 2 * p.multiply_adds / filters * -(-filters // 16) * 16
        if which == "backward_weight":
            products += 64 * p.groups * p.K * p.C * p.taps  # the result, where it is a product of few pixels
        return max(products / cpu.madds + arriving(p, cpu), p.nbytes / cpu.memory_bytes) + panel / cpu.l2_bytes * 4

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        view, packed, target = cx.read(x), packed_weight(p, w, cx), cx.write(node.output)
        cx.step(im2col.forward, geometry(p, view.ld), x=view.ref, w=packed, y=target.ref, ldy=target.ld, info=p.describe(),
                **epilogue(node, cx))

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, w = node.inputs
        view, packed, target = cx.read(gy), packed_weight(p, w, cx), cx.write(node.output)
        cx.step(im2col.backward_data, geometry(p, target.ld), gy=view.ref, ldy=view.ld, w=packed, gx=target.ref,
                info=p.describe())

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, x = node.inputs
        out, view, gradient, floats = cx.write(node.output).ref, cx.read(x), cx.read(gy), prod(node.output.shape)
        problem = geometry(p, view.ld)
        parts = cut_parts(im2col.weight_tiles_per_part(problem), gy.shape[0] * prod(p.y), floats)
        partial = cx.temp(4 * floats * parts, "weight gradient")
        cx.step(im2col.backward_weight, problem, x=view.ref, gy=gradient.ref, ldy=gradient.ld, dw=partial, parts=parts,
                part_stride=floats, info=p.describe())
        cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, **packing(p))


def geometry(p: Problem, ldx: int) -> dict:
    """The forward problem, dense."""
    return {"groups": p.groups, "channels": p.C, "filters": p.K, "ldx": ldx, "input": p.x, "space": p.y,
            "stride": p.stride, "output": p.y, "taps": window_taps(p.kernel, p.low, p.dilation)}


def packing(p: Problem) -> dict:
    """Where weights lie in OIHW; one block holds all filters of a group."""
    return {"groups": p.groups, "filters": p.K, "channels": p.C, "group_stride": p.K * p.C * p.taps,
            "filter_stride": p.C * p.taps, "channel_stride": p.taps, "taps": list(range(p.taps)), "block": p.K}


def packed_weight(p: Problem, w: Tensor, cx: Lowering) -> Ref:
    """The weights as matrices, packed once per graph and weight."""
    known = cx.extra.setdefault("im2col weights", {})
    key = (w, p.groups)
    if key not in known:
        known[key], segment = cx.packed(4 * prod(w.shape), w)
        cx.step(layout.pack_weight, cx.read(w).ref, known[key], op="pack", segment=segment, **packing(p))
    return known[key]


offer(Im2col())

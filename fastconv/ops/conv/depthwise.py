"""Depthwise convolution: one input channel per group, channels in the lanes."""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node
from fastconv.graph.lower import Lowering, channels
from fastconv.kernels import conv as kernels
from fastconv.kernels.cpu import Cpu
from fastconv.ops.conv.choose import Algorithm, offer
from fastconv.ops.conv.direct import convolve, sum_weight
from fastconv.ops.conv.problem import Problem, epilogue, phases, source


class Depthwise(Algorithm):
    name = "depthwise"
    fuses_backward_data = True
    takes_cropped = True

    def refuses(self, which: str, p: Problem) -> str | None:
        if not p.depthwise:
            return "only for one input channel per group"
        if which == "backward_data" and p.K > 1:
            return "its gradient to data is for one filter per channel"
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        channels_ = -(-p.groups * p.K // cpu.width) * cpu.width
        return p.multiply_adds / (p.groups * p.K) * channels_ / cpu.madds * 2

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        view, geometry, pack = source(p, x, cx)
        convolve(cx, "f32_conv_depthwise", geometry, pack, w, view, cx.write(node.output), channels(x.shape), p.describe(),
                 epilogue(node, cx))

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, w = node.inputs[:2]
        view, gx = cx.read(gy), cx.write(node.output)
        roles = {"groups": p.groups, "channels": 1, "filters": p.groups, "multiplier": 1}
        pack = {"groups": 1, "filters": p.groups, "channels": 1, "filter_stride": p.taps, "channel_stride": 0}
        for origin, extents, taps, numbers in phases(p):
            geometry = {**roles, "taps": taps, "ldx": view.ld, "input": p.y, "space": extents, "stride": (1, 1, 1),
                        "output": p.x, "origin": origin, "output_step": p.stride}
            convolve(cx, "f32_conv_depthwise", geometry, {**pack, "taps": numbers}, w, view, gx, channels(gy.shape),
                     p.describe(len(taps) * prod(extents)), epilogue(node, cx))

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        view, geometry, pack = source(p, node.inputs[1], cx)
        filters = p.groups * p.K
        sum_weight(cx, "f32_conv_depthwise_backward_weight", node, p, view, geometry, pack,
                   -(-filters // kernels.block_filters()), p.taps * kernels.packed_filters(filters))


offer(Depthwise())

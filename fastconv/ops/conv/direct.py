"""Direct convolution (implicit GEMM over a list of taps) in all three passes, and its 1x1 form."""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import conv as kernels
from fastconv.kernels import layout
from fastconv.kernels.cpu import Cpu
from fastconv.kernels.many import each
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import View, channels
from fastconv.ops.conv.choose import Algorithm, offer
from fastconv.ops.conv.problem import Problem, arriving, cut_parts, epilogue, pack_phases, phases, runs_of_taps, source


class Direct(Algorithm):
    """Applies to every problem: the end of the list."""

    name = "direct"
    fuses_backward_data = True
    takes_cropped = True

    def refuses(self, which: str, p: Problem) -> str | None:
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        return estimate(which, p, cpu)

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        view, geometry, pack = source(p, x, cx)
        if p.depthwise:
            geometry.update(by_group(p))
            pack.update(groups=p.groups, filters=p.K, group_stride=p.K * p.taps)
        convolve(cx, f"f32_conv_{self.name}", [geometry], [pack], w, view, cx.write(node.output), channels(x.shape),
                 p.describe(), epilogue(node, cx))

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, w = node.inputs[:2]
        view, gx = cx.read(gy), cx.write(node.output)
        roles = {"groups": p.groups, "channels": p.K, "filters": p.C}
        pack = {"groups": p.groups, "filters": p.C, "channels": p.K, "group_stride": p.K * p.C * p.taps,
                "filter_stride": p.taps, "channel_stride": p.C * p.taps}
        geometries, packs, points = [], [], 0
        for origin, extents, taps, numbers in phases(p):
            geometries.append({**roles, "taps": taps, "ldx": view.ld, "input": p.y, "space": extents, "stride": (1, 1, 1),
                               "output": p.x, "origin": origin, "output_step": p.stride})
            packs.append({**pack, "taps": numbers})
            points += len(taps) * prod(extents)
        convolve(cx, f"f32_conv_{self.name}", geometries, packs, w, view, gx, channels(gy.shape), p.describe(points),
                 epilogue(node, cx))

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        view, geometry, pack = source(p, node.inputs[1], cx)
        if p.depthwise:
            geometry.update(by_group(p))
            pack.update(groups=p.groups, filters=p.K, group_stride=p.K * p.taps)
        taps, width, rows = len(geometry["taps"]), p.K, geometry["channels"]
        swapped = kernels.prefers_swapped(p.K, rows)
        if swapped:
            pack, width, rows = exchanged(pack), rows, p.K
        floats = p.groups * taps * rows * kernels.packed_filters(width)
        parts = max(1, min(-(-64 // p.groups), p.n * prod(p.y) // 1024, (1 << 20) // floats))
        sum_weight(cx, "f32_conv_backward_weight", node, p, view, geometry, pack, 0, floats, parts, swapped=swapped)


class Pointwise(Direct):
    """One tap, stride 1, no padding: a matrix product over pixels."""

    name = "pointwise"

    def refuses(self, which: str, p: Problem) -> str | None:
        if not p.pointwise:
            return "only for 1x1 kernels with stride 1 and no padding"
        if p.depthwise:
            return "not for one channel per group"
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        return 0.99 * estimate(which, p, cpu)  # no table of pointers to make


def by_group(p: Problem) -> dict:
    """A depthwise problem as a grouped one."""
    return {"groups": p.groups, "channels": 1, "filters": p.K, "multiplier": 1}


def estimate(which: str, p: Problem, cpu: Cpu) -> float:
    """Multiply-adds in whole vectors of filters, a table of pointers, a cycle for each weight of a gradient to be unpacked,
    and the bytes that pass through main memory."""
    filters = p.C if which == "backward_data" else p.K
    lanes = -(-filters // cpu.width) * cpu.width  # half a vector takes as long as a whole one,
    if lanes == cpu.width:
        lanes *= 2.5 if which == "backward_weight" and not runs_of_taps(p) else 1.25  # and a single one waits for loads
    if kernels.prefers_few(filters, p.K if which == "backward_data" else p.C):
        lanes = filters * 1.3
    arithmetic = p.multiply_adds / filters * lanes / cpu.madds
    pixels = p.n * prod(p.y)
    pointers = pixels * p.groups * p.taps // (p.kernel[2] if which != "backward_data" and runs_of_taps(p) else 1)
    unpacked = p.groups * p.K * p.C * p.taps if which == "backward_weight" else 0
    return max(1.08 * arithmetic + pointers + unpacked + arriving(p, cpu), p.nbytes / cpu.memory_bytes)


def convolve(cx: Lowering, kernel: str, geometries: list[dict], packs: list[dict], w: Tensor, x: View, y: View, row: int,
             info: dict, fused: dict) -> None:
    """Emits the packing of the weights and the convolution, of several problems that differ in their taps and in where they
    write as one step each; ``row`` channels are read of a pixel in the padding."""
    groups, filters, channels_ = (geometries[0][key] for key in ("groups", "filters", "channels"))
    if kernels.prefers_few(filters, channels_):
        kernel, floats = "f32_conv_few", groups * filters * channels_
        packs = [{**exchanged(pack), "block": channels_} for pack in packs]
    else:
        floats = groups * channels_ * kernels.packed_filters(filters)
    packed, offsets = pack_phases(cx, layout.pack_weights, w, packs, [4 * floats * len(g["taps"]) for g in geometries])
    cx.step(each, kernels.forward, geometries, "w", offsets, kernel, x=x.ref, w=packed, y=y.ref, ldy=y.ld,
            zeros=cx.zeros(max(channels_, row)), info=info, **fused)


def exchanged(pack: dict) -> dict:
    """How weights are packed with the roles of filters and channels exchanged."""
    return {**{key: pack[key] for key in ("taps", "groups", "group_stride", "tap_stride") if key in pack},
            "filters": pack["channels"], "filter_stride": pack["channel_stride"],
            "filter_run": pack.get("channel_run", 1), "filter_run_stride": pack.get("channel_run_stride", 0),
            "channels": pack["filters"], "channel_stride": pack["filter_stride"]}


def sum_weight(cx: Lowering, kernel: str, node: Node, p: Problem, view: View, geometry: dict, pack: dict, tiles: int,
               floats: int, parts: int = 0, **more) -> None:
    """Emits the partial sums of a weight gradient over ranges of pixels, ``parts`` if not by the number of tiles, and their
    sum in OIHW."""
    gy, x = node.inputs
    out, gy_view = cx.write(node.output).ref, cx.read(gy)
    parts = parts or cut_parts(tiles, p.n * prod(p.y), floats)
    partial = cx.temp(4 * floats * parts, "weight gradient")
    cx.step(kernels.backward_weight, kernel, geometry, x=view.ref, gy=gy_view.ref, ldy=gy_view.ld, dw=partial,
            zeros=cx.zeros(max(geometry["channels"], channels(x.shape))), parts=parts, part_stride=floats, info=p.describe(),
            **more)
    cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, **pack)


offer(Pointwise())
offer(Direct())

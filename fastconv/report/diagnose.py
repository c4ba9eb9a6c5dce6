"""Where the first value that is not finite came from: a forward is run again, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.graph.ir import PIXELS, Graph, Tensor
from fastconv.kernels.threads import threads_for
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image
from fastconv.lowering.program import Program


def first_not_finite(graph: Graph, lowered: Lowering, program: Program, n: int, arrays: Sequence[np.ndarray]) -> str:
    """The first tensor with an infinity or a NaN in the forward of ``n`` images, in words; "" where there is none.

    ``arrays`` are the inputs, to which the program's slots point. The forward is run again: what it writes of the module is
    for the caller to put back.
    """
    for tensor, array in zip(graph.inputs, arrays, strict=False):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{tensor.name} of the batch has {_count(array)}"
    for node in graph.nodes:
        for t in node.inputs:
            if t is not None and t.parameter is not None and not np.isfinite(t.parameter.data).all():
                who = f"the parameter {t.name!r}" if t.name else "a parameter"
                return f"{who}, of shape {t.shape}, of '{node.path}' ({node.op.name}) has {_count(t.parameter.data)}"
    steps, specs, threads = program.segments["forward"], lowered.specs["forward"], threads_for(program.threads)
    steps.set_batch(n)
    program.release(n)  # values are looked up in the plan's own memory
    for i, spec in enumerate(specs):
        steps.run(threads, i, i + 1)
        if spec.node is None or (i + 1 < len(specs) and specs[i + 1].node is spec.node):
            continue  # the operator's last step
        for tensor in spec.node.outputs:
            values = _values(tensor, lowered, program, n)
            if values is not None and not np.isfinite(values).all():
                where = f"'{spec.node.path}' ({spec.node.op.name})" if spec.node.path else spec.node.op.name
                return f"the output of {where}, of shape {(n, *tensor.shape[1:])}, is the first with {_count(values)}"
    return ""


def _values(tensor: Tensor, lowered: Lowering, program: Program, n: int) -> np.ndarray | None:
    view = lowered._views.get(tensor)
    if view is None or tensor.dtype != "float32" or view.ref.buffer.parameter is not None:
        return None
    if tensor.layout != PIXELS:
        return program.array(view.ref, tensor.shape)[: n if tensor.batched else None]
    pixels, c = n * pixels_per_image(tensor.shape), channels(tensor.shape)
    floats = program.array(view.ref, (max(0, (pixels - 1) * view.ld + c),)) if pixels else np.zeros(0, np.float32)
    return np.lib.stride_tricks.as_strided(floats, (pixels, c), (4 * view.ld, 4))


def _count(array: np.ndarray) -> str:
    nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return " and ".join(text for count, text in ((nan, f"{nan} NaN"), (inf, f"{inf} infinite values")) if count)

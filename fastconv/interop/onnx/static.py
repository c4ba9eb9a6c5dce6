"""What is known while tracing: shapes, and what follows from them and from constants. Evaluated by NumPy, or by the onnx
package's own reference where an operator is not among those that shapes need."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv.graph.batch import Batch
from fastconv.interop.onnx.table import Node, numbers

# Needs no input, or says something about one that is not known itself.
ALWAYS = ("Constant", "ConstantOfShape", "Range", "EyeLike", "RandomNormal", "RandomUniform", "HannWindow", "HammingWindow",
          "BlackmanWindow", "MelWeightMatrix")
MOST = 2**31  # bytes of what a node says of a few numbers: as much as a file can hold itself
NEVER = ("Shape", "Size", "Dropout", "If", "BitwiseNot", "BitShift")


def evaluate(node: Node, values: Sequence) -> list | None:
    """The outputs of a node whose inputs are known; None where it is to be computed like any other."""
    if node.op == "Constant":
        return [node.get("array")]
    if any(v is not None and v.dtype == object for v in values):
        found = with_batch(node, values)
        if found is not None:
            return [tidy(found)]
        values = [v if v is None else numbers(v) for v in values]
    if "." in node.op:  # of another domain than the standard's
        return None
    if sum(v.size for v in values if v is not None) > 1 << 20:
        return None  # weights: what computes them is planned like the rest
    check_size(node, values)
    try:
        return reference(node, values)
    except NotImplementedError:  # in this version of the operator: ours has all of them
        return None


def check_size(node: Node, values: Sequence) -> None:
    """Refuses what a small file makes large: no constant is larger than files can be. Other faults are told elsewhere."""
    given = [[float(v) for v in numbers(np.asarray(x)).reshape(-1)[:64]] for x in values if x is not None]
    count = 0.0
    if node.op == "ConstantOfShape" and given:
        count = prod(given[0])
    elif node.op == "Range" and len(given) == 3 and all(given) and given[2][0]:
        count = (given[1][0] - given[0][0]) / given[2][0]
    elif node.op in ("Expand", "Tile") and len(given) == 2:
        shape = (1,) * (len(given[1]) - values[0].ndim) + values[0].shape
        count = prod(s * n if node.op == "Tile" or s == 1 else s for s, n in zip(shape, given[1], strict=False))
    elif node.op == "OneHot" and len(given) > 1 and given[1]:
        count = values[0].size * given[1][0]
    elif node.op in ("HannWindow", "HammingWindow", "BlackmanWindow") and given and given[0]:
        count = given[0][0]
    elif node.op in ("RandomNormal", "RandomUniform"):
        count = prod(map(float, node.get("shape", ())))
    if count > MOST // 8:
        raise node.fail(f"its result has {count:,.0f} elements: at most {MOST // 8:,} are computed while a model is read")


def tidy(array: np.ndarray) -> np.ndarray:
    """An array of integers in which the batch is not any more, as such."""
    array = np.asarray(array, object)
    return array if any(type(v) is Batch for v in array.reshape(-1)) else numbers(array)


def with_batch(node: Node, values: Sequence) -> np.ndarray | None:
    """Operators that hand elements on without reading them: the batch stays what it is."""
    x = values[0]
    if node.op in ("Identity", "Cast", "CastLike"):
        return x if node.op == "Identity" or node.get("to", 7) in (6, 7) else None
    if node.op == "Gather" and node.get("axis", 0) in (0, -x.ndim):
        return np.take(x, numbers(values[1]), axis=0) if values[0].dtype == object and x.ndim == 1 else None
    if node.op == "Concat":
        return np.concatenate([np.asarray(v, object) for v in values], axis=node.get("axis"))
    if node.op in ("Unsqueeze", "Squeeze"):
        axes = node.get("axes") if len(values) < 2 or values[1] is None else numbers(values[1]).reshape(-1).tolist()
        if node.op == "Squeeze":
            return np.squeeze(x, tuple(axes) if axes else None)
        return np.expand_dims(x, tuple(axes))
    if node.op == "Slice":
        starts, ends = (numbers(v).reshape(-1).tolist() for v in values[1:3]) if len(values) > 1 else \
            (node.get("starts"), node.get("ends"))
        axes = numbers(values[3]).reshape(-1).tolist() if len(values) > 3 and values[3] is not None else \
            node.get("axes", list(range(len(starts))))
        steps = numbers(values[4]).reshape(-1).tolist() if len(values) > 4 and values[4] is not None else [1] * len(starts)
        cut: list[Any] = [slice(None)] * x.ndim
        for a, s, e, by in zip(axes, starts, ends, steps, strict=True):
            cut[a] = slice(s, None if by < 0 and e < -x.shape[a] else e, by)
        return x[tuple(cut)]
    if node.op == "Reshape":
        return x.reshape([int(v) for v in numbers(values[1])])
    if node.op == "Split":
        return None
    return None


def reference(node: Node, values: Sequence) -> list:
    """By the onnx package's reference implementation."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = [f"i{i}" if v is not None else "" for i, v in enumerate(values)]
    attributes = {key: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v
                  for key, v in node.attributes.items()}
    outputs = [f"o{i}" if name else "" for i, name in enumerate(node.outputs)]
    made = onnx.helper.make_node(node.op, names, outputs, **attributes)
    graph = onnx.helper.make_graph([made], "g", [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in names if n],
                                   [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in outputs if n])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.opset)])
    try:
        found = ReferenceEvaluator(model).run(None, {n: v for n, v in zip(names, values, strict=True) if n})
    except RuntimeError as error:
        missing = "No implementation" in str(error)
        raise node.fail(str(error).splitlines()[0], NotImplementedError if missing else ValueError) from None
    except Exception as error:  # whatever wrong attributes and shapes bring its NumPy code to raise
        raise node.fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from None
    results = iter(found)
    from fastconv.interop.onnx.reading import ours

    return [ours(np.asarray(next(results))) if name else None for name in node.outputs]

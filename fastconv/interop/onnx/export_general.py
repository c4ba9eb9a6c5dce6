"""The general operators written as ONNX: programs line by line, views as slices and transposes, contractions as Einsum."""

from __future__ import annotations

from math import prod
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

from fastconv.graph.ir import Node, Tensor
from fastconv.interop.onnx.export import Writer, shape_constant, writes
from fastconv.ops.copy import Map

LINES = {  # instructions that are operators of the standard, or two
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "fmod": "Mod", "maximum": "Max", "minimum": "Min",
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sqrt": "Sqrt",
    "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "softplus": "Softplus", "erf": "Erf", "reciprocal": "Reciprocal", "copy": "Identity",
    "relu": "Relu", "silu": None, "square": None, "rsqrt": None,
}
COMPARE = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
LOGIC = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin",
          "squares": "ReduceSumSquare", "norm": "ReduceL2", "abs_sum": "ReduceL1", "logsumexp": "ReduceLogSumExp"}


def refuse(node: Node, what: str) -> NotImplementedError:
    return NotImplementedError(f"{node.op.name} '{node.path}': {what} is not written as ONNX")


def to_type(w: Writer, name: str, dtype: str) -> str:
    kind = w.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return w.add("Cast", [name], to=kind)


def floats(w: Writer, tensor: Tensor) -> str:
    """A tensor as float32, which programs compute in."""
    name = w.name(tensor)
    return name if tensor.dtype == "float32" else to_type(w, name, "float32")


@writes("map")
def _map(w: Writer, node: Node) -> None:
    if node.attrs.get("random"):
        raise refuse(node, "what draws random numbers")
    values = [floats(w, t) for t in node.inputs]
    for line in node.attrs["program"]:
        operands = [values[o] if type(o) is int else w.constant(o, np.float32) for o in line[1:]]
        values.append(_line(w, node, line[0], operands))
    result, dtype = values[node.attrs["result"]], node.output.dtype
    if dtype != "float32":
        if dtype == "bool":
            result = w.add("Not", [w.add("Equal", [result, w.constant(0.0, np.float32)])])
        else:
            result = to_type(w, result, dtype)
    shape = list(node.output.type.shape)
    if any(list(t.type.shape) != shape for t in node.inputs) and not _covers(node, shape):  # all operands are repeated
        result = w.add("Expand", [result, _shape(w, node.output)])
    w.add("Identity", [result], [w.name(node.output)])


def _covers(node: Node, shape: list[int]) -> bool:
    """Whether broadcasting the inputs that are read gives the shape."""
    used = {o for line in node.attrs["program"] for o in line[1:] if type(o) is int} | {node.attrs["result"]}
    read = [t.type.shape for i, t in enumerate(node.inputs) if i in used]
    return list(np.broadcast_shapes(*read)) == shape if read else False


def _shape(w: Writer, tensor: Tensor) -> str:
    if tensor.batched:
        raise NotImplementedError("a result that is repeated along the batch is not written as ONNX")
    return w.constant(list(tensor.type.shape), np.int64)


def _line(w: Writer, node: Node, name: str, x: list[str]) -> str:
    def number(value: float) -> str:
        return w.constant(value, np.float32)

    def truth(value: str) -> str:
        return to_type(w, value, "float32")

    def boolean(value: str) -> str:
        return w.add("Not", [w.add("Equal", [value, number(0.0)])])

    if name in COMPARE:
        return truth(w.add(COMPARE[name], x))
    if name == "ne":
        return truth(w.add("Not", [w.add("Equal", x)]))
    if name in LOGIC:
        return truth(w.add(LOGIC[name], [boolean(v) for v in x]))
    if name == "logical_not":
        return truth(w.add("Equal", [x[0], number(0.0)]))
    if name == "where":
        return w.add("Where", [boolean(x[0]), x[1], x[2]])
    if name == "clamp":
        return w.add("Min", [w.add("Max", [x[0], x[1]]), x[2]])
    if name in ("isnan", "isinf"):
        return truth(w.add({"isnan": "IsNaN", "isinf": "IsInf"}[name], x))
    if name == "isfinite":
        return truth(w.add("Not", [w.add("Or", [w.add("IsNaN", x), w.add("IsInf", x)])]))
    if name == "square":
        return w.add("Mul", [x[0], x[0]])
    if name == "rsqrt":
        return w.add("Reciprocal", [w.add("Sqrt", x)])
    if name == "silu":
        return w.add("Mul", [x[0], w.add("Sigmoid", x)])
    if name == "fmod":
        return w.add("Mod", x, fmod=1)
    if name == "remainder":
        return w.add("Sub", [x[0], w.add("Mul", [x[1], w.add("Floor", [w.add("Div", x)])])])
    if name in ("floor_divide", "div_floor"):
        return w.add("Floor", [w.add("Div", x)])
    if name in ("div_trunc", "trunc"):
        q = w.add("Div", x) if name == "div_trunc" else x[0]
        return w.add("Mul", [w.add("Sign", [q]), w.add("Floor", [w.add("Abs", [q])])])
    if name == "frac":
        whole = w.add("Mul", [w.add("Sign", x), w.add("Floor", [w.add("Abs", x)])])
        return w.add("Sub", [x[0], whole])
    if name in ("log1p", "expm1", "exp2", "log2", "log10"):
        if name == "log1p":
            return w.add("Log", [w.add("Add", [x[0], number(1.0)])])
        if name == "expm1":
            return w.add("Sub", [w.add("Exp", x), number(1.0)])
        if name == "exp2":
            return w.add("Exp", [w.add("Mul", [x[0], number(np.log(2))])])
        return w.add("Mul", [w.add("Log", x), number(1 / np.log(2 if name == "log2" else 10))])
    if name == "fma":
        return w.add("Add", [w.add("Mul", x[:2]), x[2]])
    if name == "normal_cdf":
        inner = w.add("Erf", [w.add("Mul", [x[0], number(np.sqrt(0.5))])])
        return w.add("Mul", [w.add("Add", [inner, number(1.0)]), number(0.5)])
    if name == "expm1_negative":
        return w.add("Sub", [w.add("Exp", [w.add("Min", [x[0], number(0.0)])]), number(1.0)])
    if name == "erfc":
        return w.add("Sub", [number(1.0), w.add("Erf", x)])
    op = LINES.get(name)
    if op is None:
        raise refuse(node, f"the instruction {name}")
    return w.add(op, x)


@writes("reduce")
def _reduce(w: Writer, node: Node) -> None:
    a, x = node.attrs, node.inputs[0]
    if len(node.inputs) > 1 or "shape" in a:
        raise refuse(node, f"the reduction {a['operation']} of two operands")
    operation, dims, keep = a["operation"], list(a["dims"]), int(bool(a["keepdim"]))
    name = floats(w, x)
    axes = w.constant(dims, np.int64)
    out = [w.name(t) for t in node.outputs]

    def put(value: str, at: int = 0) -> None:
        w.add("Identity", [value], [out[at]])

    def reduce(op: str, value: str, keepdims: int = keep) -> str:
        return w.add(op, [value, axes], keepdims=keepdims)

    if not dims:
        if operation in ("sum", "mean", "max", "min", "prod"):
            return put(name)
        raise refuse(node, f"the reduction {operation} over no dimension")
    if operation in REDUCE:
        return put(reduce(REDUCE[operation], name))
    if operation in ("argmax", "argmin") and len(dims) == 1:
        op = "ArgMax" if operation == "argmax" else "ArgMin"
        w.add(op, [name], [out[0]], axis=dims[0], keepdims=keep)
        return put(reduce("ReduceMax" if operation == "argmax" else "ReduceMin", name), 1)
    if operation in ("moments", "var", "std", "rstd"):
        centred = w.add("Sub", [name, reduce("ReduceMean", name, 1)])
        total = reduce("ReduceSumSquare", centred)
        count = prod(x.type.shape[d] for d in dims)
        put(reduce("ReduceMean", name), 0 if operation == "moments" else 1)
        if operation == "moments":
            return put(total, 1)
        divisor = count - a.get("correction", 0.0) if operation != "rstd" else count
        value = w.add("Mul", [total, w.constant(1.0 / divisor, np.float32)])
        if operation == "rstd":
            value = w.add("Add", [value, w.constant(a.get("eps", 0.0), np.float32)])
        value = value if operation == "var" else w.add("Sqrt", [value])
        return put(w.add("Reciprocal", [value]) if operation == "rstd" else value)
    if operation in ("abs_max", "abs_min"):
        return put(reduce("ReduceMax" if operation == "abs_max" else "ReduceMin", w.add("Abs", [name])))
    if operation == "rms":
        mean = reduce("ReduceMean", w.add("Mul", [name, name]))
        return put(w.add("Reciprocal", [w.add("Sqrt", [w.add("Add", [mean, w.constant(a.get("eps", 0.0), np.float32)])])]))
    if operation in ("powers", "norm_p"):
        p = a["p"]
        total = reduce("ReduceSum", w.add("Pow", [w.add("Abs", [name]), w.constant(p, np.float32)]))
        return put(total if operation == "powers" else w.add("Pow", [total, w.constant(1 / p, np.float32)]))
    if operation in ("any", "all", "count_nonzero"):
        set_ = w.add("Not", [w.add("Equal", [name, w.constant(0.0, np.float32)])])
        value = reduce({"any": "ReduceMax", "all": "ReduceMin"}.get(operation, "ReduceSum"), to_type(w, set_, "float32"))
        return put(to_type(w, value, "int64" if operation == "count_nonzero" else "bool"))
    raise refuse(node, f"the reduction {operation}")


@writes("repeat_reduced")
def _repeat(w: Writer, node: Node) -> None:
    raise refuse(node, "a result that is repeated")


@writes("contract")
def _contract(w: Writer, node: Node) -> None:
    a = node.attrs
    left, right, addend = node.inputs
    operands, out = a["spec"].split("->")
    own = {label: 1 for label in out}
    for labels, t in zip(operands.split(","), (left, right), strict=True):
        own.update({label: n for label, n in zip(labels, t.type.shape, strict=True) if label in out and n != 1})
    there = "".join(label for label in out if label in operands)
    y = w.add("Einsum", [w.name(left), w.name(right)], equation=f"{operands}->{there}")
    new = [k for k, label in enumerate(out) if label not in operands]
    if new:
        y = w.add("Unsqueeze", [y, w.constant(new, np.int64)])
    repeated = {label: n for label, n in a["extents"].items() if label in out and own[label] != n}
    if a["vary"] in repeated:
        raise refuse(node, "a product that is repeated for each image")
    if repeated:
        y = w.add("Expand", [y, w.constant([repeated.get(label, 1) for label in out], np.int64)])
    if a["alpha"] != 1:
        y = w.add("Mul", [y, w.constant(a["alpha"], np.float32)])
    if addend is not None and a["beta"]:
        other = w.name(addend)
        if a["beta"] != 1:
            other = w.add("Mul", [other, w.constant(a["beta"], np.float32)])
        y = w.add("Add", [y, other])
    w.add("Identity", [y], [w.name(node.output)])


@writes("detach")
def _detach(w: Writer, node: Node) -> None:
    w.add("Identity", [w.name(node.inputs[0])], [w.name(node.output)])


@writes("cast")
def _cast(w: Writer, node: Node) -> None:
    kind = w.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(node.output.dtype))
    w.add("Cast", [w.name(node.inputs[0])], [w.name(node.output)], to=kind)


@writes("reshape")
def _reshape(w: Writer, node: Node) -> None:
    w.add("Reshape", [w.name(node.inputs[0]), shape_constant(w, node.output)], [w.name(node.output)])


@writes("view")
def _view(w: Writer, node: Node) -> None:
    mapped, x = Map(*node.attrs["map"]), node.inputs[0]
    w.add("Identity", [seen(w, node, w.name(x), x.type.shape, mapped, x.batched)], [w.name(node.output)])


def seen(w: Writer, node: Node, name: str, own, mapped: Map, batched: bool) -> str:
    """What a view shows of a tensor: a slice of each dimension, in another order, with new ones between."""
    used: dict[int, tuple[int, int]] = {}  # by dimension of the tensor: that of the view, and the step
    for k, term in enumerate(mapped.terms):
        if len(term) > 1 or term and term[0][0] in used:
            return gathered(w, node, name, own, mapped, batched)
        if term:
            used[term[0][0]] = k, term[0][1]
    slices: list[tuple[int, int, int, int]] = []
    for d, extent in enumerate(own):
        k, step = used.get(d, (-1, 1))
        count = mapped.shape[k] if k >= 0 else 1
        first = mapped.start[d]
        if count == extent and first == 0 and step == 1:
            continue
        end = first + (count - 1) * step + (1 if step > 0 else -1)
        slices.append((d, first, end if end >= 0 else -(2**62), step))
    if slices:
        columns = [w.constant([s[i] for s in slices], np.int64) for i in (1, 2, 0, 3)]
        name = w.add("Slice", [name, *columns])
    gone = [d for d in range(len(own)) if d not in used]
    if gone:
        name = w.add("Squeeze", [name, w.constant(gone, np.int64)])
    left = [d for d in range(len(own)) if d in used]
    order = [left.index(mapped.terms[k][0][0]) for k in range(len(mapped.terms)) if mapped.terms[k]]
    if order != sorted(order):
        name = w.add("Transpose", [name], perm=order)
    new = [k for k, term in enumerate(mapped.terms) if not term]
    if new:
        name = w.add("Unsqueeze", [name, w.constant(new, np.int64)])
        if any(mapped.shape[k] != 1 for k in new):
            if 0 in new and node.output.batched:
                raise refuse(node, "a repetition for each image")
            shape = [mapped.shape[k] if k in new else 1 for k in range(len(mapped.shape))]
            name = w.add("Expand", [name, w.constant(shape, np.int64)])
    return name


def gathered(w: Writer, node: Node, name: str, own, mapped: Map, batched: bool) -> str:
    """Diagonals and windows: by the numbers of elements, behind the batch."""
    lead = 1 if batched else 0
    if batched and not mapped.keeps_batch(own[0]):
        raise refuse(node, "a view across the batch")
    steps = [prod(own[d + 1:]) for d in range(len(own))]
    first = sum(s * steps[d] for d, s in enumerate(mapped.start) if d >= lead)
    places = np.full([1] * (len(mapped.shape) - lead), first, np.int64)
    for k in range(lead, len(mapped.shape)):
        shape = [-1 if i == k else 1 for i in range(lead, len(mapped.shape))]
        places = places + np.arange(mapped.shape[k]).reshape(shape) * sum(step * steps[d] for d, step in mapped.terms[k])
    flat = w.add("Reshape", [name, w.constant([0, -1] if batched else [-1], np.int64)])
    return w.add("Gather", [flat, w.constant(places, np.int64)], axis=lead)


class Piece(NamedTuple):
    """A part of an assembly: where it begins, how large it is, the name of what is there."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    name: str


@writes("assemble")
def _assemble(w: Writer, node: Node) -> None:
    a, out = node.attrs, w.name(node.output)
    shape = tuple(a["shape"])
    if a["add"]:
        raise refuse(node, "a sum of pieces that overlap")
    pieces = [piece for p in a["parts"] if prod(Map(*p.target).shape)
              for piece in [laid(w, node, node.inputs[p.tensor], Map(*p.source), Map(*p.target), len(shape))]]
    w.add("Identity", [assembled(w, node, pieces, (0,) * len(shape), shape)], [out])


def laid(w: Writer, node: Node, x: Tensor, source: Map, target: Map, rank: int) -> Piece:
    """A piece with the dimensions of the assembly, in their order and direction."""
    name = seen(w, node, w.name(x), x.type.shape, source, x.batched)
    gone = [k for k, term in enumerate(target.terms) if not term]
    terms = [(term[0], target.shape[k], k) for k, term in enumerate(target.terms) if term]
    dims = [d for (d, _), _, _ in terms]
    if any(len(term) > 1 for term in target.terms) or any(target.shape[k] != 1 for k in gone) or len(set(dims)) < len(dims):
        raise refuse(node, "a piece along a diagonal")
    start, size = list(target.start), [1] * rank
    for (d, step), extent, k in terms:
        size[d] = extent
        if step == -1:
            start[d] -= extent - 1
            name = w.add("Slice", [name, *(w.constant([v], np.int64) for v in (-1, -(2**62), k, -1))])
        elif step != 1 and extent > 1:
            raise refuse(node, "a piece with gaps")
    if gone:
        name = w.add("Squeeze", [name, w.constant(gone, np.int64)])
    if dims != sorted(dims):
        name = w.add("Transpose", [name], perm=[dims.index(d) for d in sorted(dims)])
    new = [d for d in range(rank) if d not in dims]
    if new:
        name = w.add("Unsqueeze", [name, w.constant(new, np.int64)])
    return Piece(tuple(start), tuple(size), name)


def assembled(w: Writer, node: Node, pieces: list[Piece], begin: tuple[int, ...], size: tuple[int, ...]) -> str:
    """A box of an assembly: a piece with a border, or boxes that lie one behind the other."""
    if len(pieces) == 1:
        low = [s - b for s, b in zip(pieces[0].start, begin, strict=True)]
        high = [n - a - m for n, a, m in zip(size, low, pieces[0].size, strict=True)]
        if not any(low) and not any(high):
            return pieces[0].name
        fill = w.constant(node.attrs["fill"] or 0, node.output.dtype)
        return w.add("Pad", [pieces[0].name, w.constant([*low, *high], np.int64), fill])
    for d in range(len(size)):
        groups: list[list[Piece]] = []
        reach = -1
        for piece in sorted(pieces, key=lambda p: p.start[d]):
            if piece.start[d] < reach:
                groups[-1].append(piece)
            else:
                groups.append([piece])
            reach = max(reach, piece.start[d] + piece.size[d])
        if len(groups) > 1:
            edges = [begin[d], *(group[0].start[d] for group in groups[1:]), begin[d] + size[d]]
            boxes = [assembled(w, node, group, (*begin[:d], low, *begin[d + 1:]), (*size[:d], high - low, *size[d + 1:]))
                     for group, low, high in zip(groups, edges, edges[1:], strict=False)]
            return w.add("Concat", boxes, axis=d)
    raise refuse(node, "an assembly of this kind")


@writes("resample")
def _resample(w: Writer, node: Node) -> None:
    from fastconv.ops.resample import taps

    x, name = node.inputs[0], w.name(node.inputs[0])
    letters = ascii_lowercase[: x.ndim]
    for rule in node.attrs["rules"]:
        found = taps(rule, node.attrs["adjoint"])
        size = rule[1] if not node.attrs["adjoint"] else rule[2]
        matrix = np.zeros((len(found.start) - 1, size), np.float32)
        counts = np.diff(found.start)
        np.add.at(matrix, (np.repeat(np.arange(len(counts)), counts), np.asarray(found[1])), found.weight)
        spec = f"{letters},z{letters[rule[0]]}->{letters.replace(letters[rule[0]], 'z')}"
        name = w.add("Einsum", [name, w.constant(matrix, np.float32)], equation=spec)
    w.add("Identity", [name], [w.name(node.output)])

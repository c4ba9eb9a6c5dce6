"""Models run on arrays, whatever of them depends on values, and what run() refuses."""

import copy

import numpy as np
import pytest

import fastconv as fc

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.interop.onnx.building import Builder  # noqa: E402
from fastconv.interop.onnx.table import Node  # noqa: E402

from .onnx_models import model, node  # noqa: E402

rng = np.random.default_rng(5)


def built(made):
    return Builder(made, ".").build().eval()


def same(net, made, *inputs):
    names = [i.name for i in made.graph.input]
    want = ReferenceEvaluator(made).run(None, dict(zip(names, inputs, strict=True)))
    got = net.run(*inputs)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return got


def detector():
    """Convolution, boxes and scores, suppression, the rows that are kept gathered, and something computed of them."""
    nodes = [node("Conv", ["x", "w"], ["f"], pads=[1, 1, 1, 1]), node("Reshape", ["f", "rows"], ["r"]),
             node("Slice", ["r", "zero", "four", "one"], ["b"]), node("Transpose", ["b"], ["boxes"], perm=[0, 2, 1]),
             node("Slice", ["r", "four", "seven", "one"], ["s"]), node("Sigmoid", ["s"], ["scores"]),
             node("NonMaxSuppression", ["boxes", "scores", "most", "limit", "floor"], ["kept"]),
             node("Slice", ["kept", "two", "three", "one"], ["column"]), node("Squeeze", ["column", "one"], ["places"]),
             node("Gather", ["boxes", "places"], ["chosen"], axis=1),
             node("ReduceMean", ["chosen", "two"], ["y"], keepdims=0)]
    number = {name: np.array([value]) for name, value in
              {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "seven": 7, "most": 64}.items()}
    return model(nodes, {"x": ["N", 3, 8, 8]}, {"kept": [None, 3], "y": [1, None]},
                 {"w": rng.standard_normal((7, 3, 3, 3), np.float32), "rows": np.array([0, 7, -1]),
                  "limit": np.array([0.3], np.float32), "floor": np.array([0.6], np.float32), **number})


def test_what_is_as_large_as_values_say():
    made = detector()
    net = built(made)
    extents = set()
    for scale in (3.0, 1.0, 0.1, 3.0, 0.0):  # fewer boxes, none, and the first again
        x = (scale * rng.standard_normal((1, 3, 8, 8))).astype(np.float32)
        extents.add(same(net, made, x)[1].shape)
    assert len(extents) > 2
    with pytest.raises(ValueError, match=r"NonMaxSuppression 'kept': .* call run\(\.\.\.\) of the loaded model"):
        fc.compile(net, (1, 3, 8, 8))


def test_plans_follow_weights_and_copies():
    made = detector()
    net = built(made)
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    first = same(net, made, x)
    again = copy.deepcopy(net).run(x)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    net.load_state_dict({"w": 0 * net.state_dict()["w"]})
    assert net.run(x)[0].shape == (0, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))  # results belong to the caller


def test_a_branch_that_values_decide():
    def branch(op, name):
        return helper.make_graph([node(op, ["x"], [name])], name, [], [helper.make_empty_tensor_value_info(name)])

    made = model([node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "one"], ["large"]),
                  node("If", ["large"], ["y"], then_branch=branch("Neg", "a"), else_branch=branch("Exp", "b"))],
                 {"x": [2, 3]}, {"y": [2, 3]}, {"one": np.float32(1)})
    net = built(made)
    for scale in (0.5, 2, 0.5):
        same(net, made, np.full((2, 3), scale, np.float32))


def test_an_output_that_is_a_weight_or_an_input():
    made = model([node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2], "w": [2, 2], "x": [2]},
                 {"w": np.arange(4, dtype=np.float32).reshape(2, 2)})
    net = built(made)
    got = net.run(np.array([-1, 1], np.float32))
    np.testing.assert_array_equal(got[1], [[0, 1], [2, 3]])
    got[1][:] = 7  # a result, not the weight
    np.testing.assert_array_equal(net.run(np.array([-1, 1], np.float32))[1], [[0, 1], [2, 3]])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_bit_by_bit(kind):
    """Of all bits, which float32 does not hold; the widths that tensors do not have too."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    info = [helper.make_tensor_value_info(n, number, [40]) for n in "ab"]
    limits = np.iinfo(kind)
    a, b = rng.integers(limits.min, limits.max, (2, 40), dtype=kind, endpoint=True)
    for op, want in (("BitwiseAnd", a & b), ("BitwiseOr", a | b), ("BitwiseXor", a ^ b), ("BitwiseNot", ~a)):
        given = ["a"] if op == "BitwiseNot" else ["a", "b"]
        graph = helper.make_graph([node(op, given, ["y"])], "bits", info[:len(given)],
                                  [helper.make_tensor_value_info("y", number, [40])])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        np.testing.assert_array_equal(built(made).run(*(a, b)[:len(given)])[0].astype(kind), want)
    bits = 8 * a.itemsize
    by = (np.arange(40) % (bits + 9) - (4 if limits.min else 0)).astype(kind)
    inside = (by >= 0) & (by < bits)
    amount, none = np.where(inside, by, 0).astype(kind), np.zeros(40, kind)
    for direction, want in (("LEFT", np.where(inside, a << amount, none)),
                            ("RIGHT", np.where(inside, a >> amount, none - (a < 0)))):
        graph = helper.make_graph([node("BitShift", ["a", "b"], ["y"], direction=direction)], "bits", info,
                                  [helper.make_tensor_value_info("y", number, [40])])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        np.testing.assert_array_equal(built(made).run(a, by)[0].astype(kind), want)


@pytest.mark.parametrize(("given", "error", "message"), [
    ((), ValueError, "0 inputs given: the model has x, y"),
    ((np.zeros(2, np.float32),), ValueError, "1 inputs given: the model has x, y"),
    (({"x": np.zeros((1, 2), np.float32)},), ValueError, "no input 'y': the model has x, y"),
    (({"x": np.zeros((1, 2), np.float32), "y": np.zeros(2, np.int64), "z": 1},), ValueError, "an input 'z'"),
    ((np.zeros((1, 2), np.int64), np.zeros(2, np.int64)), TypeError, "x has dtype int64: the model takes float32"),
    ((np.zeros((1, 2), np.float32), np.zeros(2, np.float32)), TypeError, "y has dtype float32: the model takes int64"),
    ((np.zeros(2, np.float32), np.zeros(2, np.int64)), ValueError, r"x of shape \(2,\) has 1 dimensions"),
    (("text", np.zeros(2, np.int64)), TypeError, "x is a str: expected an array"),
    ((np.array(["a"]), np.zeros(2, np.int64)), TypeError, "expected numbers"),
])
def test_what_run_refuses(given, error, message):
    net = built(model([node("Relu", ["x"], ["a"]), node("Neg", ["y"], ["b"])], {"x": ["N", 2], "y": ([2], "int64")},
                      {"a": ["N", 2], "b": ([2], "int64")}))
    with pytest.raises(error, match=message):
        net.run(*given)


def test_attributes_and_axes_that_are_wrong():
    for axes, message in (([3], "axes=3: expected -2 to 1"), ([0, -2], "expected each once"), ([0] * 9, "9 axes: expected")):
        net = built(model([node("ReduceProd", ["x", "axes"], ["y"])], {"x": [2, 3]}, {"y": [None]},
                          {"axes": np.array(axes)}))
        with pytest.raises(ValueError, match=f"ReduceProd 'y': .*{message}"):
            net.run(np.zeros((2, 3), np.float32))
    for bad, message in ((node("Conv", ["x"], ["y"]), "1 inputs: expected 2"),
                         (node("Concat", ["x", "x"], ["y"]), "the attribute axis is not given"),
                         (node("Softmax", ["x"], ["y"], axis="a"), "the attribute axis is of another kind"),
                         (node("Conv", ["x", ""], ["y"]), "the input W is not given")):
        with pytest.raises(ValueError, match=f"{bad.op_type} 'y': {message}"):
            built(model([bad], {"x": [2, 3]}, {"y": [None]}))


def test_operators_newer_than_the_set_of_the_model_are_held_against_the_standard_too():
    with pytest.raises(ValueError, match="BitCast 't': the input input is not given"):
        built(model([node("BitCast", [""], ["y"], "t", to=1)], {"x": [2, 3]}, {"y": [None]}, opset=17))


@pytest.mark.parametrize("error", (ValueError, TypeError, AttributeError, IndexError, ZeroDivisionError))
def test_errors_name_the_node_whatever_its_name(error):
    def fails(node, x):
        raise error("'NoneType' object has no attribute 'dtype'")

    for name in ("t", "object", "y"):  # which the message has in it
        with pytest.raises((ValueError, TypeError), match=f"BitCast '{name}': .*has no attribute"):
            Node("BitCast", name, {}, ["x"], ["y"], 26).call(fails, [None])


def test_split_claims_more_than_it_has():
    net = built(model([node("Split", ["x"], ["y", "z"], num_outputs=1 << 40)], {"x": [4]}, {"y": [2], "z": [2]}))
    with pytest.raises(ValueError, match="Split 'y': num_outputs=1099511627776: the node has 2"):
        net.run(np.zeros(4, np.float32))


def test_an_empty_batch():
    made = model([node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Shape", ["c"], ["s"], end=2),
                  node("Concat", ["s", "size"], ["all"], axis=0),
                  node("Resize", ["c", "", "", "all"], ["y"], mode="linear")],
                 {"x": ["N", 3, 8, 8]}, {"y": ["N", 4, 5, 13]},
                 {"w": rng.standard_normal((4, 3, 3, 3), np.float32), "size": np.array([5, 13])})
    net = built(made)
    for n in (2, 0, 1):
        assert net.run(np.ones((n, 3, 8, 8), np.float32))[0].shape == (n, 4, 5, 13)
    assert fc.compile(net, (2, 3, 8, 8))(np.ones((0, 3, 8, 8), np.float32)).shape == (0, 4, 5, 13)


def deformed(x, w, offset, mask, strides, pads, dilations, groups):
    """Convolution with moved taps, tap by tap, in float64."""
    n, c, height, width = x.shape
    outputs, per, rows, columns = w.shape
    moved = offset.shape[1] // (2 * rows * columns)
    y = np.zeros((n, outputs, *offset.shape[2:]))

    def at(image, row, column):
        inside = 0 <= row < height and 0 <= column < width
        return image[row, column] if inside else 0.0

    for i, o, r, q, k, a, b in np.ndindex(n, outputs, *offset.shape[2:], per, rows, columns):
        channel = o // (outputs // groups) * per + k
        place = (channel // (c // moved) * rows + a) * columns + b
        down = r * strides[0] - pads[0] + a * dilations[0] + float(offset[i, 2 * place, r, q])
        right = q * strides[1] - pads[1] + b * dilations[1] + float(offset[i, 2 * place + 1, r, q])
        top, left = int(np.floor(down)), int(np.floor(right))
        value = sum(at(x[i, channel], top + u, left + v) * abs(1 - u - down + top) * abs(1 - v - right + left)
                    for u in (0, 1) for v in (0, 1))
        y[i, o, r, q] += float(w[o, k, a, b]) * value * (1.0 if mask is None else float(mask[i, place, r, q]))
    return y


@pytest.mark.parametrize(("size", "kernel", "strides", "pads", "dilations", "groups", "moved", "masked"), [
    ((5, 6), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 1, False), ((7, 5), (3, 2), (2, 1), (1, 0, 1, 1), (1, 2), 2, 1, True),
    ((1, 6), (1, 3), (1, 2), (0, 1, 0, 1), (1, 1), 1, 2, True), ((6, 6), (1, 1), (1, 1), (0,) * 4, (1, 1), 4, 4, False)])
def test_convolution_with_moved_taps(size, kernel, strides, pads, dilations, groups, moved, masked):
    c, outputs, taps = 4, 8, kernel[0] * kernel[1]
    out = [(s + pads[i] + pads[i + 2] - d * (k - 1) - 1) // step + 1
           for i, (s, k, step, d) in enumerate(zip(size, kernel, strides, dilations, strict=True))]
    x = rng.standard_normal((2, c, *size)).astype(np.float32)
    w = rng.standard_normal((outputs, c // groups, *kernel)).astype(np.float32)
    b = rng.standard_normal(outputs).astype(np.float32)
    offset = (2 * rng.standard_normal((2, 2 * moved * taps, *out))).astype(np.float32)
    mask = rng.random((2, moved * taps, *out)).astype(np.float32) if masked else None
    names = ["x", "w", "offset", "b", *(["mask"] if masked else [])]
    inputs = {"x": list(x.shape), "offset": list(offset.shape), **({"mask": list(mask.shape)} if masked else {})}
    made = model([node("DeformConv", names, ["y"], strides=strides, pads=pads, dilations=dilations, group=groups,
                       offset_group=moved)], inputs, {"y": [None] * 4}, {"w": w, "b": b}, opset=19)
    got = built(made).run({"x": x, "offset": offset, **({"mask": mask} if masked else {})})[0]
    want = deformed(x, w, offset, mask, strides, pads, dilations, groups) + b.reshape(-1, 1, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * np.abs(want).max())

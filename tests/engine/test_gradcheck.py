"""gradcheck finds right gradients right and wrong ones wrong, and says where."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv.graph import ir
from fastconv.kernels import layout


@pytest.fixture(autouse=True)
def one_thread():
    fc.set_num_threads(1)
    yield
    fc.set_num_threads(1)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def broken(monkeypatch):
    """Replaces an operator's gradient rule by one made from it."""

    def replace(name, change):
        old = ir._operators[name]
        monkeypatch.setitem(ir._operators, name, ir.Operator(name, old.infer, old.lower, change(old.gradient)))

    return replace


CASES = {
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, padding=1, dilation=2), [(2, 3, 9), (4, 3, 3), (4,)]),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), [(2, 3, 7, 6), (4, 3, 3, 2), (4,)]),
    "grouped": (lambda x, w: F.conv2d(x, w, groups=2, stride=(1, 2)), [(2, 4, 5, 6), (6, 2, 2, 3)]),
    "depthwise": (lambda x, w: F.conv2d(x, w, groups=4, padding=2), [(1, 4, 5, 4), (8, 1, 3, 3)]),
    "conv3d": (lambda x, w: F.conv3d(x, w, padding=1, stride=2), [(1, 2, 4, 3, 5), (3, 2, 2, 3, 2)]),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1, 1, 3), [(2, 3, 5), (3, 4, 3), (4,)]),
    "conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1), [(2, 3, 4, 3), (3, 4, 3, 2), (4,)]),
    "conv_transpose2d, grouped": (lambda x, w: F.conv_transpose2d(x, w, None, (1, 3), groups=2),
                                  [(2, 4, 3, 4), (4, 3, 2, 2)]),
    "conv_transpose3d": (lambda x, w: F.conv_transpose3d(x, w, stride=(2, 1, 2)), [(1, 2, 2, 3, 2), (2, 3, 2, 2, 3)]),
    "pad, constant": (lambda x: F.pad(x, (1, -1, 2, 0, 1, 1)), [(2, 3, 4, 5)]),
    "pad, reflect": (lambda x: F.pad(x, (3, 2, 1, 2), "reflect"), [(2, 3, 3, 4)]),
    "pad, replicate": (lambda x: F.pad(x, (2, 1, 0, 3, 4, 1), "replicate"), [(1, 2, 2, 3, 2)]),
    "pad, circular": (lambda x: F.pad(x, (4, 3), "circular"), [(2, 3, 4)]),
    "linear": (F.linear, [(5, 7), (3, 7), (3,)]),
    "flattened": (lambda x, w: F.linear(F.flatten(x, 1), w), [(2, 3, 2, 2), (4, 12)]),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), [(3, 4, 3, 2), (4,), (4,)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), [(2, 3, 7, 6)]),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False), [(2, 2, 3, 4, 3)]),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), [(2, 3, 7)]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), [(2, 3, 5, 4)]),
    "twice the same weight": (lambda x, w: F.conv2d(F.tanh(F.conv2d(x, w, padding=1)), w), [(2, 3, 5, 5), (3, 3, 3, 3)]),
    "relu": (F.relu, [(3, 5, 7)]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), [(3, 5, 7)]),
    "relu6": (lambda x: F.relu6(F.add(x, 3.0)), [(3, 5, 7)]),
    "sigmoid": (F.sigmoid, [(3, 5, 7)]),
    "silu": (F.silu, [(3, 5, 7)]),
    "hardswish": (F.hardswish, [(3, 5, 7)]),
    "hardsigmoid": (F.hardsigmoid, [(3, 5, 7)]),
    "gelu": (F.gelu, [(3, 5, 7)]),
    "gelu, tanh": (lambda x: F.gelu(x, "tanh"), [(3, 5, 7)]),
    "elu": (lambda x: F.elu(x, 0.7), [(3, 5, 7)]),
    "softmax": (F.softmax, [(4, 6, 2, 3)]),
    "log_softmax": (F.log_softmax, [(4, 6)]),
    "mse_loss": (F.mse_loss, [(3, 4, 2), (3, 4, 2)]),
    "mse_loss, none": (lambda x, t: F.mse_loss(x, t, reduction="none"), [(3, 4, 2), (3, 4, 2)]),
    "cat": (lambda x, y: F.tanh(F.cat([x, y, x], 1)), [(2, 3, 4), (2, 2, 4)]),
    "add, broadcast": (lambda x, y: F.tanh(F.add(x, y)), [(2, 3, 4, 4), (2, 3, 1, 1)]),
    "residual": (lambda x, w, b: F.relu(F.add(F.conv2d(x, w, b, padding=1), x)), [(2, 3, 5, 4), (3, 3, 3, 3), (3,)]),
    "unfold": (lambda x: F.unfold(x, (2, 3), padding=1), [(2, 3, 4, 5)]),
    "fold": (lambda x: F.fold(x, (4, 5), (2, 3), stride=(1, 2)), [(2, 12, 6)]),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_right(name):
    function, shapes = CASES[name]
    assert F.gradcheck(function, [normal(*s, seed=i) for i, s in enumerate(shapes)])


@pytest.mark.parametrize("keywords", [{}, {"label_smoothing": 0.2, "reduction": "sum"}, {"reduction": "none"}])
def test_cross_entropy(keywords):
    target = np.random.default_rng(3).integers(0, 4, (5, 2))
    target[2, 1] = -100
    assert F.gradcheck(lambda x, t: F.cross_entropy(x, t, **keywords), [normal(5, 4, 2), target])


def test_a_random_function_cannot_be_checked():
    with pytest.raises(ValueError, match="two results"):
        F.gradcheck(lambda x: F.dropout(x, 0.5), [normal(4, 50)])


def test_inputs_are_left_alone():
    arrays = [normal(2, 3, 5, 5), normal(4, 3, 3, 3, seed=1)]
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    F.gradcheck(F.conv2d, arrays)
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("share", [0.0, 0.99, -1.0])
def test_a_wrong_gradient_is_found(broken, share):
    """The gradient of the weight off by a factor, 1 % included; the one of the input right."""

    def scaled(rule):
        def gradient(node, grads):
            gx, gw, gb = [*rule(node, grads), None][:3]
            return [gx, ir.apply("test_scale", [gw], factor=share), gb][: len(node.inputs)]

        return gradient

    def lower(node, cx):
        view, out = cx.read(node.inputs[0]), cx.write(node.output)
        cx.step(_scaled, view.ref, out.ref, count=int(np.prod(node.output.shape)), factor=node.attrs["factor"])

    ir._operators.pop("test_scale", None)
    ir.register(ir.Operator("test_scale", lambda inputs, attrs: [inputs[0].type], lower))
    try:
        broken("linear", scaled)
        x, w, b = normal(3, 4), normal(5, 4, seed=1), normal(5, seed=2)
        with pytest.raises(F.GradcheckError, match=r"input 1\[\d, \d\]: analytic .*, numeric .*, relative") as caught:
            F.gradcheck(F.linear, [x, w, b])
        worst = caught.value.worst
        assert worst.name == "input 1" and worst.relative > 0.5 * abs(1 - share)
        assert worst.analytic == pytest.approx(share * worst.numeric, rel=1e-3, abs=1e-6)
        assert worst.checked == x.size + w.size + b.size
        assert F.gradcheck(F.linear, [x, w, b], raise_exception=False) is False
    finally:
        ir._operators.pop("test_scale")


def _scaled(source, target, *, count, factor):
    """A step that writes factor times a vector: a convolution's BatchNorm folding with gamma = factor does it."""
    gamma, zero = np.array([factor], np.float32), np.zeros(1, np.float32)
    one, out = np.ones(1, np.float32), np.zeros(1, np.float32)
    step = layout.fold_batchnorm(source, 0, gamma.ctypes.data, 0, zero.ctypes.data, one.ctypes.data, target,
                                 out.ctypes.data, filters=1, per_filter=count, eps=0.0)
    for array in (gamma, zero, one, out):
        step.keep(array)
    return step


def test_a_forgotten_gradient_is_found(broken):
    broken("conv", lambda rule: lambda node, grads: [None, *rule(node, grads)[1:]])
    with pytest.raises(F.GradcheckError, match=r"input 0\[0, \d, \d, \d\]: analytic 0, numeric"):
        F.gradcheck(lambda x, w: F.conv2d(x, w, padding=1), [normal(1, 2, 4, 4), normal(3, 2, 3, 3, seed=1)])


def test_a_transposed_gradient_is_found(broken):
    """Right in magnitude, wrong in place: padding in front and behind exchanged."""

    def change(rule):
        def gradient(node, grads):
            swapped = ir.Node(node.op, node.inputs, {**node.attrs, "padding": tuple(p[::-1] for p in node.attrs["padding"])},
                              node.path, node.segment)
            return rule(swapped, grads)

        return gradient

    broken("conv", change)
    x, w = normal(1, 2, 4, 4), normal(3, 2, 3, 3, seed=1)
    assert F.gradcheck(lambda x, w: F.conv2d(x, w, padding=1), [x, w])
    with pytest.raises(F.GradcheckError):
        F.gradcheck(lambda x, w: F.conv2d(x, w, padding=((0, 2), (1, 1))), [x, w])


def test_a_missing_rule_is_said(broken):
    broken("linear", lambda rule: None)
    with pytest.raises(NotImplementedError, match="linear"):
        F.gradcheck(F.linear, [normal(2, 3), normal(4, 3)])


def test_parameters_of_an_engine_and_of_a_module():
    net = fc.nn.Sequential(fc.nn.Conv2d(2, 3, 3, padding=1), fc.nn.Flatten(), fc.nn.Linear(48, 4))
    before = [p.numpy() for p in net.parameters()]
    x = normal(2, 2, 4, 4)
    assert F.gradcheck(fc.compile(net, x.shape, training=True), x)
    assert F.gradcheck(net, x)
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)


def test_an_engine_with_a_wrong_gradient(monkeypatch):
    net = fc.nn.Linear(4, 3)
    engine = fc.compile(net, (2, 4), training=True)
    right = engine.backward

    def wrong(*grads):
        right(*grads)
        net.bias.grad = net.bias.grad * np.float32([1, 1.01, 1])

    monkeypatch.setattr(engine, "backward", wrong)
    with pytest.raises(F.GradcheckError, match=r"\[1\]: analytic"):
        F.gradcheck(engine, normal(2, 4))


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="function"):
        F.gradcheck(3, [normal(2, 3)])
    with pytest.raises(TypeError, match="input 0 has dtype float64"):
        F.gradcheck(F.linear, [np.zeros((2, 3)), normal(4, 3)])
    with pytest.raises(ValueError, match="eps"):
        F.gradcheck(F.linear, [normal(2, 3), normal(4, 3)], eps=0)
    with pytest.raises(ValueError, match="finite"):
        F.gradcheck(F.linear, [np.full((2, 3), np.nan, np.float32), normal(4, 3)])
    with pytest.raises(ValueError, match="weight is an activation"):
        F.gradcheck(lambda x: F.linear(x, x), [normal(3, 3)])


def test_large_inputs_are_sampled(broken):
    x, w = normal(2, 600), normal(3, 600, seed=1)
    broken("linear", lambda rule: lambda node, grads: [None, *rule(node, grads)[1:]])
    with pytest.raises(F.GradcheckError, match="worst of 100 elements"):
        F.gradcheck(F.linear, [x, w], max_elements=50)

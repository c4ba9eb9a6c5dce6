"""Arrays that lie as the plan wants them are used where they are, in and out; results are those of copied arrays."""

import gc

import numpy as np
import pytest
from kernels.guarded import guarded

import fastconv as fc
from fastconv import functional as F
from fastconv import nn, zoo
from fastconv.engine.training import LossTape, TrainingTape

rng = np.random.default_rng(3)


def last(values):
    """The same values channels-last, the last of them at a guard page: reading or writing behind it ends the process."""
    values = np.asarray(values, np.float32)
    pixels = guarded((values.shape[0], *values.shape[2:], values.shape[1]))
    pixels[...] = np.moveaxis(values, 1, -1)
    return np.moveaxis(pixels, -1, 1)


def is_last(array):
    return np.moveaxis(array, 1, -1).flags.c_contiguous


def bound(engine, segment="forward"):
    """Which doors of the last run were none, in the order of inputs and outputs."""
    return [door.bound for door in engine._current[1].doors[segment]]


def images(*shape):
    return rng.standard_normal(shape, np.float32)


NETWORKS = {
    "one convolution": (lambda: nn.Conv2d(16, 24, 3, padding=1), (3, 16, 9, 10)),
    "pointwise": (lambda: nn.Conv2d(16, 24, 1), (3, 16, 9, 10)),
    "few filters": (lambda: nn.Conv2d(16, 2, 3), (2, 16, 9, 10)),
    "depthwise": (lambda: nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24), (2, 24, 9, 10)),
    "one channel": (lambda: nn.Conv2d(1, 8, 3), (2, 1, 9, 10)),
    "winograd": (lambda: nn.Conv2d(64, 64, 3, padding=1), (2, 64, 28, 28)),
    "large kernel": (lambda: nn.Conv2d(32, 32, 9, padding=4), (1, 32, 32, 32)),
    "im2col": (lambda: nn.Conv2d(16, 24, 3, padding=1), (2, 16, 9, 10)),
    "transposed": (lambda: nn.ConvTranspose2d(16, 8, 2, stride=2), (2, 16, 9, 10)),
    "pooling": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)), (2, 17, 12, 13)),
    "normalised": (lambda: nn.Sequential(nn.BatchNorm2d(17), nn.Hardtanh()), (2, 17, 12, 13)),
    "activation": (nn.Sigmoid, (2, 5, 6, 7)),
    "signal": (lambda: nn.Conv1d(9, 12, 5), (2, 9, 31)),
    "volume": (lambda: nn.Conv3d(9, 12, 3), (2, 9, 5, 6, 7)),
    "many layers": (lambda: nn.Sequential(nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1),
                                          nn.MaxPool2d(2), nn.Conv2d(16, 20, 3)), (2, 12, 14, 15)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, threads):
    module, shape = NETWORKS[name]
    network, x = module(), images(*shape)
    options = {"algorithm": "im2col"} if name == "im2col" else {}
    engine = fc.compile(network, shape, threads=threads, **options)
    expected = engine(x)
    assert expected.flags.c_contiguous
    for n in (shape[0], 1):  # a smaller batch
        kept = last(x[:n])
        got = engine(kept)
        np.testing.assert_array_equal(got, expected[:n])
        np.testing.assert_array_equal(kept, x[:n])  # nothing was written into it
        if shape[1] > 1:
            assert is_last(got)
        out = last(np.full_like(expected[:n], np.nan))
        assert engine(kept, out=out) is out
        np.testing.assert_array_equal(out, expected[:n])
        back = np.full_like(expected[:n], np.nan)
        engine(kept, out=back)  # one of them copied
        np.testing.assert_array_equal(back, expected[:n])
        engine(x[:n], out=out[:n])
        np.testing.assert_array_equal(out, expected[:n])
    np.testing.assert_array_equal(engine(x), expected)


def test_what_is_bound():
    engine = fc.compile(nn.Conv2d(16, 24, 3), (4, 16, 9, 10))
    x = images(4, 16, 9, 10)
    y = engine(x)
    assert bound(engine) == [False, False]
    engine(last(x))
    assert bound(engine) == [True, True]
    engine(last(x), out=y)
    assert bound(engine) == [True, False]
    engine(x, out=last(y))
    assert bound(engine) == [False, True]
    engine(last(np.repeat(x, 2, 0))[::2])  # images that do not follow each other, and
    assert bound(engine) == [False, True]
    engine(last(np.repeat(x[:1], 2, 0))[:1])  # a single one
    assert bound(engine) == [True, True]
    engine(last(np.repeat(x, 2, 3))[..., ::2])
    assert bound(engine) == [False, False]  # neither order: the result is in C order
    flat = np.empty(x.size + 1, np.float32)[1:].reshape(4, 9, 10, 16)  # aligned to elements only
    flat[...] = np.moveaxis(x, 1, -1)
    np.testing.assert_array_equal(engine(np.moveaxis(flat, -1, 1)), y)
    assert bound(engine) == [True, True]


@pytest.mark.parametrize("shape", [(3, 1, 8, 9), (3, 40, 1, 1), (1, 1, 1, 1)])
def test_one_channel_or_pixel_is_both(shape):
    engine = fc.compile(nn.Conv2d(shape[1], 1, 1), shape)
    x = images(*shape)
    y = engine(x)
    assert bound(engine) == [True, True] and y.flags.c_contiguous


def test_several_inputs_and_outputs():
    engine = fc.compile(lambda a, b: (F.relu(a), a + b, a), [(2, 5, 6, 7), (2, 5, 6, 7)])
    a, b = images(2, 5, 6, 7), images(2, 5, 6, 7)
    expected = engine(a, b)
    for p, q in ((last(a), last(b)), (last(a), b), (a, last(b))):
        for y, e in zip(engine(p, q), expected, strict=True):
            np.testing.assert_array_equal(y, e)
        assert is_last(engine(p, q)[1]) == is_last(p)
    out = [last(a), np.empty_like(a), last(b)]
    engine(last(a), b, out=out)
    for y, e in zip(out, expected, strict=True):
        np.testing.assert_array_equal(y, e)


@pytest.mark.parametrize("shift", [0, 1, 8, 100])
def test_out_over_the_input(shift):
    conv = nn.Conv2d(8, 8, 3, padding=1)
    engine = fc.compile(conv, (2, 8, 6, 7))
    memory = np.zeros(2 * 8 * 6 * 7 + shift, np.float32)
    x = np.moveaxis(memory[: 2 * 8 * 6 * 7].reshape(2, 6, 7, 8), -1, 1)
    out = np.moveaxis(memory[shift:].reshape(2, 6, 7, 8), -1, 1)
    x[...] = images(2, 8, 6, 7)
    expected = engine(x.copy())
    np.testing.assert_array_equal(engine(x, out=out), expected)


def test_concatenation_and_views():
    def network(a, b):
        return F.cat([F.relu(a), b], 1), F.flatten(a, 1)

    shape = (2, 6, 5, 4)
    engine = fc.compile(network, [shape, shape])
    a, b = images(*shape), images(*shape)
    for p, q in ((a, b), (last(a), last(b))):
        y, z = engine(p, q)
        np.testing.assert_array_equal(y, np.concatenate([np.maximum(a, 0), b], 1))
        np.testing.assert_array_equal(z, a.reshape(2, -1))


def test_nothing_is_kept():
    engine = fc.compile(nn.Conv2d(8, 8, 1), (1, 8, 6, 7))
    x = np.moveaxis(images(1, 6, 7, 8), -1, 1)
    y = engine(x)
    expected = y.copy()
    x[...] = 7  # a later change of an array is none of the result's
    np.testing.assert_array_equal(y, expected)
    del x, y
    gc.collect()
    z = images(1, 8, 6, 7)
    np.testing.assert_array_equal(engine(z), engine(last(z)))


def test_clones_have_doors_of_their_own():
    engine = fc.compile(nn.Conv2d(8, 8, 3), (2, 8, 6, 7))
    twin, x = engine.clone(), images(2, 8, 6, 7)
    expected = engine(last(x))
    np.testing.assert_array_equal(twin(x), expected)
    np.testing.assert_array_equal(engine(last(x)), expected)
    assert bound(engine) == [True, True] and bound(twin) == [False, False]
    np.testing.assert_array_equal(engine.freeze()(last(x)), expected)


def test_constants_are_no_addresses():
    """Clips lie as float64 among the addresses of a step, which are known by their values while it is bound."""
    x = images(1, 3, 2, 2)
    for exponent in range(-100, 1024):
        for bound in (1.03 * 2.0 ** exponent, -1.03 * 2.0 ** exponent):
            low, high = (-2, bound) if bound > 0 else (bound, 2)
            with np.errstate(over="ignore"):
                expected = np.clip(x, np.float32(low), np.float32(high))
            np.testing.assert_array_equal(fc.compile(nn.Hardtanh(low, high), x.shape)(x), expected, f"{low}, {high}")


# ---- functions ----------------------------------------------------------------------------------------------------------

W = rng.standard_normal((12, 8, 3, 3), np.float32)
FUNCTIONS = {
    "conv2d": lambda x: F.conv2d(x, W, padding=1),
    "conv2d_backward_data": lambda x: F.conv2d_backward_data(F.conv2d(x, W), W, x.shape),
    "conv2d_backward_weight": lambda x: F.conv2d_backward_weight(F.conv2d(x, W), x, W.shape),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d with indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, stride=1),
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "softmax": lambda x: F.softmax(x, 1),
    "pad": lambda x: F.pad(x, (1, 2, 3, 0)),
    "batch_norm": lambda x: F.batch_norm(x, np.zeros(8, np.float32), np.ones(8, np.float32)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    function, x = FUNCTIONS[name], images(2, 8, 9, 11)
    expected = function(x)
    for _ in range(3):  # the careful way, then the short one
        kept = last(x)
        got = function(kept)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(kept, x)
        assert is_last(got) or got.shape == W.shape and got.flags.c_contiguous
        back = function(x)
        np.testing.assert_array_equal(back, expected)
        assert back.flags.c_contiguous


def test_elementwise_of_two_orders():
    a, b = images(2, 8, 9, 11), images(2, 8, 9, 11)
    expected = F.relu_backward(a, b)
    for p, q in ((last(a), last(b)), (a, last(b)), (last(a), b), (a, b)):
        for _ in range(3):
            np.testing.assert_array_equal(F.relu_backward(p, q), expected)


def test_running_statistics_change_and_nothing_else_does():
    x, mean, var = images(4, 8, 5, 6), np.zeros(8, np.float32), np.ones(8, np.float32)
    mean2, var2, kept = mean.copy(), var.copy(), last(x)
    y = F.batch_norm(x, mean, var, training=True)
    np.testing.assert_array_equal(F.batch_norm(kept, mean2, var2, training=True), y)
    np.testing.assert_array_equal(mean, mean2)
    np.testing.assert_array_equal(var, var2)
    np.testing.assert_array_equal(kept, x)


# ---- training -----------------------------------------------------------------------------------------------------------


def test_training_engine_keeps_what_its_backward_reads():
    conv = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
    engine = fc.compile(conv, (2, 8, 9, 10), training=True)
    x, g = images(2, 8, 9, 10), images(2, 12, 9, 10)
    y = engine(x)
    engine.backward(g)
    expected = [p.grad.copy() for p in engine.trained_parameters()]
    kept, out = last(x), last(y)
    engine(kept, out=out)
    kept[...], out[...] = np.nan, np.nan  # both may change before the backward
    conv.zero_grad()
    engine.backward(last(g))
    for p, e in zip(engine.trained_parameters(), expected, strict=True):
        np.testing.assert_array_equal(p.grad, e)


class Foreign:
    """Another library's array in the memory of one of NumPy's."""

    def __init__(self, array):
        self.__array_interface__, self._kept = array.__array_interface__, array


@pytest.mark.parametrize("how", [lambda a: a, Foreign, lambda a: a.copy()], ids=["itself", "foreign", "copied"])
def test_a_gradient_as_the_gradient_of_the_next_output(how):
    linear = nn.Linear(40, 40)  # the gradient of its weight has the shape of its output
    engine, x = fc.compile(linear, (40, 40), training=True), images(40, 40)
    results = []
    for wrap in (np.copy, how):
        engine(x)
        linear.zero_grad()
        engine.backward(np.ones((40, 40), np.float32))
        engine(x)
        given = wrap(linear.weight.grad)
        linear.zero_grad()
        engine.backward(given)
        results.append([p.grad.copy() for p in (linear.weight, linear.bias)])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("convert", [last, lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: np.frombuffer(
    b"1" + np.moveaxis(x, 1, -1).tobytes(), np.uint8)[1:].view(np.float32).reshape(np.moveaxis(x, 1, -1).shape)
    .transpose(0, 3, 1, 2)], ids=["bound", "copied", "unaligned"])
def test_trainer_step(convert):
    losses = []
    for how in (lambda x: x, convert):
        network = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 7, 3))
        for i, p in enumerate(network.parameters()):
            p.data = np.random.default_rng(i).standard_normal(p.shape).astype(np.float32) / 8
        trainer = fc.Trainer(network, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
        x = np.random.default_rng(9).standard_normal((4, 8, 6, 7)).astype(np.float32)
        kept = how(x)
        losses.append([trainer.step(kept, np.arange(4) % 3) for _ in range(3)])
        np.testing.assert_array_equal(kept, x)
    assert losses[0] == losses[1]


def test_networks_of_the_zoo():
    for name, shape in (("lenet5", (2, 1, 32, 32)), ("mobilenet_v2", (1, 3, 64, 64)), ("resnet18", (2, 3, 64, 64))):
        engine = fc.compile(getattr(zoo, name)().eval(), shape)
        x = images(*shape)
        np.testing.assert_array_equal(engine(last(x)), engine(x))


@pytest.mark.parametrize("how", [lambda y: y, lambda y: y[::-1], lambda y: y.copy()], ids=["itself", "turned", "copied"])
@pytest.mark.parametrize("training", [False, True])
def test_predictions_of_the_last_run_as_a_batch(training, how):
    """They lie where the next run writes its own: as an input or a target, they are read before that."""
    network, first, other = nn.Sequential(nn.Linear(12, 12), nn.Tanh()), images(4, 12), images(4, 12)

    def run_of():
        if training:
            tape = TrainingTape(network, nn.MSELoss(), fc.optim.SGD(lr=0.0))
            return tape, tape.step
        tape = LossTape(network, nn.MSELoss())
        return tape, tape.run

    for places in ((0,), (1,), (0, 1)):
        tape, run = run_of()
        run(first, other)
        batch = [how(tape.predictions()) if i in places else other for i in range(2)]
        expected = run_of()[1](*(a.copy() for a in batch))
        assert expected > 0
        assert run(*batch) == expected

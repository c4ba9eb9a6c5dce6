"""Arrays as users have them: what an engine takes with the same bits, and what it refuses by name."""

import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.data import ArrayDataset, default_collate
from fastconv.train import accuracy

SHAPE = (4, 3, 8, 6)


def network():
    fc.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 3))


@pytest.fixture(scope="module")
def engine():
    return fc.compile(network(), SHAPE)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    out = memory[1:].view(np.float32).reshape(a.shape)
    out[...] = a
    return out


def half_steps(a):
    """Strides that are no multiples of an element's size."""
    memory = np.zeros(2 * a.nbytes, np.uint8)
    out = np.ndarray(a.shape, np.float32, memory, strides=(a.strides[0] + 2, *a.strides[1:]))
    out[...] = a
    return out


def inside_records(a):
    out = np.zeros(a.shape, [("flag", "u1"), ("value", "f4")])
    out["value"] = a
    return out["value"]


TAKEN = {
    "read-only": read_only, "unaligned": unaligned, "half steps": half_steps, "a field of records": inside_records,
    "columns first": np.asfortranarray,
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
    "upside down": lambda a: np.ascontiguousarray(a[:, :, ::-1])[:, :, ::-1],
    "mirrored, channels too": lambda a: np.ascontiguousarray(a[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
    "batch reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    "a memoryview": memoryview, "a matrix of a subclass": lambda a: a.view(np.recarray),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_inputs(kind, engine, x):
    expected, given = engine(x), TAKEN[kind](x)
    np.testing.assert_array_equal(engine(given), expected)
    for n in (1, 3):
        np.testing.assert_array_equal(engine(given[:n]), expected[:n])


def test_one_image_as_many(engine, x):
    np.testing.assert_array_equal(engine(np.broadcast_to(x[:1], SHAPE)), np.repeat(engine(x[:1]), 4, axis=0))
    assert engine(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", ["columns first", "batch reversed", "every other", "upside down"])
def test_outputs(kind, engine, x):
    expected = engine(x)
    out = TAKEN[kind](np.full((4, 3, 1, 2), np.nan, np.float32))[:, :, 0, 0]
    assert engine(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.Softmax(2)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("shift", [0, 1, 7, SHAPE[3] * SHAPE[2], -5])
def test_output_over_the_input(layer, shift, x):
    """In place, and overlapping: as if the input had been copied first."""
    engine = fc.compile(layer, SHAPE)
    expected = engine(x)
    memory = np.zeros(x.size + 2 * abs(shift), np.float32)
    source = memory[abs(shift):abs(shift) + x.size].reshape(SHAPE)
    target = memory[abs(shift) + shift:abs(shift) + shift + x.size].reshape(SHAPE)
    source[...] = x
    np.testing.assert_array_equal(engine(source, out=target), expected)


class NoArray:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("no")


REFUSED = {
    "big-endian": (lambda a: a.astype(">f4"), TypeError, r"input has dtype >f4 \(byte-swapped\)"),
    "objects": (lambda a: a.astype(object), TypeError, "input has dtype object"),
    "float64": (lambda a: a.astype(float), TypeError, "input has dtype float64"),
    "float16": (lambda a: a.astype(np.float16), TypeError, "input has dtype float16"),
    "complex": (lambda a: a.astype(complex), TypeError, "input has dtype complex128"),
    "bools": (lambda a: a > 0, TypeError, "input has dtype bool"),
    "records": (lambda a: np.zeros(SHAPE, [("a", "f4")]), TypeError, "input has dtype"),
    "dates": (lambda a: np.zeros(SHAPE, "M8[s]"), TypeError, "input has dtype datetime64"),
    "a list": (lambda a: a.tolist(), TypeError, "input is a list"),
    "None": (lambda a: None, TypeError, "input is a NoneType"),
    "text": (lambda a: "x", TypeError, "input is a str"), "bytes": (lambda a: b"1234", (TypeError, ValueError), "input"),
    "no channels": (lambda a: a[:, :0], ValueError, "every extent but the batch must be at least 1"),
    "no pixels": (lambda a: a[..., :0], ValueError, "every extent but the batch must be at least 1"),
    "three channels too few": (lambda a: a[:, :2], ValueError, r"Conv2d '0': input of shape \(4, 2, 8, 6\) has 2 channels"),
    "one image": (lambda a: a[0], ValueError, r"input of shape \(3, 8, 6\) has 3 dimensions: expected 4"),
    "a number": (lambda a: np.float32(1), (TypeError, ValueError), "input"),
    "smaller than the taps": (lambda a: a[:, :, :2], ValueError, "Conv2d '0': the output would be empty"),
    "another size": (lambda a: a[:, :, :7], ValueError, r"Linear '3': input of shape \(4, 100\) has 100 features"),
    "too large": (lambda a: np.broadcast_to(a[:1], (10**10, *SHAPE[1:])), MemoryError, "engine: input of shape"),
    "a wrong __array__": (lambda a: NoArray(), TypeError, "input is a NoArray that NumPy cannot take"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_inputs(kind, engine, x):
    """Nothing has run, and the engine goes on as before."""
    make, error, message = REFUSED[kind]
    expected, out = engine(x), np.full((4, 3), 7, np.float32)
    with pytest.raises(error, match=message):
        engine(make(x), out=out)
    assert (out == 7).all()
    np.testing.assert_array_equal(engine(x), expected)


@pytest.mark.parametrize(("out", "error", "message"), [
    (np.zeros((4, 3)), TypeError, "out has dtype float64"), (np.zeros((4, 3), ">f4"), TypeError, "out has dtype >f4"),
    (np.zeros((4, 4), np.float32), ValueError, r"out has shape \(4, 4\): expected \(4, 3\)"),
    (np.zeros((5, 3), np.float32), ValueError, r"out has shape \(5, 3\): expected \(4, 3\)"),
    (read_only(np.zeros((4, 3), np.float32)), ValueError, "out is read-only"),
    (np.broadcast_to(np.float32(0), (4, 3)), ValueError, "out"),
    *((make(np.zeros((4, 3, 1, 1), np.float32))[:, :, 0, 0], ValueError, "out is not aligned to its elements")
      for make in (unaligned, half_steps, inside_records)),
    ([np.zeros((4, 3), np.float32)] * 2, ValueError, "out"), ([3], TypeError, "out"),
])
def test_refused_outputs(out, error, message, engine, x):
    with pytest.raises(error, match=message):
        engine(x, out=out)


# ---- masked arrays --------------------------------------------------------------------------------------------------------


def masked(a):
    return np.ma.masked_array(a, mask=np.zeros(a.shape, bool))


MASK = "is a masked array, and masks are not followed"


def test_masked_arrays_are_refused(engine, x):
    """By functions, engines in and out, training, parameters, data: nobody computes with what a mask hides."""
    labels = np.array([0, 1, 2, 0])
    w = np.ones((2, 3, 3, 3), np.float32)
    F.conv2d(x, w)  # what follows finds a call that has run before
    training = fc.compile(network(), SHAPE, training=True)
    y = training(x)
    trainer = fc.Trainer(network(), nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    trainer.step(x, labels)
    layer = nn.Linear(3, 2)
    calls = [
        lambda: engine(masked(x)), lambda: engine(masked(x[:1])),
        lambda: engine(x, out=masked(np.zeros((4, 3), np.float32))),
        lambda: F.conv2d(masked(x), w), lambda: F.conv2d(x, masked(w)), lambda: F.relu(masked(x)),
        lambda: F.cross_entropy(y, masked(labels)), lambda: F.cat([x, masked(x)], 1),
        lambda: training.backward(masked(y)), lambda: trainer.step(masked(x), labels),
        lambda: trainer.step(x, masked(labels)), lambda: trainer.predict(masked(x)),
        lambda: trainer.evaluate((x, masked(labels))),
        lambda: fc.compile(network(), SHAPE)(masked(x)), lambda: fc.nn.Parameter(masked(x)),
        lambda: setattr(layer.weight, "data", masked(np.zeros((2, 3), np.float32))),
        lambda: layer.register_buffer("extra", masked(x)), lambda: nn.CrossEntropyLoss(masked(np.ones(3))),
        lambda: layer.load_state_dict({"weight": masked(np.zeros((2, 3))), "bias": np.zeros(2)}),
        lambda: ArrayDataset(x, masked(labels)), lambda: ArrayDataset(x)[masked(labels)],
        lambda: default_collate([masked(x)]),
        lambda: accuracy(y, masked(labels)), lambda: accuracy(masked(y), labels),
        lambda: fc.data.to_float(masked(np.zeros((1, 2, 2), np.uint8))),
    ]
    before = trainer.module.state_dict()
    before = {name: np.array(value) for name, value in before.items()}
    for i, call in enumerate(calls):
        with pytest.raises((TypeError, ValueError), match=MASK):
            call()
            raise AssertionError(f"call {i} took it")
    for name, value in trainer.module.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(engine(masked(x).filled(0)), engine(x))


def test_nobody_pays_for_masked_arrays():
    """numpy.ma takes longer to import than a small network to compile."""
    code = ("import sys, numpy as np, fastconv as fc; from fastconv import nn\n"
            "net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)), np.ones((2, 3, 8, 8), 'f4')\n"
            "fc.compile(net, x.shape)(x)\n"
            "fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(.1)).step(x, np.array([0, 1]))\n"
            "assert 'numpy.ma' not in sys.modules")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


class WithMask(np.ndarray):
    """Somebody's own kind of array."""

    mask = False


def test_other_subclasses_are_taken(engine, x):
    np.testing.assert_array_equal(engine(x.view(WithMask)), engine(x))
    out = np.zeros((4, 3), np.float32).view(WithMask)
    assert engine(x, out=out) is out
    np.testing.assert_array_equal(out, engine(x))


# ---- anything in place of an array ----------------------------------------------------------------------------------------

ARRAYS = ("input", "weight", "bias", "grad_output", "output", "running_mean", "running_var", "target", "other", "tensors",
          "anchor", "positive", "negative", "log_probs")
NONE_OF_THEM = {
    "number": 3, "float": 2.5, "scalar": np.float32(3), "no dimensions": np.array(3, np.float32), "text": "x",
    "bytes": b"abcd", "object": object(), "a dict": {}, "empty list": [], "objects": np.array([None]),
    "float64": np.zeros((2, 2)), "six dimensions": np.zeros((1,) * 6, np.float32),
    "a vector": np.zeros(3, np.float32), "True": True,
}


def arguments_of(function):
    """Arguments that it takes, by name: shapes do not matter, as something else is wrong before they are compared."""
    dims = next((int(d) for d in function.__name__ if d.isdigit() and d in "123"), 2)
    activation = np.ones((2, 4, *(5,) * dims), np.float32)
    flat = "linear" in function.__name__
    values = {"input": np.ones((2, 4), np.float32) if flat else activation,
              "weight": np.ones((4, 4) if flat else (4, 4, *(1,) * dims), np.float32), "bias": np.ones(4, np.float32),
              "input_shape": activation.shape, "weight_shape": (4, 4, *(1,) * dims), "kernel_size": 1, "output_size": 5,
              "running_mean": np.ones(4, np.float32), "running_var": np.ones(4, np.float32), "pad": (0, 0), "p": 0.5,
              "seed": 1, "target": np.zeros((2, *(5,) * dims), int), "tensors": [activation, activation]}
    values["grad_output"] = values["other"] = values["output"] = values["input"]
    if "batch_norm" in function.__name__:
        values["weight"] = np.ones(4, np.float32)
    if "mse" in function.__name__:
        values["target"] = values["input"]
    if "triplet" in function.__name__:
        values.update(dict.fromkeys(("anchor", "positive", "negative"), activation))
    if "ctc" in function.__name__:
        values.update(log_probs=np.log(np.full((5, 2, 4), 0.25, np.float32)), targets=np.ones((2, 3), int),
                      input_lengths=(5, 5), target_lengths=(3, 3))
    return values


FUNCTIONS = [getattr(F, name) for name in F.__all__ if inspect.isfunction(getattr(F, name)) and
             name not in ("gradcheck", "vjp") and not hasattr(getattr(F, name), "record") and  # those: test_records.py
             getattr(F, name).__module__.rpartition(".")[2] not in
             ("dependent", "advanced", "tables", "activations", "in_place", "pointwise", "constants", "derived", "drawn")]
# of which test_indexing.py, test_map.py, test_in_place.py and test_values.py are


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_no_array_is_named(function):
    values = arguments_of(function)
    parameters = inspect.signature(function).parameters
    needed = {name: values[name] for name, p in parameters.items() if p.default is p.empty}
    names = [name for name in parameters if name in ARRAYS]
    assert names, f"{function.__name__}: which of its arguments are arrays?"
    for name in names:
        for kind, wrong in {**NONE_OF_THEM, **({"None": None} if name in needed else {})}.items():
            try:
                got = function(**{**needed, name: wrong})
            except IndexError as error:  # the dimension that softmaxes work along by default is not there
                assert str(error).startswith(f"{function.__name__}: dim=1: expected") and np.ndim(wrong) < 2, (name, kind)
            except (TypeError, ValueError) as error:
                text = str(error)
                shown = re.split("_backward|_with_indices", function.__name__)[0].rstrip("123d")
                assert re.match(shown, text), (name, kind, text)
                assert name in text or "grad_output" in text or "input" in text or "weight" in text, (name, kind, text)
            else:
                if kind == "a vector":  # what works element by element takes any number of dimensions
                    assert got.shape == (3,) or got.size == 1, name
                elif function is F.mse_loss:  # of shapes that broadcast
                    assert np.ndim(got) == 0 and kind in ("scalar", "no dimensions", "six dimensions")
                elif kind in ("scalar", "no dimensions", "six dimensions") and \
                        (function is F.add or np.shape(got) == np.shape(wrong)):
                    assert function.__module__.rpartition(".")[2] in ("activation", "shape")  # of whatever rank
                elif function is F.flatten:
                    assert kind in ("scalar", "no dimensions", "six dimensions") and got.shape == (1,)
                else:  # the gradient of a loss is a number, and so may be what is added
                    assert (name == "grad_output" or function is F.add) and np.ndim(wrong) == 0


def test_numbers_of_inputs_and_of_outputs(engine, x):
    two = fc.compile(lambda a, b: a + b, [SHAPE, SHAPE])
    np.testing.assert_array_equal(two(x, x), x + x)
    for call, error, message in ((lambda: engine(), TypeError, "0 inputs given, 1 expected"),
                                 (lambda: engine(x, x), TypeError, "2 inputs given, 1 expected"),
                                 (lambda: two(x), TypeError, "1 inputs given, 2 expected"),
                                 (lambda: two(x, x[:2]), ValueError, "input1 .*: its batch differs from the first"),
                                 (lambda: two(x, x[:, :2]), ValueError, "dimension 1 is 3 and 2"),
                                 (lambda: two(x, None), TypeError, "input1 is a NoneType")):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("shape", [None, 0, "a", 1.5, (), [], [[]], (1,), (1, 3), (1, 3, 8, 8, 8), (1, 3, 0, 8),
                                   (-1, 3, 8, 8), (1, 3, 8.0, 8), (2**62, 3, 8, 8), (1, 3, 2**31, 8), ("1", "3", "8", "8"),
                                   True, [(1, 3, 8, 8), (2, 3, 8, 8)]], ids=repr)
def test_refused_shapes(shape):
    with pytest.raises((TypeError, ValueError)) as caught:
        fc.compile(network(), shape)
    assert "input_shape" in str(caught.value) or "Conv2d '0'" in str(caught.value)


@pytest.mark.parametrize(("function", "error", "message"), [
    (lambda x: None, TypeError, "forward returned a NoneType"), (lambda x: (), ValueError, "forward returned no tensor"),
    (lambda x: 3.0, TypeError, "forward returned a float"), (lambda x: x if x else -x, TypeError, "no truth value"),
    (lambda x: list(x.sum()), TypeError, "cannot be iterated over"),
    (lambda x: x + np.ones(3, np.float32), ValueError, "add: input of shape"),
    (lambda x: np.add(x, 1), TypeError, "ufunc"), (lambda x: x + "a", TypeError, "add: other is a str: expected a tensor"),
    (lambda x: len(x), TypeError, "forward returned a int"),
])
def test_refused_networks(function, error, message):
    with pytest.raises(error, match=message):
        fc.compile(function, SHAPE)

"""Arrays of other libraries: taken where they lie, by DLPack and NumPy's protocols, and given; other devices are refused."""

import itertools

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import nn
from fastconv.graph import arrays


class Foreign:
    """Another library's array: nothing but DLPack's two methods."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.device


def draw(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


@pytest.fixture(scope="module")
def engine(net):
    return fc.compile(net, (2, 3, 6, 7))


LAYOUTS = {
    "C order": lambda a: a,
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "a part of a larger one": lambda a: np.pad(a, ((0, 0), (1, 2), (0, 0), (3, 0)))[:, 1:4, :, 3:],
    "backwards": lambda a: np.ascontiguousarray(a[:, :, ::-1])[:, :, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_engines_take_them_where_they_lie(engine, layout):
    x = draw(2, 3, 6, 7)
    lies = LAYOUTS[layout](x)
    assert np.array_equal(lies, x)
    assert np.array_equal(engine(Foreign(lies)), engine(x))
    assert np.shares_memory(arrays.as_float32("op", "x", Foreign(lies)), lies)


def test_functions_of_every_kind_take_them():
    x, i = draw(2, 3, 6, 7), np.array([[1, 0], [2, 2]])
    assert np.array_equal(F.conv2d(Foreign(x), Foreign(draw(4, 3, 3, 3))), F.conv2d(x, draw(4, 3, 3, 3)))
    assert np.array_equal(F.relu(Foreign(x)), F.relu(x))
    assert np.array_equal(F.add(Foreign(x), Foreign(x[:, :1])), x + x[:, :1])
    assert np.array_equal(F.embedding(Foreign(i), Foreign(draw(5, 3))), draw(5, 3)[i])
    mask = fc.compile(lambda x, m: F.where(m, x, -x), [(2, 3), ((2, 3), "bool")])
    keep = draw(2, 3) > 0
    assert np.array_equal(mask(draw(2, 3), Foreign(keep)), np.abs(draw(2, 3)))
    table = nn.Embedding(5, 3)
    assert np.array_equal(fc.compile(table, ((2, 2), "int64"))(Foreign(i)), table.weight.data[i])


def test_training_takes_them():
    def losses(wrap):
        fc.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
        return [trainer.step(wrap(draw(4, 12)), wrap(np.array([0, 1, 2, 1]))) for _ in range(3)]

    assert losses(Foreign) == losses(lambda a: a)


def test_outputs_go_into_their_memory(engine):
    x = draw(2, 3, 6, 7)
    y = np.zeros((2, 4, 4, 5), np.float32)
    out = Foreign(y)
    assert engine(x, out=out) is out
    assert np.array_equal(y, engine(x))
    two = fc.compile(lambda x: (F.relu(x), x.sum((1, 2, 3)), F.argmax(x, 1)), (2, 3, 6, 7))
    want = two(x)
    made = [np.zeros(w.shape, w.dtype) for w in want]
    two(x, out=[Foreign(made[0]), made[1], Foreign(made[2])])
    for a, b in zip(made, want, strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ValueError, match=r"share memory|shares memory"):
        two(x, out=[Foreign(made[0]), made[1], Foreign(made[0])])
    with pytest.raises((TypeError, ValueError), match=r"out .*shape \(2, 4, 4, 6\)"):
        engine(x, out=Foreign(np.zeros((2, 4, 4, 6), np.float32)))
    with pytest.raises((TypeError, ValueError), match="out .*float64"):
        engine(x, out=Foreign(np.zeros((2, 4, 4, 5))))


def test_a_parameter_is_no_output(net):
    same = fc.compile(lambda x: x * 1, (4, 3, 3, 3))
    before = net[0].weight.numpy()
    with pytest.raises((TypeError, ValueError), match="out"):
        same(draw(4, 3, 3, 3), out=net[0].weight)
    assert np.array_equal(before, net[0].weight.data)


def test_results_and_parameters_are_given_by_dlpack(engine, net):
    y = engine(draw(2, 3, 6, 7))
    assert np.shares_memory(np.from_dlpack(Foreign(y)), y)
    weight = net[0].weight
    given = np.from_dlpack(weight)
    assert given.ctypes.data == weight.address and not given.flags.writeable
    weight.data = weight.data * 2
    assert np.array_equal(given, weight.data)
    own = np.from_dlpack(weight, copy=True) if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else np.array(weight)
    assert not np.shares_memory(own, weight.data) and np.array_equal(own, weight.data)


def test_a_parameter_as_an_array(net):
    weight = net[0].weight
    copied = np.asarray(weight)
    copied[...] = 0  # the caller's own
    assert weight.data.any()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        lent = np.asarray(weight, copy=False)
        assert np.shares_memory(lent, weight.data) and not lent.flags.writeable
        with pytest.raises(ValueError, match="copy"):
            np.asarray(weight, np.float64, copy=False)


DEVICES = [((2, 0), "the memory of CUDA, device 0"), ((10, 3), "the memory of ROCm, device 3"),
           ((99, 1), "the memory of device type 99, device 1")]
DOORS = {
    "an engine": lambda net, engine, x: engine(x),
    "a function": lambda net, engine, x: F.relu(x),
    "indices of an engine": lambda net, engine, x: fc.compile(nn.Embedding(5, 3), ((2, 2), "int64"))(x),
    "a mask": lambda net, engine, x: fc.compile(lambda m: F.where(m, 1.0, 2.0), ((2, 2), "bool"))(x),
    "out": lambda net, engine, x: engine(draw(2, 3, 6, 7), out=x),
    "one of several outputs": lambda net, engine, x: engine(draw(2, 3, 6, 7), out=[x]),
    "load_state_dict": lambda net, engine, x: net.load_state_dict({**net.state_dict(), "0.weight": x}),
    "a parameter": lambda net, engine, x: nn.Parameter(x),
    "a dataset": lambda net, engine, x: fc.data.ArrayDataset(x),
    "a step": lambda net, engine, x: fc.Trainer(net, nn.MSELoss(), fc.optim.SGD(0.1)).step(x, draw(2, 4, 4, 5)),
    "a target": lambda net, engine, x: fc.Trainer(net, nn.MSELoss(), fc.optim.SGD(0.1)).step(draw(2, 3, 6, 7), x),
}


@pytest.mark.parametrize(("door", "device"), [*itertools.product(DOORS, range(len(DEVICES)))])
def test_other_devices_are_refused(net, engine, door, device):
    number, message = DEVICES[device]
    before = net[0].weight.numpy()
    with pytest.raises(TypeError, match=message):
        DOORS[door](net, engine, Foreign(draw(2, 3, 6, 7), number))
    assert np.array_equal(before, net[0].weight.data)


def test_pinned_memory_is_the_processor_s(engine):
    x = draw(2, 3, 6, 7)
    assert np.array_equal(engine(Foreign(x, (3, 0))), engine(x))


def test_what_goes_wrong_in_the_other_library_is_said(engine):
    class Broken(Foreign):
        def __dlpack__(self, **keywords):
            raise BufferError("no")

    with pytest.raises(TypeError, match="input is a Broken that NumPy cannot take .no.: expected a float32 array"):
        engine(Broken(draw(2, 3, 6, 7)))
    with pytest.raises(TypeError, match="dtype float64"):
        engine(Foreign(draw(2, 3, 6, 7).astype(np.float64)))


# ---- PyTorch's tensors --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_tensors_in_and_out(torch, engine):
    x = torch.from_numpy(draw(2, 3, 6, 7))
    for given in (x, x.to(memory_format=torch.channels_last), torch.nn.functional.pad(x, (2, 1))[..., 2:-1]):
        assert np.array_equal(engine(given), engine(x.numpy()))
        assert arrays.as_float32("op", "x", given).ctypes.data == given.data_ptr()
    y = torch.zeros(2, 4, 4, 5)
    assert engine(x, out=y) is y
    assert np.array_equal(y.numpy(), engine(x))
    got = engine(x)
    back = torch.from_dlpack(got)
    back.zero_()
    assert not got.any()  # one memory
    assert fc.functional.embedding(torch.tensor([[1, 0]]), torch.eye(3)).tolist() == [[[0, 1, 0], [1, 0, 0]]]


def test_tensors_of_parameters(torch, net):
    weight = net[0].weight
    tensor = torch.from_dlpack(weight)
    assert tensor.data_ptr() == weight.address and np.array_equal(tensor.numpy(), weight.data)
    weight.data = torch.ones(4, 3, 3, 3)
    assert weight.data.min() == 1 and tensor.min() == 1


@pytest.mark.parametrize(("make", "message"), [
    (lambda torch, x: x.requires_grad_(), "use tensor.detach"),
    (lambda torch, x: x.to("meta"), "meta"),
    (lambda torch, x: x.half(), "dtype float16: expected float32"),
    (lambda torch, x: x.bfloat16(), "expected a float32 array"),
    (lambda torch, x: x.to_sparse(), "layout other than torch.strided"),
    (lambda torch, x: torch.complex(x, x).conj(), "conjugate bit"),
])
def test_tensors_that_are_refused(torch, engine, make, message):
    with pytest.raises(TypeError, match=message):
        engine(make(torch, torch.zeros(2, 3, 6, 7)))

"""Modules: registration, names, state."""

import copy
import pickle

import numpy as np
import pytest
from modules import NAMES, Block, Net, changed

from fastconv import nn

# ---- registration -----------------------------------------------------------------------------------------------------


def test_names_are_pytorchs():
    net = Net()
    state = net.state_dict()
    assert list(state) == NAMES
    assert state["stem.weight"].shape == (4, 3, 3, 3)
    assert state["stem.weight"].dtype == np.float32
    assert state["blocks.0.bn.num_batches_tracked"].dtype == np.int64
    assert state["blocks.0.bn.num_batches_tracked"].shape == ()
    buffers = [n for n in NAMES if "running" in n or "tracked" in n]
    assert [n for n, _ in net.named_parameters()] == [n for n in NAMES if n not in buffers]
    assert [n for n, _ in net.named_buffers()] == buffers
    assert len(list(net.buffers())) == len(buffers)
    assert [n for n, _ in net.named_modules()] == [
        "", "stem", "blocks", "blocks.0", "blocks.0.conv", "blocks.0.bn", "blocks.1", "blocks.1.conv", "blocks.1.bn",
        "heads", "heads.a", "heads.b"]
    assert [n for n, _ in net.named_children()] == ["stem", "blocks", "heads"]
    assert len(list(net.children())) == 3 and len(list(net.modules())) == 12
    assert net.num_parameters() == sum(state[n].size for n in NAMES if n not in buffers)
    assert net.get_submodule("blocks.1.bn") is net.blocks[1].bn and net.get_submodule("") is net
    with pytest.raises(AttributeError, match=r"Net has no submodule 'blocks.2.bn': '2' is not there"):
        net.get_submodule("blocks.2.bn")


def test_state_dict_is_a_copy():
    net = nn.Linear(2, 2)
    state = net.state_dict()
    state["weight"][...] = 77
    assert not (net.weight.data == 77).any()


def test_shared_parts_appear_once_among_parameters_and_under_both_names_in_the_state():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    twice = nn.Sequential(net, net)
    assert [n for n, _ in twice.named_modules()] == ["", "0", "0.0", "0.1"]
    assert len(list(twice.parameters())) == 3 and len(twice.state_dict()) == 8
    assert len(list(twice.children())) == 1


def test_assignment():
    net = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"Linear.weight: a ndarray assigned to a parameter: assign values to weight.data"):
        net.weight = np.zeros((2, 3))
    net.weight.data = np.zeros((2, 3))
    net.bias = None
    assert net.bias is None and list(net.state_dict()) == ["weight"]
    net.bias = nn.Parameter(np.ones(2))
    assert list(net.state_dict()) == ["weight", "bias"]
    del net.bias
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'bias'"):
        net.bias  # noqa: B018
    block = Block()
    with pytest.raises(TypeError, match="Block.conv: a int assigned to a module: expected a Module or None"):
        block.conv = 3
    block.conv = None
    assert "conv.weight" not in block.state_dict()
    block.conv = nn.Identity()
    block.note = "kept as it is"
    assert block.note == "kept as it is" and "conv" in dir(block)
    block.bn = nn.Parameter(np.zeros(1))  # another kind under the same name
    assert list(block.state_dict()) == ["bn"]


def test_registration_errors():
    class Early(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 1, 1)

    with pytest.raises(AttributeError, match=r"Early.conv: call super\(\).__init__\(\) before assigning to it"):
        Early()
    net = nn.Module()
    with pytest.raises(TypeError, match="Module.x: a int: expected a Module or None"):
        net.add_module("x", 1)
    with pytest.raises(TypeError, match="Module.x: a ndarray: expected a Parameter or None"):
        net.register_parameter("x", np.zeros(1))
    with pytest.raises(TypeError, match="Module.x: a buffer of dtype <U1: expected numbers"):
        net.register_buffer("x", "a")
    for name in ("", "a.b", 3):
        with pytest.raises(ValueError, match="expected a non-empty string without a dot"):
            net.register_buffer(name, np.zeros(1))
    with pytest.raises(ValueError, match="name 'train' is an attribute of the class already"):
        net.register_buffer("train", np.zeros(1))


def test_buffers():
    net = nn.Module()
    net.register_buffer("mean", [1.0, 2.0])
    net.register_buffer("count", np.array(3))
    net.register_buffer("table", np.arange(2.0), persistent=False)
    net.register_buffer("nothing", None)
    assert isinstance(net.mean, nn.Parameter) and not net.mean.requires_grad
    assert list(net.state_dict()) == ["mean", "count"]
    assert [n for n, _ in net.named_buffers()] == ["mean", "count", "table"]
    assert net.nothing is None and list(net.parameters()) == []
    net.mean = np.array([5.0, 6.0, 7.0])
    assert isinstance(net.mean, nn.Parameter) and net.mean.shape == (3,)
    net.table = np.zeros(4)
    assert list(net.state_dict()) == ["mean", "count"]


# ---- state ------------------------------------------------------------------------------------------------------------


def test_load_state_dict():
    net = Net()
    state = changed(net.state_dict())
    addresses = [p.address for p in net.parameters()]
    versions = [p.version for p in net.parameters()]
    assert net.load_state_dict(state) == ([], [])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert [p.address for p in net.parameters()] == addresses
    assert all(p.version > v for p, v in zip(net.parameters(), versions, strict=True))


class ArrayLike:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class TensorLike:
    """Refuses while it has a history of gradients, as PyTorch's tensors do."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return ArrayLike(self.array)

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first")


class DLPack:
    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


@pytest.mark.parametrize("wrap", [ArrayLike, TensorLike, DLPack])
def test_load_state_dict_takes_what_resembles_an_array(wrap):
    net = nn.Linear(3, 2)
    state = changed(net.state_dict())
    net.load_state_dict({name: wrap(value) for name, value in state.items()})
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_load_state_dict_writes_all_or_nothing_and_lists_everything_that_is_wrong():
    net = Net()
    before = net.state_dict()
    state = changed(before)
    del state["scale"], state["blocks.1.bn.running_var"]
    state["extra"] = np.zeros(1)
    state["stem.weight"] = np.zeros((4, 3, 1, 1), np.float32)
    state["stem.bias"] = state["stem.bias"].astype(np.float64)
    state["heads.a.bias"] = "abc"
    state["blocks.0.bn.num_batches_tracked"] = np.array(1.0)
    with pytest.raises(ValueError) as error:
        net.load_state_dict(state)
    assert str(error.value).splitlines() == [
        "Net.load_state_dict:",
        "  missing: scale, blocks.1.bn.running_var",
        "  unexpected: extra",
        "  stem.weight has shape (4, 3, 1, 1): expected (4, 3, 3, 3)",
        "  stem.bias has dtype float64: expected float32",
        "  blocks.0.bn.num_batches_tracked has dtype float64: expected int64",
        "  heads.a.bias is a str: expected an array (it has neither __array__ nor __dlpack__)",
    ]
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="stem.weight has shape"):
        net.load_state_dict({"stem.weight": np.zeros((4, 3, 1, 1), np.float32)}, strict=False)
    with pytest.raises(TypeError, match="scale has dtype int64: expected float32"):
        net.load_state_dict({"scale": np.zeros(3, np.int64)}, strict=False)
    with pytest.raises(TypeError, match="Net.load_state_dict: state_dict is a list: expected a mapping"):
        net.load_state_dict([])


def test_load_state_dict_not_strict():
    net = nn.Linear(2, 2)
    result = net.load_state_dict({"weight": np.full((2, 2), 9, np.float32), "other": np.zeros(3)}, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["other"]
    assert (net.weight.data == 9).all()


def test_old_files_lack_the_number_of_batches():
    net = nn.BatchNorm1d(2)
    state = net.state_dict()
    del state["num_batches_tracked"]
    assert net.load_state_dict(state) == ([], [])


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(way):
    net = Net().eval()
    net.blocks[1].conv.weight = net.blocks[0].conv.weight
    net.stem.weight.requires_grad = False
    twin = way(net)
    assert list(twin.state_dict()) == NAMES and repr(twin) == repr(net)
    for (name, a), b in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert twin.blocks[1].conv.weight is twin.blocks[0].conv.weight
    assert not twin.training and not twin.stem.weight.requires_grad
    twin.load_state_dict(changed(twin.state_dict()))
    for name, a in net.state_dict().items():
        assert not (a == twin.state_dict()[name]).any()

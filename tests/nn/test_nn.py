"""Modules: modes, containers, text; layers' arguments and their errors."""

from collections import OrderedDict

import numpy as np
import pytest
from modules import Net, changed

import fastconv as fc
from fastconv import nn

# ---- modes ------------------------------------------------------------------------------------------------------------


def test_modes_apply_and_gradients():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    net.blocks.train()
    assert net.blocks[0].bn.training and not net.training and not net.stem.training
    with pytest.raises(TypeError, match="Net.train: mode='on': expected True or False"):
        net.train("on")
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Conv2d", "Conv2d", "BatchNorm2d", "Block", "Conv2d", "BatchNorm2d", "Block", "ModuleList", "Linear",
                    "Linear", "ModuleDict", "Net"]
    assert net.requires_grad_(False) is net and net.num_parameters(trainable=True) == 0 < net.num_parameters()
    net.requires_grad_()
    assert net.num_parameters(trainable=True) == net.num_parameters()
    net.scale.grad = np.ones(3)
    net.zero_grad()
    assert net.scale.grad is None


def test_the_mode_while_traced():
    modes = []

    class Look(nn.Module):
        def forward(self, x):
            modes.append(self.training)
            return x.flatten(1)

    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("in forward")

    net = nn.Sequential(Look(), Look())
    net[1].eval()
    fc.compile(net, (1, 2, 2))
    assert modes == [False, False] and net[0].training and net.training
    modes.clear()
    fc.compile(net, (1, 2, 2), training=True)
    assert modes == [True, False]
    with pytest.raises(KeyError):
        fc.compile(Fails(), (1, 2))
    assert Fails().training


def test_snapshot():
    net = nn.Linear(2, 2)
    function = net.symbolic(False)
    other = function.snapshot()
    assert other.module is not net and other.training is False
    engine = fc.compile(net, (1, 2))
    frozen, x = engine.freeze(), np.ones((1, 2), np.float32)
    y = frozen(x)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    assert (engine(x) == 0).all()
    np.testing.assert_array_equal(frozen(x), y)


def test_names_reach_the_graph():
    from fastconv.graph.trace import trace

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1, bias=False))
    graph, _ = trace(net.symbolic(False), [((1, 1, 5, 5), "input")])
    assert [t.name for t in graph.parameters] == ["0.weight", "0.bias", "1.weight"]
    assert [n.path for n in graph.nodes] == ["0", "1"]


# ---- containers -------------------------------------------------------------------------------------------------------


def test_sequential():
    a, b, c, d = nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Identity()
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and list(net) == [a, b, c] and net[-1] is c and net[np.int64(1)] is b
    assert list(net[1:]) == [b, c] and isinstance(net[1:], nn.Sequential)
    assert [n for n, _ in net[1:].named_children()] == ["1", "2"]
    assert list(net[1:].append(d)) == [b, c, d]
    assert list(net.append(d)) == [a, b, c, d]
    net[1] = d
    assert list(net) == [a, d, c, d]
    del net[1]
    assert list(net) == [a, c, d] and [n for n, _ in net.named_children()] == ["0", "1", "2"]
    del net[:2]
    assert list(net) == [d]
    assert list(net.insert(0, a).extend([b, c])) == [a, d, b, c]
    named = nn.Sequential(OrderedDict([("first", a), ("second", b)]))
    assert named.first is a and [n for n, _ in named.named_children()] == ["first", "second"] and named[1] is b
    with pytest.raises(IndexError, match="Sequential: index 4 is out of range for 4 modules"):
        net[4]
    with pytest.raises(TypeError, match="Sequential: index 'x': expected an integer or a slice"):
        net["x"]
    with pytest.raises(TypeError, match="Sequential: got a function: expected modules"):
        nn.Sequential(a, lambda x: x)
    with pytest.raises(TypeError, match="Sequential: got a int: expected modules"):
        net[0] = 3
    assert list(net) == [a, d, b, c]


def test_lists_and_dicts():
    a, b = nn.ReLU(), nn.Tanh()
    many = nn.ModuleList([a])
    many += [b]
    assert list(many) == [a, b] and isinstance(many[:1], nn.ModuleList) and len(many[:1]) == 1
    table = nn.ModuleDict([("a", a)])
    table["b"] = b
    assert list(table) == ["a", "b"] == list(table.keys()) and list(table.values()) == [a, b] and "a" in table
    assert dict(table.items()) == {"a": a, "b": b} and table.pop("a") is a and len(table) == 1
    del table["b"]
    assert not table
    with pytest.raises(TypeError, match="ModuleDict: 'x' is a int: expected a module"):
        table["x"] = 1
    with pytest.raises(NotImplementedError, match=r"ModuleDict has no forward\(\)"):
        fc.compile(table, (1, 2))


def test_repr():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Sequential(nn.BatchNorm2d(8), nn.ReLU6()))
    assert repr(net) == """Sequential(
  (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
  (1): Sequential(
    (0): BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
    (1): ReLU6()
  )
)"""


@pytest.mark.parametrize(("layer", "text"), [
    (nn.Conv1d(4, 8, 3, dilation=2, groups=2), "Conv1d(4, 8, kernel_size=(3,), stride=(1,), dilation=(2,), groups=2)"),
    (nn.Conv3d(1, 1, (1, 2, 3), padding="same"),
     "Conv3d(1, 1, kernel_size=(1, 2, 3), stride=(1, 1, 1), padding=same)"),
    (nn.Linear(3, 4, bias=False), "Linear(in_features=3, out_features=4, bias=False)"),
    (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (nn.AvgPool2d((2, 3), 1), "AvgPool2d(kernel_size=(2, 3), stride=1, padding=0)"),
    (nn.AdaptiveAvgPool2d((1, None)), "AdaptiveAvgPool2d(output_size=(1, None))"),
    (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
    (nn.Dropout(0.25), "Dropout(p=0.25, inplace=False)"),
    (nn.LeakyReLU(0.2, True), "LeakyReLU(negative_slope=0.2, inplace=True)"),
    (nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)"),
    (nn.ELU(), "ELU(alpha=1.0)"),
    (nn.GELU("tanh"), "GELU(approximate='tanh')"),
    (nn.Softmax(1), "Softmax(dim=1)"),
    (nn.Identity(54, unused=1), "Identity()"),
    (nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
    (nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"), "CrossEntropyLoss(label_smoothing=0.1, reduction='sum')"),
    (nn.BatchNorm1d(2, momentum=None), "BatchNorm1d(2, eps=1e-05, momentum=None, affine=True, track_running_stats=True)"),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_repr_of_layers(layer, text):
    assert repr(layer) == text


# ---- arguments --------------------------------------------------------------------------------------------------------


def test_layers_normalise_their_arguments():
    conv = nn.Conv3d(4, 6, (3,), [1, 2, 3], np.int64(1), groups=2)
    assert conv.kernel_size == (3, 3, 3) and conv.stride == (1, 2, 3) and conv.padding == (1, 1, 1)
    assert conv.weight.shape == (6, 2, 3, 3, 3) and conv.bias.shape == (6,)
    assert nn.MaxPool2d(3).stride == 3 and nn.MaxPool2d(3, 2).stride == 2
    bn = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert bn.weight is None and bn.running_mean is None and bn.state_dict() == {}
    loss = nn.CrossEntropyLoss(weight=[1, 2, 3])
    assert list(loss.state_dict()) == ["weight"] and list(loss.parameters()) == []


def test_reset():
    bn = nn.BatchNorm2d(3)
    start = bn.state_dict()
    bn.load_state_dict(changed(start))
    bn.reset_running_stats()
    assert (bn.running_var.data == 1).all() and bn.num_batches_tracked == 0 and (bn.bias.data == 1).all()
    bn.reset_parameters()
    for name, value in bn.state_dict().items():
        np.testing.assert_array_equal(value, start[name])
    conv = nn.Conv2d(2, 2, 2)
    before = conv.state_dict()
    conv.reset_parameters()
    assert not (conv.state_dict()["weight"] == before["weight"]).any()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.Conv2d(64, 64, 3, groups=3), ValueError, "Conv2d: groups=3 does not divide in_channels=64"),
    (lambda: nn.Conv2d(6, 64, 3, groups=3), ValueError, "Conv2d: groups=3 does not divide out_channels=64"),
    (lambda: nn.Conv2d(0, 1, 3), ValueError, "Conv2d: in_channels=0 must be at least 1"),
    (lambda: nn.Conv2d(1, 1.0, 3), TypeError, "Conv2d: out_channels=1.0: expected an integer"),
    (lambda: nn.Conv2d(1, 1, 0), ValueError, "Conv2d: kernel_size=0 must be at least 1"),
    (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError,
     r"Conv2d: kernel_size=\(3, 3, 3\) has 3 values: expected 1 or 2, one per spatial dimension"),
    (lambda: nn.Conv1d(1, 1, 3, stride=0), ValueError, "Conv1d: stride=0 must be at least 1"),
    (lambda: nn.Conv2d(1, 1, 3, stride=True), TypeError, "Conv2d: stride=True: expected an integer"),
    (lambda: nn.Conv3d(1, 1, 3, padding=-1), ValueError, "Conv3d: padding=-1 must be at least 0"),
    (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError,
     "Conv2d: padding='full': expected integers, 'same' or 'valid'"),
    (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError,
     "Conv2d: padding='same' needs stride 1, not stride=2"),
    (lambda: nn.Conv2d(1, 1, 3, dilation=(1, 0)), ValueError, "Conv2d: dilation=0 must be at least 1"),
    (lambda: nn.Conv2d(1, 1, 3, bias=1), TypeError, "Conv2d: bias=1: expected True or False"),
    (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), ValueError,
     "Conv2d: padding_mode='mirror': expected one of 'zeros', 'reflect', 'replicate', 'circular'"),
    (lambda: nn.Linear(-1, 2), ValueError, "Linear: in_features=-1 must be at least 1"),
    (lambda: nn.Linear(2, None), TypeError, "Linear: out_features=None: expected an integer"),
    (lambda: nn.MaxPool2d(2, padding=2), ValueError, "MaxPool2d: padding=2 must be at most half of kernel_size=2"),
    (lambda: nn.MaxPool2d(2, return_indices=1), TypeError, "MaxPool2d: return_indices=1: expected True or False"),
    (lambda: nn.MaxPool1d(2, ceil_mode=1), TypeError, "MaxPool1d: ceil_mode=1: expected True or False"),
    (lambda: nn.AvgPool2d((2, 2), (1, 0)), ValueError, "AvgPool2d: stride=0 must be at least 1"),
    (lambda: nn.AvgPool3d(2, divisor_override=0), ValueError, "AvgPool3d: divisor_override=0 must be at least 1"),
    (lambda: nn.AdaptiveAvgPool2d((1, 1, 1)), ValueError, r"AdaptiveAvgPool2d: output_size=\(1, 1, 1\) has 3 values"),
    (lambda: nn.AdaptiveMaxPool1d(0), ValueError, "AdaptiveMaxPool1d: output_size=0 must be at least 1"),
    (lambda: nn.BatchNorm2d(0), ValueError, "BatchNorm2d: num_features=0 must be at least 1"),
    (lambda: nn.BatchNorm2d(1, eps=-1e-5), ValueError, "BatchNorm2d: eps=-1e-05 must be a number of at least 0"),
    (lambda: nn.BatchNorm2d(1, momentum=2), ValueError, "BatchNorm2d: momentum=2 must be from 0 to 1"),
    (lambda: nn.BatchNorm2d(1, eps="small"), TypeError, "BatchNorm2d: eps='small': expected a number"),
    (lambda: nn.Dropout(1.5), ValueError, "Dropout: p=1.5 must be from 0 to 1"),
    (lambda: nn.Dropout(float("nan")), ValueError, "Dropout: p=nan must be from 0 to 1"),
    (lambda: nn.Hardtanh(1, 0), ValueError, "Hardtanh: min_val=1 is greater than max_val=0"),
    (lambda: nn.GELU("erf"), ValueError, "GELU: approximate='erf': expected one of 'none', 'tanh'"),
    (lambda: nn.Softmax(0.5), TypeError, "Softmax: dim=0.5: expected an integer"),
    (lambda: nn.CrossEntropyLoss(reduction="avg"), ValueError,
     "CrossEntropyLoss: reduction='avg': expected one of 'mean', 'sum', 'none'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError,
     "CrossEntropyLoss: label_smoothing=2 must be from 0 to 1"),
    (lambda: nn.CrossEntropyLoss(weight=[[1.0]]), ValueError, r"CrossEntropyLoss: weight of shape \(1, 1\): expected"),
    (lambda: nn.CrossEntropyLoss(weight=[1.0, -1.0]), ValueError, "CrossEntropyLoss: weight must not be negative"),
    (lambda: nn.CrossEntropyLoss(ignore_index=0.5), TypeError, "CrossEntropyLoss: ignore_index=0.5: expected an int"),
    (lambda: nn.MSELoss(reduction="all"), ValueError, "MSELoss: reduction='all': expected one of"),
    (lambda: nn.MSELoss("sum"), TypeError, "MSELoss: size_average='sum': expected True or False"),  # PyTorch's order
])
def test_errors_at_construction(call, error, message):
    with pytest.raises(error, match=message):
        call()


def nested(layer):
    """A network in which the layer's path is features.1.layer."""
    return nn.Sequential(OrderedDict(features=nn.Sequential(nn.Identity(), nn.Sequential(OrderedDict(layer=layer)))))


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (nn.Conv2d(3, 4, 3), (1, 4, 8, 8),
     r"Conv2d 'features.1.layer': input of shape \(1, 4, 8, 8\) has 4 channels: expected in_channels=3"),
    (nn.Conv2d(3, 4, 3), (1, 3),
     r"Conv2d 'features.1.layer': input of shape \(1, 3\) has 2 dimensions: expected 4 \(N, C, H, W\)"),
    (nn.Conv2d(3, 4, 9), (1, 3, 8, 8), "Conv2d 'features.1.layer': the output would be empty: spatial dimension 0 has 8"),
    (nn.Linear(4, 2), (1, 3), r"Linear 'features.1.layer': input of shape \(1, 3\) has 3 features: expected in_features=4"),
    (nn.Flatten(4), (1, 4, 2, 2), "flatten 'features.1.layer': start_dim=4, end_dim=-1: input of shape"),
    (nn.Linear(4, 2), (1, 4, 2, 2),
     r"Linear 'features.1.layer': input of shape \(1, 4, 2, 2\) has 2 features: expected in_features=4"),
    (nn.MaxPool2d(2), (1, 4), r"MaxPool2d 'features.1.layer': input of shape \(1, 4\) has 2 dimensions: expected 4"),
    (nn.AdaptiveAvgPool1d(1), (1, 4, 2, 2), "AdaptiveAvgPool1d 'features.1.layer': .* has 4 dimensions: expected 3"),
    (nn.BatchNorm2d(3), (1, 4, 2, 2), "BatchNorm2d 'features.1.layer': .* has 4 channels: expected num_features=3"),
    (nn.BatchNorm1d(3), (1, 3, 2, 2), r"BatchNorm1d 'features.1.layer': .*: expected 2 \(N, C\) or 3 \(N, C, L\)"),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_errors_name_the_path(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        fc.compile(nested(layer), shape)


def test_the_path_of_a_module_that_another_calls():
    class Weird(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1))])

        def forward(self, x):
            return self.blocks[0][0](x)  # not through the Sequential

    with pytest.raises(ValueError, match=r"Conv2d 'net.blocks.0.0': input of shape \(1, 2, 3, 3\) has 2 channels"):
        fc.compile(nn.Sequential(OrderedDict(net=Weird())), (1, 2, 3, 3))


def test_arrays_are_refused():
    with pytest.raises(TypeError, match=r"ReLU: called with a ndarray: .* engine = fastconv.compile\(module, x.shape\)"):
        nn.ReLU()(np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError, match="Sequential: called with a float32"):
        nn.Sequential()(np.float32(1))


def test_an_output_may_be_the_input_itself():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(fc.compile(nn.Identity(), x.shape)(x), x)
    one, (two, three) = fc.compile(lambda x: (x, [x, x.flatten(1)]), x.shape)(x)
    for y in (one, two, three.reshape(x.shape)):
        np.testing.assert_array_equal(y, x)

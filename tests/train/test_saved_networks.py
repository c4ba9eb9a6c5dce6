"""What is saved comes back: replaced parts, NumPy's numbers, attributes of any name; and what a file may claim."""

import copy
import json
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, zoo
from fastconv.nn import describe

pytest.importorskip("safetensors", reason="safetensors is not installed")


def layers():
    """An instance of every layer, with arguments that are not the defaults, some of them NumPy's."""
    three, flag = np.int64(3), np.True_
    yield from (c(4, np.int32(6), three, stride=2, padding=1, dilation=np.int8(2), groups=2, bias=False)
                for c in (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    yield from (nn.Conv2d(4, 4, (3, 5), padding="same", padding_mode="reflect"), nn.Conv1d(2, 2, 3, padding="valid"))
    yield from (c(4, 6, three, 2, 1, output_padding=1, groups=2, bias=flag, dilation=2)
                for c in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    yield from (nn.Linear(three, 4), nn.Linear(3, 4, bias=False), nn.Flatten(1, 2), nn.Identity(), nn.Dropout(0.25))
    yield from (c(4, eps=np.float32(1e-3), momentum=None) for c in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    yield from (nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False))
    yield from (c(three, 2, 1, ceil_mode=True) for c in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d))
    yield from (c((3,), ceil_mode=True, count_include_pad=False) for c in (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
    yield nn.AvgPool2d((3, 2), (2, 1), (1, 0), divisor_override=5)
    yield from (c(three) for c in (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
                                   nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d))
    yield nn.AdaptiveAvgPool2d((None, 2))
    for kind in ("Zero", "Reflection", "Replication", "Circular"):
        yield from (getattr(nn, f"{kind}Pad{d}d")((1, 2) * d) for d in (1, 2, 3))
    yield from (getattr(nn, f"ConstantPad{d}d")(1, value) for d, value in ((1, 0.5), (2, float("-inf")), (3, np.float64(2))))
    yield from (nn.ReLU(inplace=True), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-2, np.float32(3)),
                nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.5), nn.Sigmoid(), nn.Tanh(), nn.GELU("tanh"), nn.Softmax(1),
                nn.LogSoftmax(), nn.CrossEntropyLoss(label_smoothing=0.1), nn.MSELoss(reduction="sum"))
    yield from (nn.SELU(), nn.Mish(inplace=True), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.CELU(0.5),
                nn.Softplus(2, 10), nn.Hardshrink(0.2), nn.Softshrink(0.1), nn.Threshold(0.1, np.float32(2)),
                nn.GLU(1), nn.RReLU(0.1, 0.2), nn.PReLU(3, 0.1), nn.Dropout1d(0.1), nn.Dropout2d(0.2, True), nn.Dropout3d(),
                nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(), nn.StochasticDepth(0.1, "row"))
    yield from (nn.PixelShuffle(np.int32(2)), nn.PixelUnshuffle(2), nn.ChannelShuffle(3), nn.Unflatten(1, [2, -1]),
                nn.Embedding(7, 3, 2), nn.EmbeddingBag(7, 3, mode="sum", padding_idx=-1), nn.FractionalMaxPool2d(2, 3),
                nn.FractionalMaxPool3d(2, output_ratio=0.5), nn.LPPool1d(2, 3), nn.LPPool2d(1.5, (2, 3), 1, True),
                nn.LPPool3d(2, 2), nn.MaxUnpool1d(2), nn.MaxUnpool2d((3, 2), 2, 1), nn.MaxUnpool3d(2),
                nn.Unfold((3, 2), padding=1), nn.Fold((4, 5), 2, stride=(2, 1)))
    yield from (nn.Bilinear(three, 4, 5, bias=False), nn.MultiheadAttention(8, 2, kdim=three, bias=False, batch_first=flag),
                nn.MultiheadAttention(6, 3, add_bias_kv=True), nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True),
                nn.RNN(3, 4, nonlinearity="relu", bias=False), nn.GRU(3, 4, batch_first=True, dropout=0.5),
                nn.LSTMCell(3, 4), nn.RNNCell(3, 4, nonlinearity="relu"), nn.GRUCell(3, 4, bias=False))
    yield from (nn.LayerNorm((three, 4)), nn.RMSNorm(4, eps=1e-3), nn.GroupNorm(2, np.int64(4), affine=False),
                nn.LocalResponseNorm(2, 1e-3), nn.CrossMapLRN2d(3, k=2), nn.Softmin(1), nn.Softmax2d(),
                nn.CosineSimilarity(0, 1e-6), nn.PairwiseDistance(1, keepdim=True), nn.RoIAlign(2, 0.5, 2, True),
                nn.RoIPool((2, 3), np.float32(0.5)), nn.PSRoIAlign(2, 0.5, 2), nn.PSRoIPool(2, 0.5),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=flag),
                nn.UpsamplingBilinear2d((3, 4)), nn.UpsamplingNearest2d(scale_factor=2))
    yield from (c(4, affine=flag, momentum=0.2) for c in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
    yield from (nn.L1Loss(reduce=False), nn.SmoothL1Loss(beta=0.5), nn.HuberLoss("sum", 2), nn.BCELoss(),
                nn.BCEWithLogitsLoss(pos_weight=[2.0, 0.5, 1.0]), nn.KLDivLoss(reduction="batchmean", log_target=True),
                nn.NLLLoss(np.ones(3), ignore_index=three), nn.PoissonNLLLoss(False, full=True),
                nn.CTCLoss(1, zero_infinity=flag), nn.GaussianNLLLoss(eps=1e-3), nn.HingeEmbeddingLoss(0.5),
                nn.MarginRankingLoss(0.5), nn.SoftMarginLoss(),
                nn.MultiMarginLoss(2, 0.5, [1, 2]), nn.MultiLabelMarginLoss(), nn.MultiLabelSoftMarginLoss([1, 2]),
                nn.TripletMarginLoss(0.5, swap=True), nn.TripletMarginWithDistanceLoss(margin=2),
                nn.CosineEmbeddingLoss(0.5), nn.FocalLoss(0.5, 1), nn.DiceLoss(0.5), nn.TverskyLoss(0.2, 0.8))
    yield from (c(3, 4, 3, 2, 1, depth_multiplier=2, bias=False)
                for c in (nn.SeparableConv1d, nn.SeparableConv2d, nn.SeparableConv3d))
    yield from (nn.TransformerEncoderLayer(8, 2, 16, 0.2, "gelu", batch_first=flag, bias=False),
                nn.TransformerDecoderLayer(8, np.int64(4), 5, norm_first=True), nn.StdConv1d(3, 4, 3, eps=1e-3),
                nn.StdConv2d(4, 4, (3, 1), 2, 1, groups=2, bias=False), nn.StdConv3d(1, 2, 2),
                nn.Transformer(4, 2, 1, 2, 5, bias=flag))


def as_part(layer, path):
    """A network with the layer in it, saved and loaded."""
    net = zoo.lenet5(2)
    net.add_module("12", layer)
    fc.train.save(net, path)
    return net, fc.load(path)


def equal(net, back):
    """Modules, their order and all values are the same."""
    assert repr(net) == repr(back)
    state, other = net.state_dict(), back.state_dict()
    assert list(state) == list(other)
    for name, value in state.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("layer", list(layers()), ids=lambda layer: type(layer).__name__)
def test_every_layer_comes_back(layer, tmp_path):
    net, back = as_part(layer, tmp_path / "net")
    equal(net, back)
    fc.train.save(back, tmp_path / "again")
    assert (tmp_path / "net").read_bytes() == (tmp_path / "again").read_bytes()


def test_no_layer_is_left_out():
    tried = {type(layer).__name__ for layer in layers()}
    lazy = {name for name in describe._layers() if name.startswith("Lazy")}  # not yet a layer
    assert tried == set(describe._layers()) - set(describe.CONTAINERS) - lazy - {"MultiTaskLoss", *describe.OF_PARTS}
    parts = [nn.MultiTaskLoss([nn.MSELoss()]), nn.ParameterList([np.ones(3)]), nn.ParameterDict({"a": np.ones(3)}),
             nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 2),
             nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2), 2), nn.utils.weight_norm(nn.Linear(2, 3))]
    for part in parts:  # whose arguments are parts, or make another layer
        net = zoo.lenet5(2)
        net.add_module("part", part)
        with pytest.raises(describe.Undescribable, match=f"its part is a {type(part).__name__}|its part.*parameters"):
            describe.describe(net)


def test_attributes_that_were_changed(tmp_path):
    net = zoo.resnet18(3)
    net.bn1.eps, net.bn1.momentum, net.maxpool.ceil_mode = 1e-2, 0.5, True
    net.fc.bias = None
    fc.train.save(net, tmp_path / "net")
    back = fc.load(tmp_path / "net")
    equal(net, back)
    assert (back.bn1.eps, back.bn1.momentum, back.maxpool.ceil_mode, back.fc.bias) == (1e-2, 0.5, True, None)


def replaced_head(net):
    net.fc = nn.Linear(512, 3)


def deep_head(net):
    net.fc = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(512, np.int64(7)), nn.ReLU()), nn.Linear(7, 3))


def no_head(net):
    net.fc = nn.Identity()


def grey(net):
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)


def other_activations(net):
    for block in [*net.layer1, *net.layer2]:
        block.relu = nn.SiLU()
    net.relu = nn.LeakyReLU(0.1)


def shorter(net):
    net.layer4 = nn.Identity()
    net.fc = nn.Linear(256, 3)
    del net.layer1._modules["1"]


def longer(net):
    net.layer1.add_module("2", nn.Sequential(nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)))


def from_another(net):
    net.layer4 = zoo.resnet18(2).layer4


def a_network_within(net):
    net.fc = nn.Sequential(nn.Linear(512, 3 * 8), nn.Linear(24, 3))
    net.layer1[0].relu = nn.Sequential(nn.ReLU(), nn.Identity())


@pytest.mark.parametrize("change", [replaced_head, deep_head, no_head, grey, other_activations, shorter, longer,
                                    from_another, a_network_within])
def test_networks_with_replaced_parts(change, tmp_path):
    """Trained for a step, saved, loaded: the same bits come out, also from the loaded one saved again."""
    fc.manual_seed(0)
    net = zoo.resnet18(num_classes=5)
    change(net)
    x = np.random.default_rng(0).standard_normal((2, 1 if change is grey else 3, 32, 32), np.float32)
    if change is not no_head:
        trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.01))
        trainer.fit((x, np.array([0, 1])), 1, batch_size=2)
        trainer.save(tmp_path / "net", {"classes": list("abc")})
    else:
        fc.train.save(net, tmp_path / "net", {"classes": list("abc")})
    back = fc.load(tmp_path / "net")
    equal(net, back)
    assert back.preprocessing == {"classes": list("abc")}
    np.testing.assert_array_equal(fc.compile(back, x.shape)(x), fc.compile(net, x.shape)(x))
    for again in (back, copy.deepcopy(back), pickle.loads(pickle.dumps(back))):
        fc.train.save(again, tmp_path / "again")
        assert (tmp_path / "net").read_bytes() == (tmp_path / "again").read_bytes()


def test_the_other_networks_with_their_usual_heads(tmp_path):
    heads = {"mobilenet_v2": ("classifier.1", 1280), "vgg11": ("classifier.6", 4096), "alexnet": ("classifier.6", 4096),
             "lenet5": ("11", 84), "mobilenet_v1": ("classifier", 1024)}
    for name in ("mobilenet_v2", "lenet5", "mobilenet_v1"):
        path, features = heads[name]
        net = zoo.create(name, num_classes=3)
        above, _, last = path.rpartition(".")
        setattr(net.get_submodule(above), last, nn.Linear(features, 9))
        fc.train.save(net, tmp_path / name)
        equal(net, fc.load(tmp_path / name))


def test_numpy_arguments(tmp_path):
    net = zoo.resnet18(num_classes=np.int64(3), in_channels=np.uint8(1))
    assert net.network == {"name": "resnet18", "arguments": {"num_classes": 3, "in_channels": 1}}
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=np.float32(0.01)))
    x = np.zeros((2, 1, 32, 32), np.float32)
    trainer.fit((x, np.array([0, 1])), 1, checkpoint=tmp_path / "checkpoint")
    trainer.save(tmp_path / "net", {"mean": np.array([0.5]), "std": np.float32(0.25), "size": (np.int64(32), np.int32(32)),
                                    "classes": ("a", "b"), "flag": np.True_})
    back = fc.load(tmp_path / "net")
    equal(net, back)
    assert back.preprocessing == {"mean": [0.5], "std": 0.25, "size": [32, 32], "classes": ["a", "b"], "flag": True}


class Named(nn.Module):
    """A network whose parts have names that files and loaded networks use."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.preprocessing = nn.BatchNorm2d(2)
        self.arguments, self.name, self.state = nn.Parameter(np.ones(2)), "a name", {1: object()}
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        x = self.preprocessing(self.network(x))
        return self.fc(nn.AdaptiveAvgPool2d(1)(x).flatten(1) * self.arguments)


@pytest.mark.parametrize("value", [None, "text", {"f": np.mean}, {"mean": [0.5]}, object(), [1, 2]])
def test_attributes_called_as_the_files_own(value, tmp_path):
    net = Named()
    if value is not None:
        del net.preprocessing, net.network
        net.network, net.preprocessing = value, value
        net.forward = lambda x: net.fc(nn.AdaptiveAvgPool2d(1)(x).flatten(1) * net.arguments)
    x = np.random.default_rng(0).standard_normal((2, 2 if value is not None else 1, 8, 8), np.float32)
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    trainer.fit((x, np.array([0, 1])), 1, checkpoint=tmp_path / "checkpoint")
    trainer.save(tmp_path / "net")
    with pytest.raises(ValueError, match="does not name its network.*load_state_dict"):
        fc.load(tmp_path / "net")
    other = Named()
    arrays, metadata = fc.train.load_model(tmp_path / "net")
    other.load_state_dict(arrays, strict=value is None)
    np.testing.assert_array_equal(other.fc.weight.data, net.fc.weight.data)
    assert ("preprocessing" in metadata) is (value == {"mean": [0.5]})


def test_a_module_in_a_zoo_network_under_such_a_name(tmp_path):
    net = zoo.lenet5(2)
    net.add_module("preprocessing", nn.ReLU())
    net.add_module("network", nn.Identity())
    fc.train.save(net, tmp_path / "net", {"mean": [0.5]})
    back = fc.load(tmp_path / "net")
    equal(net, back)
    fc.train.save(back, tmp_path / "again")
    assert (tmp_path / "net").read_bytes() == (tmp_path / "again").read_bytes()


class Own(nn.Module):
    def forward(self, x):
        return x


class OwnLinear(nn.Linear):
    pass


def own(net):
    net[11] = OwnLinear(84, 2)


def own_deep(net):
    net[10] = nn.Sequential(nn.ReLU(), Own())


def more_parameters(net):
    net.scale = nn.Parameter(np.ones(3))


def odd_shape(net):
    net[11].weight = nn.Parameter(np.zeros((2, 85)))


def tied(net):
    net[12] = nn.Linear(2, 2)
    net[13] = nn.Linear(2, 2)
    net[13].weight = net[12].weight


def own_forward(net):
    net[10].forward = lambda x: x


@pytest.mark.parametrize("change, why", [(own, "its 11 is a OwnLinear of your own"), (own_deep, "its 10.1 is a Own of"),
                                         (more_parameters, "it has other attributes, parameters"),
                                         (tied, "parameters are shared"),
                                         (odd_shape, "its 11 is a Linear with other parameters"),
                                         (own_forward, "its 10 is a ReLU of your own")])
def test_parts_of_the_users_own_load_into_what_the_user_builds(change, why, tmp_path):
    net = nn.Sequential(zoo.lenet5(2))[0]
    for name in ("12", "13"):
        net.add_module(name, nn.Identity())
    change(net)
    fc.train.save(net, tmp_path / "net")
    with pytest.raises(ValueError, match=f"does not name its network .{why}.*load_state_dict"):
        fc.load(tmp_path / "net")
    net.load_state_dict(fc.train.load_model(tmp_path / "net")[0])


@pytest.mark.parametrize("name", ["__metadata__", "a\nb", "\udcff", "\x00"])
def test_names_that_no_file_holds_are_refused_when_they_are_given(name):
    module = nn.Sequential()
    for register, value in ((module.register_parameter, nn.Parameter(np.ones(1))), (module.add_module, nn.ReLU()),
                            (module.register_buffer, np.ones(1))):
        with pytest.raises(ValueError, match="a model file cannot hold it"):
            register(name, value)


# --- what a file may claim ------------------------------------------------------------------------------------------------


def claim(path, network, arrays=None, metadata=None):
    """A file that says what it likes of its network."""
    header = {"__metadata__": {"network": json.dumps(network), **(metadata or {})}, **(arrays or {})}
    text = json.dumps(header).encode()
    size = max((entry["data_offsets"][1] for entry in (arrays or {}).values()), default=0)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(min(size, 100)))
    return path


def sequential(depth):
    part = {"layer": "Identity"}
    for _ in range(depth):
        part = {"layer": "Sequential", "modules": [["0", part]]}
    return part


def changed(part, **more):
    return {"name": "lenet5", "arguments": {}, "changes": {"11": part}, **more}


CLAIMS = [
    ({"name": "alexnet", "arguments": {"num_classes": 250_000}}, "missing"),
    ({"name": "vgg19", "arguments": {}}, "missing"),
    ({"name": "alexnet", "arguments": {"num_classes": 10**12}}, "MiB that there are"),
    ({"name": "alexnet", "arguments": {"num_classes": 10**400}}, "load"),
    ({"name": "alexnet", "arguments": {"num_classes": -1}}, "num_classes|out_features"),
    ({"name": "alexnet", "arguments": {"num_classes": [1]}}, "load"),
    ({"name": "alexnet", "arguments": {"num_classes": float("inf")}}, "load"),
    ({"name": "lenet5", "arguments": {"self": 1}}, "load"),
    (changed({"layer": "Linear", "arguments": {"in_features": 200_000, "out_features": 50_000}}), "has shape|missing|MiB"),
    (changed({"layer": "BatchNorm2d", "arguments": {"num_features": 2 * 10**9}}), "missing|MiB"),
    (changed({"layer": "Conv3d", "arguments": {"in_channels": 4096, "out_channels": 999, "kernel_size": 9}}), "missing|MiB"),
    (changed(sequential(99)), "missing"),
    (changed(sequential(102)), "100 within each other"),
    (changed({"layer": "Module"}), "no layer of fastconv.nn"),
    (changed({"layer": "Parameter"}), "no layer of fastconv.nn"),
    (changed({"layer": "init"}), "no layer of fastconv.nn"),
    (changed({"layer": "__import__"}), "no layer of fastconv.nn"),
    (changed({"layer": ["Linear"]}), "no layer of fastconv.nn"),
    (changed({"layer": "Sequential", "modules": {"a": 1}}), "pairs of a name"),
    (changed({"layer": "Sequential", "modules": [["a.b", {"layer": "ReLU"}]]}), "without a dot"),
    (changed({"layer": "Sequential", "modules": [["forward", {"layer": "ReLU"}]]}), "is an attribute of the class"),
    (changed({"layer": "Sequential", "modules": [[{}, {"layer": "ReLU"}]]}), "load"),
    (changed([]), "expected an object"),
    ({"name": "lenet5", "changes": {"11.deeper": {"layer": "ReLU"}, "12.x": None}}, "there is nothing|no submodule"),
    ({"name": "lenet5", "changes": {"": {"layer": "ReLU"}}}, "load"),
    ({"name": "lenet5", "changes": []}, "expected an object"),
    ({"name": "lenet5", "arguments": [1]}, "expected an object"),
    ({"layer": "Linear", "arguments": {"in_features": 1, "out_features": 1}}, "expected an object with a name"),
    (None, "expected an object"),
]


@pytest.mark.parametrize("network, message", CLAIMS, ids=range(len(CLAIMS)))
def test_nothing_is_allocated_for_a_claim(tmp_path, network, message):
    path = claim(tmp_path / "small", network)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            fc.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 2e6 + 100 * path.stat().st_size  # AlexNet's modules, without values, are the largest part


def test_very_many_modules(tmp_path):
    network = changed({"layer": "Sequential", "modules": [[str(i), {"layer": "ReLU"}] for i in range(100_001)]})
    with pytest.raises(ValueError, match="more than 100000 modules"):
        fc.load(claim(tmp_path / "a", network))


def test_nothing_is_read_of_arrays_that_do_not_fit(tmp_path):
    """A sparse file of 3 TiB costs no disk: its header says all that is wrong with it."""
    shape = [10**6, 800_000]
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}
    for network in ({"name": "lenet5", "arguments": {}},
                    changed({"layer": "Linear", "arguments": {"in_features": 800_000, "out_features": 10**6}})):
        path = claim(tmp_path / "sparse", network, {"11.weight": entry})
        try:
            with open(path, "r+b") as file:
                length = struct.unpack("<Q", file.read(8))[0]
                file.truncate(8 + length + entry["data_offsets"][1])
        except OSError as error:
            pytest.skip(f"no sparse files of this size here: {error}")
        with pytest.raises(ValueError, match="missing|MiB that there are"):
            fc.load(path)
        with pytest.raises(ValueError, match="MiB that there are"):
            fc.train.load_model(path)


def test_loading_draws_no_random_numbers(tmp_path):
    fc.train.save(zoo.lenet5(3), tmp_path / "net")
    fc.manual_seed(5)
    expected = zoo.lenet5(3).state_dict()
    fc.manual_seed(5)
    fc.load(tmp_path / "net")
    for name, value in zoo.lenet5(3).state_dict().items():
        np.testing.assert_array_equal(value, expected[name])


def test_parameters_without_memory():
    from fastconv.graph.parameter import allocated, unallocated

    with unallocated():
        layer = nn.Conv2d(3, 4, 3)
        norm = nn.BatchNorm2d(5)
    plain = nn.Conv2d(3, 4, 3)
    assert allocated(plain.weight) and not allocated(layer.weight) and layer.weight.shape == (4, 3, 3, 3)
    assert norm.running_var.data.tolist() == [1.0] * 5 and not norm.running_mean.requires_grad
    layer.load_state_dict(plain.state_dict())
    np.testing.assert_array_equal(layer.weight.data, plain.weight.data)
    with norm.weight.edit() as values:
        values[0] = 3
    assert norm.weight.data.tolist() == [3, 1, 1, 1, 1]
    assert norm.bias.address and allocated(norm.bias)
    nn.init.ones_(norm.running_mean)
    assert norm.running_mean.data.tolist() == [0] * 5  # without memory there is nothing to fill


@pytest.mark.parametrize("make", [fc.train.ModelCheckpoint, lambda path: fc.train.LogWriter(f"{path}.csv")])
def test_what_cannot_be_written_is_refused_before_training(make, tmp_path):
    trainer = fc.Trainer(zoo.lenet5(2), nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    data = np.zeros((4, 1, 32, 32), np.float32), np.arange(4) % 2
    with pytest.raises(OSError, match="no such folder"):
        trainer.fit(data, 1, validation=data, callbacks=[make(str(tmp_path / "no such folder" / "a"))])
    assert trainer.steps == 0


def test_checkpoints_take_numpys_numbers_and_name_what_they_cannot(tmp_path):
    trainer = fc.Trainer(zoo.lenet5(2), nn.CrossEntropyLoss(), fc.optim.SGD(lr=np.float64(0.1)))
    data = np.zeros((4, 1, 32, 32), np.float32), np.arange(4) % 2
    trainer.notes = {"a": np.int64(3), "b": np.arange(2), "c": np.float32(0.5)}
    trainer.kept = {"x": np.arange(3, dtype=np.int8)}
    trainer.fit(data, 1, checkpoint=tmp_path / "c", callbacks=[lambda trainer, row: row.update(more=np.float32(2))])
    assert fc.train.checkpoint.read_notes(tmp_path / "c") == {"a": 3, "b": [0, 1], "c": 0.5}
    other = fc.Trainer(zoo.lenet5(2), nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    other.load_checkpoint(tmp_path / "c")
    assert other.kept["x"].tolist() == [0, 1, 2] and pickle.loads(pickle.dumps(other)).kept["x"].dtype == np.int8
    trainer.notes = {"a": object()}
    steps = trainer.steps
    with pytest.raises(TypeError, match="hold a object, which is not JSON"):
        trainer.fit(data, 1, checkpoint=tmp_path / "c")
    assert trainer.steps == steps  # it is tried before the first

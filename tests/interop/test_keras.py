"""Weights of Keras: files written here by h5py in each of the formats, and by Keras itself where it is installed."""

import io
import json
import logging
import zipfile

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
from fastconv.interop import load_keras, read_keras, read_weights  # noqa: E402


def rng():
    return np.random.default_rng(0)


def description():
    """A Sequential as Keras 3 describes it: convolution, normalisation, depthwise, flattened, dense."""
    def layer(kind, name, **config):
        return {"class_name": kind, "config": {"name": name, **config}}

    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": [
        layer("InputLayer", "input_layer", batch_shape=[None, 8, 6, 3]),
        layer("Conv2D", "stem", filters=5, use_bias=True),
        layer("BatchNormalization", "norm", epsilon=0.01, center=True, scale=False),
        layer("ReLU", "relu"),
        layer("DepthwiseConv2D", "deep", depth_multiplier=2),
        layer("MaxPooling2D", "pool"),
        layer("Flatten", "flatten"),
        layer("Dropout", "drop"),
        layer("Dense", "head", units=4)]}}


def arrays():
    def draw(*shape):
        return rng().standard_normal(shape, dtype=np.float32)

    return {"stem": {"kernel": draw(3, 3, 3, 5), "bias": draw(5)},
            "norm": {"beta": draw(5), "moving_mean": draw(5), "moving_variance": np.abs(draw(5)) + 0.5},
            "deep": {"kernel": draw(3, 3, 5, 2), "bias": draw(10)},
            "head": {"kernel": draw(2 * 1 * 10, 4), "bias": draw(4)}}


GROUPS = {"stem": "conv2d", "norm": "batch_normalization", "deep": "depthwise_conv2d", "head": "dense"}


def tree(file, named=False, extra=()):
    for name, values in arrays().items():
        group = file.create_group(f"layers/{GROUPS[name]}/vars")
        if named:
            group.attrs["name"] = name
        for i, value in enumerate(values.values()):
            group[str(i)] = value
    for key, value in extra:
        file[key] = value


def write_keras(path, named=False, extra=(), about=None):
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        tree(file, named, extra)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(about or description()))
        archive.writestr("model.weights.h5", data.getvalue())


def write_older(path, described=True, ending=":0", prefix="", cut=False):
    """The format of a group per layer, Keras 2's; ``cut``: lists of names in several attributes."""
    with h5py.File(path, "w") as file:
        if described:
            file.attrs["model_config"] = json.dumps(description())
        root = file.create_group("model_weights") if described else file
        names = ["input_layer", *arrays(), "flatten"]
        lists = {"layer_names0": names[:2], "layer_names1": names[2:]} if cut else {"layer_names": names}
        for key, value in lists.items():
            root.attrs[key] = value
        for name in names:
            group = root.create_group(name)
            values = arrays().get(name, {})
            group.attrs["weight_names"] = [f"{prefix}{name}/{key}{ending}" for key in values]
            for key, value in values.items():
                group[f"{prefix}{name}/{key}{ending}"] = value


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.deep = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 10, 3, groups=5)
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        x = self.deep(self.norm(self.stem(x)).relu())
        return self.head(fc.functional.max_pool2d(x, 2).flatten(1))


def truth(x, epsilon):
    """The network as Keras computes it, channels last, written out."""
    a = {name: {key: value.astype(np.float64) for key, value in values.items()} for name, values in arrays().items()}

    def windows(x):
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # N, H, W, C, kh, kw

    y = np.einsum("nhwcij,ijco->nhwo", windows(x.astype(np.float64)), a["stem"]["kernel"]) + a["stem"]["bias"]
    norm = a["norm"]
    y = (y - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + epsilon) + norm["beta"]
    y = np.maximum(y, 0)
    y = np.einsum("nhwcij,ijcm->nhwcm", windows(y), a["deep"]["kernel"]).reshape(len(x), 4, 2, 10) + a["deep"]["bias"]
    y = y.reshape(len(x), 2, 2, 1, 2, 10).max((2, 4))
    return y.reshape(len(x), -1) @ a["head"]["kernel"] + a["head"]["bias"]


def check(net, epsilon=0.01):
    x = rng().standard_normal((3, 8, 6, 3), dtype=np.float32)
    found = fc.compile(net.eval(), (3, 3, 8, 6))(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(found, truth(x, epsilon), rtol=1e-4, atol=1e-4)


WRITERS = {
    "keras 3": ("m.keras", write_keras),
    "keras 3, named groups": ("m.keras", lambda path: write_keras(path, named=True)),
    "a model of keras 2": ("m.h5", write_older),
    "keras 3's older format": ("m.h5", lambda path: write_older(path, ending="", prefix="sequential/")),
    "long lists of names": ("m.hdf5", lambda path: write_older(path, cut=True)),
}


@pytest.mark.parametrize("how", WRITERS)
def test_every_format(tmp_path, how):
    name, write = WRITERS[how]
    write(tmp_path / name)
    net = Net()
    load_keras(net, tmp_path / name)
    assert net.norm.eps == 0.01
    check(net)
    found = read_weights(tmp_path / name)
    assert list(found) == [k for k in net.state_dict() if "num_batches" not in k]
    for key, value in found.items():
        np.testing.assert_array_equal(value, net.state_dict()[key])
        assert value.dtype == np.float32 and value.flags.c_contiguous


def test_files_of_weights_alone_ask_the_network(tmp_path, caplog):
    path = tmp_path / "w.h5"
    write_older(path, described=False)
    net = Net()
    with caplog.at_level(logging.WARNING, "fastconv"):
        load_keras(net, path)
    assert "does not say the epsilon" in caplog.text
    check(net, 1e-5)
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        tree(file, named=True)
        group = file["layers/batch_normalization/vars"]
        del group["0"]  # neither beta nor gamma
        group.move("1", "0")
        group.move("2", "1")
    other = Net()
    load_keras(other, tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.head.weight.data, net.head.weight.data)
    np.testing.assert_array_equal(other.deep.weight.data, net.deep.weight.data)
    assert (other.norm.bias.data == 0).all()
    plain = read_keras(path, channels={"head": 10})
    np.testing.assert_array_equal(plain["head.weight"], net.head.weight.data)


def test_names_that_differ(tmp_path):
    write_keras(tmp_path / "m.keras")

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
            self.deep, self.classifier = nn.Conv2d(5, 10, 3, groups=5), nn.Linear(20, 4)

        def forward(self, x):
            x = self.deep(self.features(x).relu())
            return self.classifier(fc.functional.max_pool2d(x, 2).flatten(1))

    net = Other()
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"(?s)missing: features.0.weight.*unexpected: stem.weight"):
        load_keras(net, tmp_path / "m.keras")
    with pytest.raises(ValueError, match="names has 'conv': the file has the layers stem, norm, deep, head"):
        load_keras(net, tmp_path / "m.keras", {"conv": "features.0"})
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert net.features[1].eps == 1e-5
    load_keras(net, tmp_path / "m.keras", {"stem": "features.0", "norm": "features.1", "head": "classifier"})
    check(net)


def test_what_is_not_known_is_left_out_and_named(tmp_path, caplog):
    about = description()
    about["config"]["layers"].append({"class_name": "MultiHeadAttention", "config": {"name": "attention"}})
    write_keras(tmp_path / "m.keras", about=about, extra=[("layers/multi_head_attention/query/vars/0", np.ones((2, 2)))])
    with caplog.at_level(logging.WARNING, "fastconv"):
        found = read_keras(tmp_path / "m.keras")
    assert "attention is left out: no counterpart of a multiheadattention" in caplog.text
    assert "head.weight" in found


def test_half_precision(tmp_path):
    write_keras(tmp_path / "m.keras")
    path = tmp_path / "h.weights.h5"
    values = np.array([[1.5, -2.25]], np.float32)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = (values.view(np.uint32) >> 16).astype(np.uint16)
        file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
        file["layers/dense/vars/1"] = np.array([0.5, 1], np.float16)
    found = read_keras(path)
    np.testing.assert_array_equal(found["dense.weight"], values.T)
    np.testing.assert_array_equal(found["dense.bias"], [0.5, 1])


def test_zoo_networks_by_the_names_of_applications():
    from fastconv.interop.keras import known_names

    names = known_names(fc.zoo.vgg16())
    assert list(names.items())[:3] == [("block1_conv1", "features.0"), ("block1_conv2", "features.2"),
                                       ("block2_conv1", "features.5")]
    assert names["block5_conv3"] == "features.28" and len(names) == 16 and len(known_names(fc.zoo.vgg19())) == 19
    assert known_names(fc.zoo.vgg16(batch_norm=True)) == {} and known_names(Net()) == {}


# ---- what is no such file -----------------------------------------------------------------------------------------------


def damaged(path, how):
    if how == "text":
        path.write_text("no file of Keras")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a zip of something else":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    elif how == "weights that are none":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "[]")
            archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))
    elif how == "a description that is none":
        write_keras(path)
        data = path.read_bytes()
        path.write_bytes(data.replace(b'{"class_name": "Sequential"', b'{"class_name": [Sequential"'))
    elif how == "no layers":
        with h5py.File(path, "w") as file:
            file["a"] = np.ones(3)
    elif how == "no weights":
        with h5py.File(path, "w") as file:
            file.create_group("layers")
    elif how == "truncated":
        write_older(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "another file's array":
        with h5py.File(path, "w") as file:
            file.create_dataset("layers/dense/vars/0", (2, 2), "f4", external=[("/etc/hostname", 0, 16)])
    elif how == "another file's group":
        with h5py.File(path, "w") as file:
            file.create_group("layers/dense")["vars"] = h5py.ExternalLink("/etc/passwd", "/")
    elif how == "a great claim":
        with h5py.File(path, "w") as file:
            file.create_dataset("layers/dense/vars/0", (30_000, 30_000), "f4", chunks=(100, 100))
    elif how == "texts":
        with h5py.File(path, "w") as file:
            file["layers/dense/vars/0"] = [b"abc"]
    elif how == "names that are not there":
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = ["a"]
    elif how == "too many arrays":
        with h5py.File(path, "w") as file:
            for i in range(3):
                file[f"layers/dense/vars/{i}"] = np.ones((2, 2))
    elif how == "a loop":
        with h5py.File(path, "w") as file:
            file.create_group("layers")["sequential"] = file["/"]


DAMAGED = ["text", "empty", "a zip of something else", "weights that are none", "a description that is none", "no layers",
           "no weights", "truncated", "another file's array", "another file's group", "a great claim", "texts",
           "names that are not there", "too many arrays", "a loop"]


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_files(tmp_path, how):
    path = tmp_path / "m.keras"
    damaged(path, how)
    net = Net()
    before = net.state_dict()
    with pytest.raises(ValueError, match="m.keras"):
        load_keras(net, path)
    with pytest.raises(ValueError, match="m.keras"):
        read_keras(path)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def mutated(value, draw):
    """A description with something in it changed, dropped or of another kind."""
    if draw.random() < 0.04:
        return draw.choice(np.array([None, 3, -1, "x", [], {}, [[1]], 1e300], object))
    if isinstance(value, dict):
        return {key: mutated(v, draw) for key, v in value.items() if draw.random() > 0.02}
    if isinstance(value, list):
        return [mutated(v, draw) for v in value if draw.random() > 0.02]
    return value


def test_descriptions_changed_at_random(tmp_path):
    """The description alone: HDF5's own library does not survive every change of its structures."""
    draw, outcomes = rng(), {"read": 0, "refused": 0}
    path = tmp_path / "m.keras"
    for _ in range(400):
        write_keras(path, about=mutated(description(), draw))
        try:
            read_keras(path)
            outcomes["read"] += 1
        except ValueError as error:
            assert "m.keras" in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10, outcomes


def test_paths_and_modules_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_keras(tmp_path / "none.keras")
    with pytest.raises(TypeError, match="module is a dict"):
        load_keras({}, tmp_path / "none.keras")


# ---- Keras itself -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("torch", reason="PyTorch, Keras's backend here, is not installed")
    return pytest.importorskip("keras", reason="Keras is not installed")


class Wide(nn.Module):
    """Everything that has a rule, nested models too."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.dw = nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Conv2d(6, 12, 3, groups=6)
        self.block = Part()
        self.sep, self.up = nn.SeparableConv2d(4, 5, (1, 2)), nn.ConvTranspose2d(5, 3, 2)
        self.fc, self.ln, self.out = nn.Linear(24, 7), nn.LayerNorm(7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.dw(self.bn1(self.conv1(x)).relu())
        x = self.up(self.sep(self.block.ib(self.block.ic(x))))
        return self.out(self.ln(self.fc(x.flatten(1))))


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.ic, self.ib = nn.Conv2d(12, 4, 1), nn.BatchNorm2d(4)


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.p, self.lstm = nn.Conv1d(4, 4, 3), nn.PReLU(4), nn.LSTM(4, 5, batch_first=True)
        self.gru = nn.GRU(5, 5, batch_first=True, bidirectional=True)
        self.bi, self.d = nn.LSTM(10, 3, batch_first=True, bidirectional=True), nn.Linear(6, 3)

    def forward(self, x):
        x, _ = self.lstm(self.p(self.c(x)).transpose(1, 2))
        x, _ = self.bi(self.gru(x)[0])
        return self.d(fc.functional.cat([x[:, -1, :3], x[:, 0, 3:]], 1))


def theirs(keras, name):
    L = keras.layers
    if name == "sequence":
        return keras.Sequential([
            keras.Input((9, 4)), L.Conv1D(4, 3, name="c"), L.PReLU(shared_axes=[1], name="p"),
            L.LSTM(5, return_sequences=True, name="lstm"), L.Bidirectional(L.GRU(5, return_sequences=True), name="gru"),
            L.Bidirectional(L.LSTM(3), name="bi"), L.Dense(3, name="d")])
    inner = keras.Sequential([L.Conv2D(4, 1, name="ic"), L.BatchNormalization(name="ib")], name="block")
    given = keras.Input((12, 10, 3))
    x = L.ReLU()(L.BatchNormalization(name="bn1")(L.Conv2D(6, 3, strides=2, name="conv1")(given)))
    x = inner(L.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x))
    x = L.Conv2DTranspose(3, 2, name="up")(L.SeparableConv2D(5, (1, 2), name="sep")(x))
    x = L.Dense(7, name="fc")(L.Dropout(0.5)(L.Flatten()(x)))
    return keras.Model(given, L.Dense(2, name="out")(L.LayerNormalization(name="ln")(x)))


@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5"])
@pytest.mark.parametrize("name", ["wide", "sequence"])
def test_what_keras_writes(keras, tmp_path, name, ending):
    model = theirs(keras, name)
    draw = rng()
    for weight in model.weights:
        weight.assign(draw.random(weight.shape) * 0.5 + 0.1)
    path = str(tmp_path / f"m.{ending}")
    (model.save_weights if ending == "weights.h5" else model.save)(path)
    net = (Wide if name == "wide" else Sequence)().eval()
    if ending == "weights.h5":
        for module in net.modules():
            if hasattr(module, "eps"):
                module.eps = 1e-3
    load_keras(net, path)
    x = draw.random((2, 12, 10, 3) if name == "wide" else (2, 9, 4)).astype(np.float32)
    moved = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    want = np.asarray(model.predict(x, verbose=0))
    np.testing.assert_allclose(fc.compile(net, moved.shape)(moved), want, rtol=1e-4, atol=1e-5)

"""Every argument of every public class and function that takes plain values, with what no argument may be.

The lists come from ``__all__`` and the signatures: what is new is tested from its first day. Refusals are TypeError,
ValueError or MemoryError, at once, and name who refuses and which argument.
"""

import inspect
import math
import os
import re

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, nn, optim, train, zoo
from fastconv.data import read_image
from fastconv.train import LogWriter, accuracy, plot_curve

GARBAGE = {"nan": math.nan, "inf": math.inf, "text": "x", "bytes": b"3", "object": object(), "complex": 1j, "dict": {},
           "huge": 2**70, "negative": -2**70, "array": np.array([1, 2]), "half": 1.5, "nested": [[1]]}

# what a first argument may be, where it has no default
NEEDED = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "in_features": 4, "out_features": 4, "num_features": 4,
          "output_size": 2, "padding": 1, "value": 0.0, "T_max": 3, "lr_lambda": lambda n: 1.0, "milestones": [2, 4],
          "max_lr": 0.1, "step_size": 2, "warmup_steps": 3, "gamma": 0.5, "epochs": 2, "steps_per_epoch": 3, "pixels": 1,
          "upscale_factor": 2, "downscale_factor": 2, "groups": 2, "dim": 1, "unflattened_size": (2, 2),
          "threshold": 0.5, "p": 0.5, "mode": "row", "spatial_scale": 1.0, "sampling_ratio": 2, "num_groups": 2,
          "num_channels": 4, "normalized_shape": (4,), "size": 3, "in1_features": 4, "in2_features": 3, "num_embeddings": 5,
          "embedding_dim": 4, "input_size": 4, "hidden_size": 3, "norm_type": 2, "embed_dim": 4, "num_heads": 2,
          "d_model": 8, "nhead": 2, "num_layers": 1, "encoder_layer": nn.TransformerEncoderLayer(8, 2, 5),
          "decoder_layer": nn.TransformerDecoderLayer(8, 2, 5)}

# what is taken, and why: sizes that a module keeps are held against the shape when it is compiled (below), as are dims;
# words stand for anything, sequences for one value per dimension, numbers for infinite limits
KEPT = {"stride", "padding", "dilation", "kernel_size", "output_padding", "output_size", "dim", "start_dim", "end_dim",
        "divisor_override", "unflattened_size", "upscale_factor", "downscale_factor"}
TAKEN = {
    ("Identity", "args"), ("Identity", "keywords"), ("Sequential", "modules"), ("ModuleList", "modules"),
    ("ModuleDict", "modules"), ("ParameterList", "values"), ("ParameterDict", "parameters"), ("Parameter", "data"),
    ("Parameter", "requires_grad"), ("CrossEntropyLoss", "weight"),
    ("NLLLoss", "weight"), ("BCELoss", "weight"), ("BCEWithLogitsLoss", "weight"), ("BCEWithLogitsLoss", "pos_weight"),
    ("MultiMarginLoss", "weight"), ("MultiLabelSoftMarginLoss", "weight"),
}
INTEGERS = {"in_channels", "out_channels", "in_features", "out_features", "num_features", "groups", "ignore_index",
            "num_parameters", "batch_size", "seed", "prefetch", "pixels", "patience", "cooldown", "total_iters", "T_max",
            "step_size", "warmup_steps", "total_steps", "sampling_ratio", "size"} | KEPT
LAYERS = [getattr(nn, name) for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and name != "Module"]
RULES = [getattr(optim, name) for name in optim.__all__ if name != "swa_utils"]
DATA = [data.RandomShift, data.RandomHorizontalFlip, data.DataLoader]
CALLBACKS = [train.EarlyStopping, train.ModelCheckpoint]


def arguments(owner):
    """The arguments that it needs, and the names of all it takes."""
    parameters = inspect.signature(owner).parameters
    if owner.__name__.startswith("Lazy"):  # takes those of its layer, but for the first
        parameters = dict(list(inspect.signature(owner.made).parameters.items())[1:])
    needed = {}
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            needed[name] = NEEDED.get(name)
    if "optimizer" in needed:
        needed["optimizer"] = optim.SGD(0.1, momentum=0.9)
    if "schedulers" in needed:
        one = optim.SGD(0.1)
        needed.update(optimizer=one, schedulers=[optim.StepLR(one, 2), optim.StepLR(one, 3)], milestones=[2])
    if owner is optim.OneCycleLR:
        needed["total_steps"] = 5
    if owner in (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d):
        needed["output_size"] = 2
    if owner is nn.Transformer:  # a small one
        needed.update(d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=5)
    if owner is nn.MultiTaskLoss:
        needed["losses"] = [nn.MSELoss()]
    if "base" in needed:
        needed["base"] = optim.SGD(0.1)
    if "dataset" in parameters:
        needed["dataset"] = data.ArrayDataset(np.zeros((4, 2), np.float32))
    if owner is train.ModelCheckpoint:
        needed["path"] = "a"
    return needed, [name for name in parameters if name != "self"]


PAIRS = [(owner, name) for owner in LAYERS + RULES + DATA + CALLBACKS for name in arguments(owner)[1]
         if (owner.__name__, name) not in TAKEN]


def names(error, owner, argument):
    """Whether a message says who and what; a rule of two arguments may name the other one."""
    text = str(error)
    return owner.__name__ in text and re.search(rf"\b{argument}\b|weight\w* of shape|bias of shape|modules?\b", text)


@pytest.mark.parametrize(("owner", "argument"), PAIRS, ids=[f"{o.__name__}-{a}" for o, a in PAIRS])
def test_garbage_is_refused(owner, argument):
    needed, _ = arguments(owner)
    for kind, value in GARBAGE.items():
        try:
            made = owner(**{**needed, argument: value})
        except (TypeError, ValueError, MemoryError) as error:
            assert names(error, owner, argument), f"{kind}: {error}"
            continue
        assert taken(argument, kind, made), f"{kind}: {made!r}"


def taken(argument, kind, made):
    """What of the garbage is none: numbers where there is no limit, one value per dimension."""
    if argument in ("epochs", "steps_per_epoch"):
        return True  # of OneCycleLR, which has total_steps here
    if argument in KEPT and kind in ("huge", "negative", "nested"):
        return True
    unlimited = ("min_val", "max_val", "value", "negative_slope", "alpha", "lambd", "lower", "upper", "beta", "threshold",
                 "init", "k", "margin", "delta", "gamma", "smooth")
    if isinstance(made, nn.TripletMarginLoss) and argument == "p":
        return kind in ("huge", "half")
    if kind in ("inf", "huge", "negative", "half") and argument in unlimited:
        return kind != "inf" or argument in ("min_val", "max_val", "value")
    pools = nn.LPPool1d, nn.LPPool2d, nn.LPPool3d
    if isinstance(made, nn.PairwiseDistance) and argument == "p" or isinstance(made, pools) and argument == "norm_type":
        return kind in ("inf", "huge", "negative", "half")  # a norm of any order
    if argument in ("norm_type", "max_norm") and kind == "inf":
        return True  # the norm of the largest element; no limit
    if kind == "half":
        return argument not in INTEGERS
    if kind == "huge":
        return not isinstance(made, nn.Module) or argument in ("eps", "layer_norm_eps", "norm_type", "max_norm")
    if kind in ("text", "bytes"):
        return argument in ("path", "monitor", "milestones", "dataset")
    if kind == "array":
        return argument in ("milestones", "dataset", "padding", "stride", "kernel_size", "dilation", "output_size")
    return kind in ("dict", "nested") and argument in ("milestones", "dataset")


@pytest.mark.parametrize(("layer", "argument"), [
    (layer, name) for layer in (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
                                nn.AdaptiveMaxPool2d, nn.ZeroPad2d)
    for name in arguments(layer)[1] if name in KEPT | {"padding"}], ids=lambda v: v if isinstance(v, str) else v.__name__)
@pytest.mark.parametrize("value", [2**31, 2**40, 2**62, 2**70])
def test_sizes_that_fit_no_shape(layer, argument, value):
    """What a layer keeps is held against the input's shape; nothing overflows, and nothing of that size is made."""
    needed, _ = arguments(layer)
    shape = (1, 4, 8, 8)
    try:
        y = fc.compile(layer(**{**needed, argument: value}), shape)(np.ones(shape, np.float32))
    except (ValueError, MemoryError) as error:
        assert layer.__name__ in str(error) or "the plan needs" in str(error) or "pad" in str(error), error
    else:
        assert argument == "stride" and y.shape[2:] == (1, 1) or argument == "divisor_override", y.shape


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.BatchNorm2d(10**13), MemoryError, r"BatchNorm2d: weight of shape \(10000000000000,\) takes .* MiB"),
    (lambda: nn.Linear(10**7, 10**7), MemoryError, r"Linear: weight of shape \(10000000, 10000000\) takes .* MiB"),
    (lambda: zoo.create("vgg16", num_classes=10**9), MemoryError, r"Linear: weight of shape \(1000000000, 4096\) takes"),
    (lambda: fc.compile(nn.ReLU(), (10**9, 100, 100, 100)), MemoryError,
     r"engine: input of shape \(1000000000, 100, 100, 100\)"),
    (lambda: fc.functional.cross_entropy(np.ones((2, 3), np.float32), np.zeros(2, int), ignore_index=2**63), ValueError,
     "ignore_index=9223372036854775808 must be from"),
    (lambda: fc.train.save(None, "x"), TypeError, "save: module is a NoneType: expected an nn.Module"),
    (lambda: fc.train.save(nn.Linear, "x"), TypeError, "save: module is a type"),
    (lambda: plot_curve(3, "a.png"), TypeError, "plot_curve: log is a int"),
    (lambda: plot_curve(np.zeros((2, 2)), "a.png"), TypeError, "plot_curve: log: expected rows, dicts of numbers"),
    (lambda: plot_curve([{"loss": "high"}], "a.png"), TypeError, "plot_curve: log has the value 'high'"),
    (lambda: accuracy(np.zeros((2, 3), object), np.zeros(2, int)), TypeError, "logits must be numbers, got object"),
    (lambda: data.to_float(np.zeros((1, 2, 2), np.uint8), mean="a"), TypeError, "to_float: mean='a' must be a number"),
    (lambda: data.to_float(np.zeros((1, 2, 2), np.uint8), pad=2**40), ValueError, "to_float: pad=1099511627776 must be"),
    (lambda: LogWriter(None), TypeError, "LogWriter: path is a NoneType"),
    (lambda: optim.SGD(1e39), ValueError, "SGD: lr=1e.39 must be at most 3.4e38, the largest float32"),
])
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("reader", [fc.load, fc.train.load_model, fc.Choices.load, data.load_idx, data.load_npz, read_image,
                                    data.load_image_dataset, fc.train.checkpoint.read_notes], ids=lambda f: f.__qualname__)
def test_pipes_and_devices_are_not_read(tmp_path, reader):
    """A pipe would never answer, and /dev/zero never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(OSError, match="cannot read .*: it is not a regular file"):
            reader(path)
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "none")


def test_integers_of_numpy_for_counts():
    trainer = fc.Trainer(nn.Linear(2, 2), nn.CrossEntropyLoss(), optim.SGD(0.1), accumulate=np.int64(2))
    assert trainer._tape.accumulate == 2 and type(trainer._tape.accumulate) is int
    loader = data.DataLoader(data.ArrayDataset(np.zeros((4, 2), np.float32)), np.int32(2), np.True_, drop_last=np.False_)
    assert len(loader) == 2

"""NumPy's scalars wherever Python's numbers and truth values are taken; bad values in short messages."""

import inspect

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import data, nn, optim, train
from house.test_bad_arguments import LAYERS, PAIRS, RULES, arguments

RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((2, 4, 8, 8)).astype(np.float32), RNG.standard_normal((2, 4)).astype(np.float32)
W = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
Y = np.array([1, 3])
T, INT, FLOAT = np.True_, np.int64, np.float32
BIG = np.zeros((100, 100), np.float32)

FUNCTIONS = {
    "conv2d": lambda i, f, b: F.conv2d(X, W, stride=(i(2), i(1)), padding=i(1), dilation=i(1), groups=i(1)),
    "conv_transpose2d": lambda i, f, b: F.conv_transpose2d(X, W.transpose(1, 0, 2, 3)[:4], stride=i(2), output_padding=i(1)),
    "max_pool2d": lambda i, f, b: F.max_pool2d(X, i(3), stride=i(2), ceil_mode=b(True)),
    "max_pool2d indices": lambda i, f, b: F.max_pool2d(X, i(3), return_indices=b(True))[1],
    "avg_pool2d": lambda i, f, b: F.avg_pool2d(X, i(3), i(2), i(1), ceil_mode=b(True), count_include_pad=b(False),
                                               divisor_override=i(5)),
    "adaptive_avg_pool2d": lambda i, f, b: F.adaptive_avg_pool2d(X, (i(3), i(2))),
    "softmax": lambda i, f, b: F.softmax(X, dim=i(2)), "softmax over the batch": lambda i, f, b: F.softmax(X, dim=i(0)),
    "log_softmax": lambda i, f, b: F.log_softmax(X, dim=i(-1)),
    "leaky_relu": lambda i, f, b: F.leaky_relu(X, f(0.25)), "elu": lambda i, f, b: F.elu(X, f(0.5)),
    "cross_entropy": lambda i, f, b: F.cross_entropy(Z, Y, ignore_index=i(3), label_smoothing=f(0.25)),
    "dropout": lambda i, f, b: F.dropout(X, f(0.5), b(True), seed=i(3)),
    "batch_norm": lambda i, f, b: F.batch_norm(X, None, None, training=b(True), eps=f(0.125), momentum=f(0.5)),
    "pad": lambda i, f, b: F.pad(X, (i(1), i(2)), value=f(0.5)), "cat": lambda i, f, b: F.cat([X, X], dim=i(1)),
    "add": lambda i, f, b: F.add(X, f(0.5)),
    "add int": lambda i, f, b: F.add(X, i(3)),
    "unfold": lambda i, f, b: F.unfold(X, i(3), stride=i(2)),
    "flatten": lambda i, f, b: F.flatten(X, start_dim=i(1), end_dim=i(-1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, np.int8])
@pytest.mark.parametrize("real", [np.float32, np.float64, np.float16])
def test_functions(name, integer, real):
    def whole(value):
        return integer(value) if value >= 0 else np.int64(value)

    expected = FUNCTIONS[name](int, float, bool)
    for _ in range(2):  # the second call may take another way
        np.testing.assert_array_equal(FUNCTIONS[name](whole, real, np.bool_), expected)


def forms(value):
    """The NumPy scalars that a value may be given as."""
    if isinstance(value, bool):
        return [np.bool_(value)]
    if isinstance(value, int):
        return [np.int64(value), np.int32(value)]
    return [np.float64(value), np.float32(value)]


DEFAULTS = [(owner, name) for owner, name in PAIRS  # lazy layers take in_channels from the first input
            if name in inspect.signature(owner).parameters
            and type(inspect.signature(owner).parameters[name].default) in (bool, int, float)]


@pytest.mark.parametrize("owner, name", DEFAULTS, ids=[f"{o.__name__}-{n}" for o, n in DEFAULTS])
def test_arguments_of_classes_and_functions(owner, name):
    """Every default that is a number or a truth value, given as NumPy's."""
    needed = arguments(owner)[0]
    default = inspect.signature(owner).parameters[name].default
    for value in forms(default):
        made = owner(**{**needed, name: value})
        kept = getattr(made, name, default)
        assert not isinstance(kept, np.generic) or owner in RULES, (name, kept)


def test_layers_in_a_network():
    def build(i, f, b):
        fc.manual_seed(i(0))
        net = nn.Sequential(nn.Conv2d(i(4), i(6), i(3), stride=i(1), padding=i(1), bias=b(True)),
                            nn.BatchNorm2d(i(6), eps=f(0.5), momentum=f(0.25), affine=b(True)), nn.LeakyReLU(f(0.25)),
                            nn.MaxPool2d(i(3), stride=i(2), ceil_mode=b(True)), nn.Dropout(f(0.0)),
                            nn.Softmax(i(1)), nn.Flatten(i(1)), nn.Linear(i(96), i(3)))
        return net.train(b(True))

    one, two = build(int, float, bool), build(np.int64, np.float32, np.bool_)
    np.testing.assert_array_equal(fc.compile(one, X.shape)(X), fc.compile(two, (np.int64(2), *X.shape[1:]),
                                                                          threads=np.int32(1), cache_size=np.int64(2))(X))

    class Scaled(nn.Module):
        def forward(self, x):
            return x * np.float32(2) + np.int64(1) - np.float64(0.5)

    np.testing.assert_array_equal(fc.compile(Scaled(), X.shape)(X), X * np.float32(2) + np.float32(1) - np.float32(0.5))


def test_trainers_loaders_and_rules(tmp_path):
    def make(i, f, b):
        fc.manual_seed(i(1))
        rule = optim.SGD(f(0.5), momentum=f(0.5), nesterov=b(True))
        schedule = optim.OneCycleLR(rule, f(0.5), total_steps=i(10))
        loss = nn.CrossEntropyLoss(ignore_index=i(-100), label_smoothing=f(0.25))
        trainer = fc.Trainer(nn.Linear(i(4), i(5)), loss, rule, schedule=schedule, accumulate=i(1), seed=i(3), threads=i(1),
                             clip_grad_norm=f(0.5))
        loader = data.DataLoader(data.ArrayDataset(Z, Y), i(1), shuffle=b(True), seed=i(3), drop_last=b(False),
                                 prefetch=i(1))
        trainer.fit(loader, i(2), validation=(Z, Y), verbose=b(False), checkpoint=tmp_path / "a", checkpoint_every=i(1),
                    callbacks=[train.EarlyStopping(patience=i(5), min_delta=f(0.0), restore_best=b(False)),
                               train.ModelCheckpoint(tmp_path / "b", save_best_only=b(True))])
        return trainer.predict(Z, batch_size=i(1))

    np.testing.assert_array_equal(make(int, float, bool), make(np.int64, np.float32, np.bool_))
    assert data.RandomHorizontalFlip(np.float32(0.5)).p == 0.5
    assert repr(data.RandomHorizontalFlip(np.float32(0.5))) == "RandomHorizontalFlip(p=0.5)"


def test_what_resembles_a_number_is_still_refused():
    for call in (lambda: F.max_pool2d(X, np.True_), lambda: F.softmax(X, dim=np.float32(1)),
                 lambda: F.max_pool2d(X, 3, ceil_mode=np.int64(1)), lambda: F.leaky_relu(X, np.True_),
                 lambda: nn.Conv2d(np.float64(3), 4, 3), lambda: nn.Conv2d(3, 4, 3, bias=np.int64(1)),
                 lambda: optim.SGD(np.True_), lambda: data.RandomHorizontalFlip(np.True_)):
        with pytest.raises((TypeError, ValueError)):
            call()


@pytest.mark.parametrize(("owner", "argument"), PAIRS, ids=[f"{o.__name__}-{a}" for o, a in PAIRS])
def test_no_message_holds_an_array(owner, argument):
    needed = arguments(owner)[0]
    for value in (BIG, [BIG], list(range(5000)), "x" * 5000, {"a": BIG}):
        try:
            made = owner(**{**needed, argument: value})
            if owner in LAYERS and owner not in (nn.CrossEntropyLoss, nn.MSELoss):
                fc.compile(made, (2, 4, 9, 9))
        except (TypeError, ValueError, MemoryError, OSError) as error:
            assert len(str(error)) < 600, (type(value), str(error)[:200])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_rule_takes_parameters_first_or_the_rate(name):
    net, rule = nn.Linear(2, 2), getattr(optim, name)
    for made in (rule(net.parameters(), lr=0.1), rule(list(net.parameters()), 0.1), rule(net.named_parameters(), lr=0.1)):
        assert [list(g["params"]) for g in made.param_groups] == [list(net.parameters())] and made.lr == 0.1
    assert "params" not in rule(0.1).param_groups[0]
    assert list(inspect.signature(rule).parameters)[:2] == ["params", "lr"]


@pytest.mark.parametrize("accumulate, rows, epochs, total, fits", [
    (1, 4, 2, 8, True), (1, 4, 2, 7, False), (2, 4, 2, 4, True), (2, 4, 2, 3, False), (3, 4, 2, 2, True),
    (3, 4, 3, 3, False),
])
@pytest.mark.parametrize("kind", ["alone", "warm-up", "sequence"])
def test_a_schedule_that_is_too_short_is_refused_before_the_first_step(accumulate, rows, epochs, total, fits, kind):
    rule = optim.SGD(0.1)
    if kind == "alone":
        schedule = optim.OneCycleLR(rule, 0.1, total_steps=total)
    elif kind == "warm-up":
        schedule = optim.WarmupLR(rule, 1, optim.OneCycleLR(rule, 0.1, total_steps=total - 1))
    else:
        parts = [optim.StepLR(rule, 1, 1.0, interval="step"), optim.OneCycleLR(rule, 0.1, total_steps=total - 1)]
        schedule = optim.SequentialLR(rule, parts, [1])
    net = nn.Linear(4, 5)
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), rule, schedule=schedule, accumulate=accumulate)
    x, y, before = np.zeros((rows, 4), np.float32), np.zeros(rows, np.int64), net.state_dict()
    if fits:
        trainer.fit((x, y), epochs, batch_size=1, verbose=False)
        assert trainer.steps == total
    else:
        with pytest.raises(ValueError, match=f"more than the schedule's total_steps={total}"):
            trainer.fit((x, y), epochs, batch_size=1, verbose=False)
        assert trainer.steps == 0 and np.array_equal(before["weight"], net.weight.data)


def test_steps_that_wait_for_an_update_count_for_a_schedule():
    rule = optim.SGD(0.1)
    trainer = fc.Trainer(nn.Linear(4, 5), nn.CrossEntropyLoss(), rule, accumulate=3,
                         schedule=optim.OneCycleLR(rule, 0.1, total_steps=2))
    x, y = np.zeros((4, 4), np.float32), np.zeros(4, np.int64)
    trainer.fit((x, y), 1, batch_size=1, verbose=False)
    with pytest.raises(ValueError, match="2 updates after 1 are more than the schedule's total_steps=2"):
        trainer.fit((x[:1], y[:1]), 5, batch_size=1, verbose=False)
    trainer.fit((x[:2], y[:2]), 1, batch_size=1, verbose=False)
    assert trainer.steps == 2

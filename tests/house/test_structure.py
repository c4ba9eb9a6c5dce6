"""Trainers and engines follow a module that changes: frozen and thawed parameters, modes, replaced layers, attributes."""

import pickle
import types

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

torch = pytest.importorskip("torch", reason="PyTorch is what trainings that change under way are compared with")

RULES = {
    "sgd": ({"lr": 0.1, "weight_decay": 1e-2}, "SGD"),
    "momentum": ({"lr": 0.1, "momentum": 0.9, "dampening": 0.3}, "SGD"),
    "nesterov": ({"lr": 0.05, "momentum": 0.8, "nesterov": True}, "SGD"),
    "adam": ({"lr": 1e-2, "weight_decay": 1e-2}, "Adam"),
    "adamw": ({"lr": 1e-2}, "AdamW"),
}


def network(nn):
    return nn.Sequential(nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.SiLU(), nn.Conv2d(5, 4, 3),
                         nn.SiLU(), nn.Flatten(), nn.Linear(64, 3))


def ours(seed=0):
    fc.manual_seed(seed)
    return network(nn)


def theirs(net):
    other = network(torch.nn)
    other.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in net.state_dict().items()})
    return other.double()


def batches(n, seed=1):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((6, 2, 6, 6)).astype(np.float32), rng.integers(0, 3, 6)) for _ in range(n)]


class Pair:
    """A training of ours and the same one in PyTorch, float64."""

    def __init__(self, rule="momentum", net=None, other=None, accumulate=1, clip=None):
        self.net = net or ours()
        self.other = other or theirs(self.net)
        keywords, name = RULES[rule]
        self.optimizer = getattr(torch.optim, name)(self.other.parameters(), **keywords)
        self.trainer = fc.Trainer(self.net, nn.CrossEntropyLoss(), getattr(fc.optim, name)(**keywords),
                                  accumulate=accumulate, clip_grad_norm=clip)
        self.accumulate, self.clip, self.micro = accumulate, clip, 0
        self.loss = torch.nn.functional.cross_entropy

    def both(self, change):
        change(self.net)
        change(self.other)

    def step(self, x, y):
        mine = self.trainer.step(x, y)
        loss = self.loss(self.other(torch.from_numpy(x).double()), torch.from_numpy(y))
        (loss / self.accumulate).backward()
        self.micro += 1
        if self.micro % self.accumulate == 0:
            if self.clip:
                torch.nn.utils.clip_grad_norm_([p for p in self.other.parameters() if p.grad is not None], self.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        assert abs(mine - loss.item()) < 1e-5 * max(1, abs(mine))
        self.check()

    def check(self):
        expected = self.other.state_dict()
        for name, value in self.net.state_dict().items():
            np.testing.assert_allclose(value, expected[name].numpy(), rtol=0, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("accumulate, clip", [(1, None), (2, None), (1, 0.3)])
def test_frozen_and_thawed_parameters_are_pytorchs(rule, accumulate, clip):
    pair = Pair(rule, accumulate=accumulate, clip=clip)
    first, last = ["0.weight", "1.weight", "1.bias"], ["6.weight"]

    def mark(names, value):
        for net in (pair.net, pair.other):
            for name, parameter in net.named_parameters():
                if name in names:
                    parameter.requires_grad = value

    mark(first, False)  # thawed late: their own first step
    for number, batch in enumerate(batches(10 * accumulate)):
        if number == 3 * accumulate:
            mark(first, True)
        if number == 5 * accumulate:
            mark(last, False)
        if number == 8 * accumulate:
            mark(last, True)
        pair.step(*batch)
    counts = pair.trainer.state_dict()["optimizer"]["counts"]
    assert (counts["0.weight"], counts["6.weight"], counts["3.weight"]) == (7, 7, 10) and pair.trainer.steps == 10


def test_modes_are_obeyed_by_the_next_step():
    pair = Pair()
    steps = iter(batches(8))
    for change in (lambda net: net[1].eval(), lambda net: net.train(), lambda net: net.eval(), lambda net: net.train()):
        pair.step(*next(steps))
        pair.both(change)
        pair.step(*next(steps))


def test_a_replaced_layer_is_trained():
    pair = Pair("adam")
    steps = iter(batches(6))
    pair.step(*next(steps))
    pair.step(*next(steps))
    for index in (6, 3):
        old = pair.net[index]
        pair.net[index] = nn.Linear(64, 3) if index == 6 else nn.Conv2d(5, 4, 3)
        new = torch.nn.Linear(64, 3) if index == 6 else torch.nn.Conv2d(5, 4, 3)
        new.load_state_dict({name: torch.from_numpy(v) for name, v in pair.net[index].state_dict().items()})
        pair.other[index] = new.double()
        pair.optimizer.add_param_group({"params": list(new.parameters())})
        before = old.weight.numpy()
        pair.step(*next(steps))
        pair.step(*next(steps))
        np.testing.assert_array_equal(old.weight.numpy(), before)
    counts = pair.trainer.state_dict()["optimizer"]["counts"]
    assert (counts["0.weight"], counts["6.weight"], counts["3.weight"]) == (6, 4, 2)


def test_a_replaced_layer_in_fit_evaluate_and_predict():
    net, (x, y) = ours(), batches(1)[0]
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    trainer.fit((x, y), 1, verbose=False)
    assert trainer.predict(x).shape == (6, 3) and trainer.evaluate((x, y))["loss"] > 0
    net[6] = nn.Linear(64, 5)
    before = net[6].weight.numpy()
    y = y + 2
    trainer.fit((x, y), 1, validation=(x, y), verbose=False)
    assert not np.array_equal(net[6].weight.numpy(), before)
    assert trainer.predict(x).shape == (6, 5)
    np.testing.assert_array_equal(trainer.predict(x), fc.compile(net, x.shape)(x))
    net[1].eps = 1.0
    np.testing.assert_array_equal(trainer.predict(x), fc.compile(net, x.shape)(x))


def test_fit_says_that_it_trains_a_network_in_evaluation_mode(caplog):
    net, (x, y) = ours(), batches(1)[0]
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    trainer.fit((x, y), 1, verbose=False)
    assert not caplog.records
    before = net[1].running_mean.numpy()
    net.eval()
    trainer.fit((x, y), 1, verbose=False)
    assert "in evaluation mode, and is trained so" in caplog.text
    np.testing.assert_array_equal(net[1].running_mean.numpy(), before)


def test_tied_weights_are_one_parameter():
    def build(module):
        return module.Sequential(module.Linear(4, 4), module.Linear(4, 4), module.Linear(4, 3))

    rng = np.random.default_rng(0)
    net, other = build(nn), build(torch.nn)
    other.load_state_dict({name: torch.from_numpy(v) for name, v in net.state_dict().items()})
    pair = Pair("momentum", net, other.double())
    rows = [(rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 3, 5)) for _ in range(4)]
    pair.step(*rows[0])

    def tie(net):
        net[1].weight = net[0].weight

    pair.both(tie)
    for row in rows[1:]:
        pair.step(*row)
    assert net[1].weight is net[0].weight


@pytest.mark.parametrize("first, second", [(0.0, 0.9), (0.9, 0.0)])
def test_momentum_that_is_set_on_the_way(first, second):
    pair = Pair("momentum")

    def momentum(value):
        pair.trainer.optimizer.momentum = value
        pair.optimizer.param_groups[0]["momentum"] = value

    steps = iter(batches(9))
    for value in (first, second, first):
        momentum(value)
        for _ in range(3):
            pair.step(*next(steps))


def test_another_loss_and_another_rule():
    pair = Pair("momentum")
    steps = iter(batches(8))
    pair.step(*next(steps))
    pair.trainer.loss = nn.CrossEntropyLoss(label_smoothing=0.2)
    pair.loss = lambda p, t: torch.nn.functional.cross_entropy(p, t, label_smoothing=0.2)
    pair.step(*next(steps))
    pair.trainer.loss.label_smoothing = 0.4  # an attribute of the loss
    pair.loss = lambda p, t: torch.nn.functional.cross_entropy(p, t, label_smoothing=0.4)
    pair.step(*next(steps))
    pair.trainer.optimizer = fc.optim.Adam(1e-2)
    pair.optimizer = torch.optim.Adam(pair.other.parameters(), 1e-2)
    for _ in range(3):
        pair.step(*next(steps))
    assert pair.trainer.steps == 6 and pair.trainer.optimizer.name == "adam"
    with pytest.raises(TypeError, match="optimizer is a str"):
        pair.trainer.optimizer = "adam"
    with pytest.raises(TypeError, match="loss is a NoneType"):
        pair.trainer.loss = None
    with pytest.raises(AttributeError):
        pair.trainer.module = ours()
    pair.trainer.schedule = fc.optim.StepLR(pair.trainer.optimizer, 1)
    with pytest.raises(ValueError, match="schedule is of another optimizer"):
        pair.trainer.optimizer = fc.optim.SGD(0.1)
    with pytest.raises(ValueError, match="must be made for this trainer's optimizer"):
        pair.trainer.schedule = fc.optim.StepLR(fc.optim.SGD(0.1), 1)


def test_nothing_to_train_is_refused_before_anything_runs():
    net, (x, y) = ours(), batches(1)[0]
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.1), clip_grad_norm=1.0)
    trainer.step(x, y)
    before = net.state_dict()
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        trainer.step(x, y)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    net.requires_grad_()
    trainer.step(x, y)
    assert trainer.steps == 2


@pytest.mark.parametrize("rule", RULES)
def test_a_changed_training_is_resumed_bit_for_bit(rule, tmp_path):
    def thaw(trainer, number):
        trainer.module[0].requires_grad_(number >= 3)
        trainer.module[1].train(number < 4)

    def train(trainer, numbers):
        for number, batch in enumerate(batches(8)):
            if number in numbers:
                thaw(trainer, number)
                trainer.step(*batch)

    def make():
        keywords, name = RULES[rule]
        return fc.Trainer(ours(), nn.CrossEntropyLoss(), getattr(fc.optim, name)(**keywords), accumulate=2)

    whole = make()
    train(whole, range(8))
    for cut in (2, 3, 5):
        part, rest = make(), make()
        train(part, range(cut))
        part.save_checkpoint(tmp_path / "part")
        rest.load_checkpoint(tmp_path / "part")
        copy = pickle.loads(pickle.dumps(part))
        for trainer in (rest, copy):
            train(trainer, range(cut, 8))
            for name, value in whole.module.state_dict().items():
                np.testing.assert_array_equal(value, trainer.module.state_dict()[name], err_msg=name)
            assert trainer.state_dict()["optimizer"]["counts"] == whole.state_dict()["optimizer"]["counts"]


def test_a_pickled_trainer_keeps_its_modules_modes():
    net = ours()
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    net.eval()
    net[0].train()
    copy = pickle.loads(pickle.dumps(trainer))
    assert [m.training for m in copy.module.modules()] == [m.training for m in net.modules()]


# ---- engines --------------------------------------------------------------------------------------------------------


def x_of(shape=(4, 2, 6, 6), seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def fresh(net, x):
    return fc.compile(net, x.shape)(x)


def wide(net):
    net[0] = nn.Conv2d(2, 5, 5, padding=2)


def stride(net):
    net[3].dilation = (2, 2)
    net[3].padding = (1, 1)


def parameter(net):
    net[6].weight = nn.Parameter(net[6].weight.numpy() * 2)


def no_bias(net):
    net[6].bias = None


def statistics(net):
    net[1].running_var = np.full(5, 4.0, np.float32)


def layer_added(net):
    net.append(nn.ReLU())


def layer_removed(net):
    del net[4]


def table(net):
    net._modules["2"] = nn.Identity()


def tied(net):
    net[0].weight = nn.Parameter(net[0].weight.numpy()[::-1].copy())


CHANGES = [wide, stride, parameter, no_bias, statistics, layer_added, layer_removed, table, tied]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_inference_engines_follow(change):
    net, x = ours(), x_of()
    for training in (False, True):
        net = ours()
        net.eval()
        engine = fc.compile(net, x.shape, training=training)
        clone, frozen = engine.clone(), None if training else engine.freeze()
        before = engine(x)
        change(net)
        expected = fresh(net, x)
        assert expected.shape != before.shape or not np.array_equal(before, expected)
        np.testing.assert_allclose(engine(x), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(clone(x), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(engine(x[:2]), expected[:2], rtol=0, atol=1e-5)
        if frozen is not None:
            np.testing.assert_array_equal(frozen(x), before)
            np.testing.assert_array_equal(frozen.clone()(x), before)
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(frozen))(x), before)


def test_clones_that_follow_still_share_their_weights():
    net, x = ours(), x_of()
    engine = fc.compile(net, x.shape)
    clone = engine.clone()
    net[6] = nn.Linear(64, 7)
    np.testing.assert_array_equal(engine(x), clone(x))
    assert engine._current[1].weights is clone._current[1].weights
    net[6].weight.data = net[6].weight.numpy() * 2
    np.testing.assert_array_equal(engine(x), clone(x))
    np.testing.assert_array_equal(engine(x), fresh(net, x))


def test_training_engines_follow_modes_and_frozen_parameters():
    net, x = ours(), x_of()
    engine = fc.compile(net, x.shape, training=True)
    g = np.ones((4, 3), np.float32)
    engine(x)
    engine.backward(g)
    assert net[0].weight.grad is not None
    before = net[1].running_mean.numpy()
    net[1].eval()
    net[0].requires_grad_(False)
    net.zero_grad()
    engine(x)
    engine.backward(g)
    np.testing.assert_array_equal(net[1].running_mean.numpy(), before)
    assert net[0].weight.grad is None and net[6].weight.grad is not None
    assert net[0].weight not in engine.trained_parameters()


def test_inference_engines_do_not_plan_again_for_modes_or_values():
    net, x = ours(), x_of()
    engine = fc.compile(net, x.shape)
    engine(x)
    plan = engine._current
    net.eval()
    net.train()
    net.requires_grad_(False)
    net[1].eps = float(str(net[1].eps))  # an equal value
    net[6].weight.data = net[6].weight.numpy() * 2
    nn.Linear(3, 3)  # something is made elsewhere
    engine(x)
    assert engine._current is plan


def test_a_change_that_does_not_fit_is_an_error_at_each_call_until_it_is_mended():
    net, x = ours(), x_of()
    engine = fc.compile(net, x.shape)
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    expected = engine(x)
    layer = net[6]
    net[6] = nn.Linear(63, 3)
    for _ in range(2):
        with pytest.raises(ValueError, match="in_features=63"):
            engine(x)
        with pytest.raises(ValueError, match="in_features=63"):
            trainer.step(x, np.zeros(4, np.int64))
    net[6] = layer
    np.testing.assert_array_equal(engine(x), expected)


def test_engines_of_functions_follow_the_modules_that_these_call():
    net, x = ours().eval(), x_of()
    engine = fc.compile(lambda x: net(x) * 2.0, x.shape)
    frozen = engine.freeze()
    before = engine(x)
    net[6] = nn.Linear(64, 3)
    assert not np.array_equal(engine(x), before)
    np.testing.assert_allclose(engine(x), 2 * fresh(net, x), rtol=1e-6)
    np.testing.assert_array_equal(frozen(x), before)
    with pytest.raises(RuntimeError, match="frozen, and the modules"):
        frozen(x_of((9, 2, 6, 6)))


class Odd(nn.Module):
    """A forward that reads lists and records, keeps what it made, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.scales, self.options = [1.0, 2.0], types.SimpleNamespace(shift=0.5)
        self.table = {"a": np.ones(2, np.float32)}
        self.layers = [nn.Linear(4, 4)]  # not registered
        self.calls, self.features = 0, None

    def forward(self, x):
        self.calls += 1
        self.features = x * self.scales[0]
        return self.layers[0](self.features) * self.scales[1] + self.options.shift * float(self.table["a"][1])


def test_what_changes_without_a_word_is_seen_too():
    net, x = Odd(), x_of((3, 4))
    engine = fc.compile(net, x.shape)
    engine(x)
    plan = engine._current
    engine(x)
    assert engine._current is plan and net.calls == 1
    for change in (lambda: net.scales.__setitem__(1, 3.0), lambda: setattr(net.options, "shift", 2.0),
                   lambda: net.table["a"].__setitem__(1, 5.0), lambda: net.layers.__setitem__(0, nn.Linear(4, 4)),
                   lambda: setattr(net.layers[0], "bias", None)):
        before = engine(x)
        change()
        assert not np.array_equal(engine(x), before)
        np.testing.assert_array_equal(engine(x), fresh(net, x))


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v2"])
def test_what_is_said_about_a_network_is_not_compared_at_each_run(name):
    """How a network was made is for files: a run looks at nothing of it, and plans nothing anew when it changes."""
    net, shape = fc.zoo.create(name, num_classes=4), (1, 1, 32, 32) if name == "lenet5" else (1, 3, 32, 32)
    engine = fc.compile(net, shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = engine(x)
    plan = engine._current[0]
    assert not plan.graph.traced.stale()
    net.network["arguments"]["num_classes"] = 9
    np.testing.assert_array_equal(engine(x), y)
    assert engine._current[0] is plan and pickle.loads(pickle.dumps(net)).network == net.network


def test_a_forward_that_changes_its_module_is_not_planned_for_ever():
    net, x = Odd(), x_of((3, 4))
    net.head = nn.Linear(4, 2)
    trainer = fc.Trainer(nn.Sequential(net, net.head), nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    for _ in range(4):
        trainer.step(x, np.zeros(3, np.int64))
        trainer.evaluate((x, np.zeros(3, np.int64)))
        trainer.predict(x)
    assert net.calls == 3

"""Every update rule over many steps: against PyTorch in float64, against its paper where PyTorch lacks it; groups,
states.
"""

import copy
import pickle

import numpy as np
import pytest
from reference import optim as papers

import fastconv as fc
from fastconv import nn, optim

SHAPES = [(3, 4, 5, 5), (7,), (1,), (33, 70), (8200, 2)]
# (rule, options of all groups, options of the second group)
CASES = [
    ("SGD", {"lr": 0.1}, {"lr": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05, "maximize": True}, {"weight_decay": 0.0}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}, {"momentum": 0.5}),
    ("Adam", {"lr": 0.02, "weight_decay": 0.1, "amsgrad": True}, {"betas": (0.5, 0.6)}),
    ("Adam", {"lr": 0.02, "maximize": True}, {"eps": 1e-3}),
    ("Adam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}, {"weight_decay": 0.0}),
    ("AdamW", {"lr": 0.02, "amsgrad": True, "maximize": True}, {"weight_decay": 0.3}),
    ("RMSprop", {}, {"alpha": 0.5}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}, {"lr": 0.001}),
    ("RMSprop", {"centered": True, "maximize": True, "eps": 1e-3}, {"lr": 0.001}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-3}, {"weight_decay": 0.2}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.5}, {"lr": 0.3}),
    ("Adagrad", {"maximize": True}, {"eps": 1e-2}),
    ("Adadelta", {"weight_decay": 0.01}, {"rho": 0.5, "lr": 0.3}),
    ("Adadelta", {"maximize": True, "eps": 1e-3}, {}),
    ("Adamax", {"weight_decay": 0.01}, {"betas": (0.5, 0.6), "eps": 1e-2}),
    ("Adamax", {"maximize": True}, {}),
    ("NAdam", {"weight_decay": 0.01}, {"momentum_decay": 0.1, "betas": (0.7, 0.9)}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}, {"lr": 0.01}),
    ("RAdam", {"weight_decay": 0.01}, {"betas": (0.7, 0.9)}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}, {"lr": 0.01}),
    ("ASGD", {"weight_decay": 0.01, "t0": 3}, {"lambd": 0.1, "alpha": 0.5}),
    ("ASGD", {"maximize": True}, {"t0": 0}),
    ("Rprop", {}, {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.02)}),
    ("Rprop", {"maximize": True}, {"lr": 0.1}),
    ("Lion", {"weight_decay": 0.1}, {"betas": (0.5, 0.6), "lr": 0.01}),
    ("Lion", {"maximize": True}, {}),
    ("LARS", {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01}, {"trust_coefficient": 0.02}),
    ("LARS", {"lr": 0.5, "nesterov": True, "momentum": 0.9, "maximize": True}, {"weight_decay": 0.1}),
    ("LARS", {"lr": 0.5, "weight_decay": 0.1}, {"eps": 0.1}),
    ("Muon", {"lr": 0.02}, {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.0}),
    ("Muon", {"lr": 0.02, "nesterov": False, "maximize": True}, {"ns_steps": 2, "ns_coefficients": (1.5, -0.5, 0.0)}),
    ("LAMB", {"lr": 0.02}, {"weight_decay": 0.0, "betas": (0.5, 0.7)}),
    ("LAMB", {"lr": 0.02, "bias_correction": False, "maximize": True}, {"lr": 0.01}),
]
IDS = [f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)]


def values(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def make(name, options, second, start):
    """The rule with two groups of parameters; the last parameter has no gradient at the second step."""
    parameters = [fc.Parameter(a) for a in start]
    return parameters, getattr(optim, name)([{"params": parameters[:2]}, {"params": parameters[2:], **second}], **options)


def gradients(step):
    found = values(100 + step)
    found[0][..., 0] = 0.0
    return [None if step == 1 and i == len(found) - 1 else g for i, g in enumerate(found)]


def follow(parameters, rule, steps, begin=0):
    for step in range(begin, begin + steps):
        for p, g in zip(parameters, gradients(step), strict=True):
            p.grad = g
        lower(rule)
        rule.step()


def lower(rule):
    """A schedule; of ASGD PyTorch takes each rate a step late."""
    for i, group in enumerate(rule.param_groups):
        group["lr"] = group["lr"] * (1 if type(rule).__name__ == "ASGD" else 0.9 if i else 0.95)


def theirs(name, options, second, start, steps):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: update rules are compared with it")
    parameters = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in start]
    rule = getattr(torch.optim, name)([{"params": parameters[:2]}, {"params": parameters[2:], **second}], **options)
    for step in range(steps):
        for p, g in zip(parameters, gradients(step), strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=torch.float64)
        lower(rule)
        rule.step()
    return [p.detach().numpy() for p in parameters]


def from_paper(name, options, second, start, steps):
    parameters, state = [a.astype(np.float64) for a in start], [{} for _ in start]
    groups = [dict(options), {**options, **second}]
    for group in groups:
        group.setdefault("lr", getattr(optim, name)().lr)
    for step in range(steps):
        for i, group in enumerate(groups):
            group["lr"] *= 0.9 if i else 0.95
        for i, g in enumerate(gradients(step)):
            if g is not None:
                group = groups[i >= 2]
                sign = -1.0 if group.get("maximize") else 1.0
                rest = {k: v for k, v in group.items() if k != "maximize"}
                parameters[i] = getattr(papers, name.lower())(parameters[i], sign * g.astype(np.float64), state[i], **rest)
    return parameters


@pytest.mark.parametrize(("name", "options", "second"), CASES, ids=IDS)
def test_many_steps(name, options, second):
    start, steps = values(0), 20
    reference = from_paper if hasattr(papers, name.lower()) else theirs
    expected = reference(name, options, second, start, steps)
    parameters, rule = make(name, options, second, start)
    follow(parameters, rule, steps)
    for p, truth, before in zip(parameters, expected, start, strict=True):
        moved = np.abs(truth - before).max()
        assert moved > 0
        np.testing.assert_allclose(p.data, truth, rtol=2e-5, atol=2e-5 * max(1.0, moved))


@pytest.mark.parametrize(("name", "options", "second"), CASES, ids=IDS)
def test_state_goes_on_bit_for_bit(name, options, second):
    parameters, rule = make(name, options, second, values(0))
    follow(parameters, rule, 3)
    others, other = make(name, {}, {}, [p.data for p in parameters])
    other.load_state_dict(pickle.loads(pickle.dumps(rule.state_dict())))
    third, (fourth, copied) = copy.deepcopy((parameters, rule)), pickle.loads(pickle.dumps((parameters, rule)))
    for ps, r in ((parameters, rule), (others, other), third, (fourth, copied)):
        follow(ps, r, 4, 3)
    for ps in (others, third[0], fourth):
        for p, q in zip(parameters, ps, strict=True):
            np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "RAdam", "Rprop"])
def test_pytorchs_own_state_is_taken(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its states are read")
    extra = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    start = values(0, SHAPES[:2])
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    rule = getattr(torch.optim, name)(theirs, lr=0.05, **extra)
    own = getattr(optim, name)([fc.Parameter(a) for a in start], lr=0.9, **extra)
    for step in range(6):
        for p, g in zip(theirs, values(step, SHAPES[:2]), strict=True):
            p.grad = torch.tensor(g)
        if step == 3:
            own.load_state_dict(rule.state_dict())
            for p, q in zip(own.param_groups[0]["params"], theirs, strict=True):
                p.data = q.detach().numpy()
        if step >= 3:
            for p, q in zip(own.param_groups[0]["params"], theirs, strict=True):
                p.grad = q.grad.numpy()
            own.step()
        rule.step()
    for p, q in zip(own.param_groups[0]["params"], theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5, atol=1e-6)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        fc.manual_seed(3)
        self.conv, self.norm, self.head = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Linear(5 * 36, 4)
        self.flatten, self.relu = nn.Flatten(), nn.ReLU()

    def forward(self, x):
        return self.head(self.flatten(self.relu(self.norm(self.conv(x)))))


def batch(seed=1, n=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2, 6, 6)).astype(np.float32), rng.integers(0, 4, n)


@pytest.mark.parametrize(("name", "options", "second"), CASES, ids=IDS)
def test_the_trainer_takes_it_and_checkpoints_go_on_bit_for_bit(name, options, second, tmp_path):
    """Groups by name; a training cut in two has the bits of one that was not; so has a loop of one's own."""
    groups = [{"params": ["*.bias", "norm.*"], **second}, {"params": "*"}]
    options = {**options, "lr": options.get("lr", 0.01)}

    def trainer():
        return fc.Trainer(Small(), nn.CrossEntropyLoss(), getattr(optim, name)(groups, **options))

    whole, part, rest = trainer(), trainer(), trainer()
    losses = [whole.step(*batch(i)) for i in range(6)]
    assert [part.step(*batch(i)) for i in range(3)] == losses[:3]
    part.save_checkpoint(tmp_path / "c")
    rest.load_checkpoint(tmp_path / "c")
    assert [rest.step(*batch(i)) for i in range(3, 6)] == losses[3:]
    for (key, p), q in zip(whole.module.named_parameters(), rest.module.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=key)


def test_a_parameter_in_no_group_stays():
    net = Small()
    before = net.state_dict()
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), optim.SGD([{"params": "head.*"}], lr=0.1))
    trainer.step(*batch())
    after = net.state_dict()
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    assert {"head.weight", "head.bias"} <= changed and not any(name.startswith("conv") for name in changed)
    with pytest.raises(ValueError, match=r"SGD: params='haed.\*': no parameter has such a name"):
        fc.Trainer(net, nn.CrossEntropyLoss(), optim.SGD([{"params": "haed.*"}], lr=0.1))


@pytest.mark.parametrize("name", ["LAMB", "LARS"])
def test_clipping_counts_once_for_rules_by_norm(name):
    """LAMB and LARS of a clipped gradient are those of the gradient times the factor."""
    nets = Small(), Small()
    rules = [getattr(optim, name)(lr=0.1, weight_decay=0.01) for _ in nets]
    clipped = fc.Trainer(nets[0], nn.CrossEntropyLoss(), rules[0], clip_grad_norm=0.01)
    own = getattr(optim, name)(nets[1].parameters(), lr=0.1, weight_decay=0.01)
    other = fc.Trainer(Small(), nn.CrossEntropyLoss(), optim.SGD(lr=1.0))  # lr 1: its parameters move by the gradient
    for i in range(2):
        other.module.load_state_dict(nets[1].state_dict())
        before = [p.numpy() for p in other.module.parameters()]
        other.step(*batch(i))
        grads = [b - p.data for b, p in zip(before, other.module.parameters(), strict=True)]
        norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))
        for p, g in zip(nets[1].parameters(), grads, strict=True):
            p.grad = (g * (0.01 / (norm + 1e-6))).astype(np.float32)
        own.step()
        clipped.step(*batch(i))
    for p, q in zip(*[net.head.parameters() for net in nets], strict=True):  # others' gradients are noise around 0
        np.testing.assert_allclose(p.data, q.data, rtol=1e-3, atol=1e-4)


def test_groups():
    a, b, c = (fc.Parameter(np.ones(3)) for _ in range(3))
    rule = optim.AdamW([a], lr=0.1)
    rule.add_param_group({"params": b, "lr": 0.5, "name": "head"})
    assert [g["lr"] for g in rule.param_groups] == [0.1, 0.5] and rule.lr == 0.1
    rule.param_groups[1]["lr"] = np.float32(0.25)
    assert rule.param_groups[1]["lr"] == 0.25
    for group, error, message in [
        ({"params": [a]}, ValueError, "params.0. of shape .3,. is in a parameter group already"),
        ({"params": [c, c]}, ValueError, "params.1. of shape .3,. is in a parameter group already"),
        ({"params": [c], "weight_deacy": 1}, TypeError, "unknown option 'weight_deacy'"),
        ({"params": [c], "lr": -1}, ValueError, "AdamW: lr=-1 must be at least 0"),
        ({"lr": 1}, ValueError, "lacks 'params'"), ({"params": []}, ValueError, "empty parameter list"),
        ({"params": {c}}, TypeError, "no order"), ([c], TypeError, "param_group is a list"),
    ]:
        with pytest.raises(error, match=message):
            rule.add_param_group(group)
    assert len(rule.param_groups) == 2
    with pytest.raises(ValueError, match="AdamW: eps=-1 must be"):
        rule.param_groups[0]["eps"] = -1
    with pytest.raises(ValueError, match="AdamW.step: grad of parameter 0 has shape"):
        a.grad = np.ones(4, np.float32)
        rule.step()
    with pytest.raises(RuntimeError, match="AdamW.step: it was made without parameters, for a Trainer"):
        optim.AdamW(lr=0.1).step()


def test_zero_grad_and_closure():
    p = fc.Parameter(np.ones(3))
    rule = optim.SGD([p], lr=0.5)
    p.grad = np.ones(3, np.float32)
    rule.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad, 0)
    rule.zero_grad()
    assert p.grad is None
    rule.step()  # nothing to do
    np.testing.assert_array_equal(p.data, 1)

    def closure():
        p.grad = np.full(3, 2.0, np.float32)
        return 7.0

    assert rule.step(closure) == 7.0
    np.testing.assert_array_equal(p.data, 0)


def test_a_gradient_that_is_no_dense_float32_array_is_read_as_one():
    for wrap in (lambda g: g.astype(np.float64), lambda g: np.asfortranarray(g), lambda g: g[::1].T.copy().T):
        p = fc.Parameter(np.ones((3, 4)))
        g = np.arange(12, dtype=np.float32).reshape(3, 4)
        p.grad = wrap(g)
        optim.SGD([p], lr=0.5).step()
        np.testing.assert_array_equal(p.data, 1 - 0.5 * g)


def test_a_gradient_is_the_users_and_stays():
    """Rules that work in the gradient's memory get a copy."""
    for name in ("LAMB", "LARS", "SGD"):
        p, g = fc.Parameter(np.ones(5)), np.arange(5, dtype=np.float32)
        p.grad = g
        getattr(optim, name)([p], lr=0.5, weight_decay=0.1).step()
        np.testing.assert_array_equal(g, np.arange(5))


def test_two_parameters_with_one_gradient():
    """x + a + b: both gradients are the same memory."""
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(np.ones((1, 3))), nn.Parameter(np.full((1, 3), 2.0))
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(x) + self.a + self.b

    net, x = Two(), np.ones((4, 3), np.float32)
    fc.Trainer(net, nn.CrossEntropyLoss(), optim.LAMB(lr=0.1, weight_decay=0.5)).step(x, np.array([0, 1, 2, 0]))
    # a step is as long as the parameter, times the rate
    assert np.linalg.norm(net.a.data - 1) == pytest.approx(0.1 * np.sqrt(3), rel=1e-4)
    assert np.linalg.norm(net.b.data - 2) == pytest.approx(0.1 * np.sqrt(12), rel=1e-4)


# ---- rules around rules ---------------------------------------------------------------------------------------------------


def inside(name, second=None):
    groups = [{"params": "head.*", **(second or {})}, {"params": "*"}]
    return getattr(optim, name)(groups, lr=0.05, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {}))


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "LAMB"])
@pytest.mark.parametrize("k, alpha", [(1, 0.5), (3, 0.25)])
def test_lookahead(name, k, alpha):
    """The rule alone, with the slow weights taken after every k steps in NumPy."""
    plain, net = Small(), Small()
    ahead = fc.Trainer(net, nn.CrossEntropyLoss(), optim.Lookahead(inside(name, {"lr": 0.01}), k, alpha))
    trainer = fc.Trainer(plain, nn.CrossEntropyLoss(), inside(name, {"lr": 0.01}))
    slow = [p.numpy() for p in plain.parameters()]
    for i in range(7):
        assert ahead.step(*batch(i)) == trainer.step(*batch(i))
        if (i + 1) % k == 0:
            for number, p in enumerate(plain.parameters()):
                slow[number] = slow[number] + np.float32(alpha) * (p.numpy() - slow[number])
                p.data = net_value = list(net.parameters())[number].numpy()
                np.testing.assert_allclose(net_value, slow[number], rtol=1e-6, atol=1e-7)
                slow[number] = net_value


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "LAMB", "Adadelta"])
def test_sam(name, adaptive):
    """The Trainer's step is first_step and second_step with gradients of an engine, and the gradients are those of
    nearby.
    """
    nets = Small(), Small(), Small()
    for net in nets:
        net.conv.bias.requires_grad = False  # in front of a normalisation: its gradient is noise, which Adam would blow up
    trainer = fc.Trainer(nets[0], nn.CrossEntropyLoss(), optim.SAM(inside(name), 0.1, adaptive))
    own = optim.SAM(getattr(optim, name)(nets[1].parameters(), lr=0.05, **({"momentum": 0.9} if name == "SGD" else {})),
                    0.1, adaptive)
    base = getattr(optim, name)(nets[2].parameters(), lr=0.05, **({"momentum": 0.9} if name == "SGD" else {}))
    engines = [fc.compile(net, (6, 2, 6, 6), training=True) for net in nets]
    criterion = nn.CrossEntropyLoss()

    def gradients(net, engine, x, y):
        net.zero_grad()
        loss = criterion(engine(x), y)
        loss.backward()
        return loss

    for i in range(4):
        x, y = batch(i)
        loss = trainer.step(x, y)
        assert own.step(lambda x=x, y=y: gradients(nets[1], engines[1], x, y)) == pytest.approx(loss, rel=1e-4)
        gradients(nets[2], engines[2], x, y)
        with_grad = [p for p in nets[2].parameters() if p.grad is not None]
        weight = [np.abs(p.numpy()) if adaptive else 1.0 for p in with_grad]
        norm = np.sqrt(sum(((w * p.grad.astype(float)) ** 2).sum() for w, p in zip(weight, with_grad, strict=True)))
        before = [p.numpy() for p in with_grad]
        for p, w in zip(with_grad, weight, strict=True):
            p.data = p.data + (0.1 / (norm + 1e-12) * w * w * p.grad)
        gradients(nets[2], engines[2], x, y)
        for p, b in zip(with_grad, before, strict=True):
            p.data = b
        base.step()
    for p, q, r in zip(*[net.parameters() for net in nets], strict=True):
        np.testing.assert_allclose(q.data, r.data, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(p.data, r.data, rtol=2e-3, atol=2e-4)
    count = nets[0].norm.num_batches_tracked
    assert count == 4  # the second forward of a step does not count


@pytest.mark.parametrize("make", [
    lambda: optim.Lookahead(inside("RMSprop", {"lr": 0.01}), 2), lambda: optim.Lookahead(inside("SGD"), 3, 0.3),
    lambda: optim.SAM(inside("Adam", {"lr": 0.01}), 0.1), lambda: optim.SAM(inside("LAMB"), 0.1, adaptive=True)])
def test_rules_around_rules_go_on_bit_for_bit(make, tmp_path):
    def trainer():
        rule = make()
        return fc.Trainer(Small(), nn.CrossEntropyLoss(), rule, schedule=optim.StepLR(rule, 2, 0.5, interval="step"))

    whole, part, rest = trainer(), trainer(), trainer()
    losses = [whole.step(*batch(i)) for i in range(6)]
    assert [part.step(*batch(i)) for i in range(3)] == losses[:3]
    part.save_checkpoint(tmp_path / "c")
    rest.load_checkpoint(tmp_path / "c")
    again = pickle.loads(pickle.dumps(part))
    for other in (rest, again):
        assert [other.step(*batch(i)) for i in range(3, 6)] == losses[3:]
        for (key, p), q in zip(whole.module.named_parameters(), other.module.parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q.data, err_msg=key)
    rule = whole.optimizer
    assert [g["lr"] for g in rule.param_groups] == [g["lr"] for g in rule.base.param_groups] and rule.lr == rule.base.lr


def test_lookahead_in_a_loop_of_ones_own():
    start = values(0)
    parameters = [fc.Parameter(a) for a in start]
    rule = optim.Lookahead(optim.SGD(parameters, lr=0.1), 2)
    follow(parameters, rule, 3)
    others = [fc.Parameter(p.data) for p in parameters]
    other = optim.Lookahead(optim.SGD(others, lr=0.7), 5, 0.1)
    other.load_state_dict(rule.state_dict())
    assert (other.k, other.alpha, other.lr) == (2, 0.5, rule.lr)
    for ps, r in ((parameters, rule), (others, other)):
        follow(ps, r, 3, 3)
    for p, q in zip(parameters, others, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_what_rules_around_rules_refuse():
    p = fc.Parameter(np.ones(3))
    sam = optim.SAM(optim.SGD([p], lr=0.1))
    for call, error, message in [
        (lambda: optim.SAM(3), TypeError, "SAM: base is a int"), (lambda: optim.SAM(sam), TypeError, "SAM: base is a SAM"),
        (lambda: optim.SAM(optim.SGD(0.1), -1), ValueError, "SAM: rho=-1"),
        (sam.step, TypeError, "SAM.step: closure is None"),
        (sam.second_step, RuntimeError, "SAM.second_step: first_step"),
        (lambda: optim.Lookahead(optim.SGD(0.1), 0), ValueError, "Lookahead: k=0"),
        (lambda: optim.Lookahead(optim.SGD(0.1), 5, 1.5), ValueError, "Lookahead: alpha=1.5"),
        (lambda: fc.Trainer(Small(), nn.CrossEntropyLoss(), optim.SAM(optim.SGD(0.1)), accumulate=2), ValueError,
         "accumulate=2: SAM takes each gradient twice"),
    ]:
        with pytest.raises(error, match=message):
            call()
    p.grad = np.ones(3, np.float32)
    sam.first_step()
    np.testing.assert_allclose(p.data, 1 + 0.05 / np.sqrt(3), rtol=1e-6)
    with pytest.raises(RuntimeError, match="SAM.first_step: called twice"):
        sam.first_step()
    sam.second_step(zero_grad=True)
    np.testing.assert_allclose(p.data, 0.9, rtol=1e-6)
    assert p.grad is None

"""Update rules: the numbers are PyTorch 2.13's for the same arguments."""

import math

import numpy as np
import pytest

from fastconv import Parameter, optim

# --- update rules ----------------------------------------------------------------------------------------------------


def run_sgd(rule, gradients):
    """The rule as its docstring writes it, one weight that begins at 1."""
    weight, buffer, out = 1.0, 0.0, []
    for step, gradient in enumerate(gradients, 1):
        h = rule.hyper(step)
        update = gradient + h["weight_decay"] * weight
        if rule.state_names:
            buffer = h["momentum"] * buffer + (1 - h["dampening"]) * update
            update = update + h["momentum"] * buffer if h["nesterov"] else buffer
        weight -= h["lr"] * update
        out.append(weight)
    return out


def run_adam(rule, gradients):
    weight, mean, square, out = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, 1):
        h = rule.hyper(step)
        if rule.name == "adamw":
            weight *= 1 - h["lr"] * h["weight_decay"]
        else:
            gradient = gradient + h["weight_decay"] * weight
        mean = h["beta1"] * mean + (1 - h["beta1"]) * gradient
        square = h["beta2"] * square + (1 - h["beta2"]) * gradient**2
        weight -= h["lr"] / h["bias_correction1"] * mean / (math.sqrt(square) / h["bias_correction2_sqrt"] + h["eps"])
        out.append(weight)
    return out


@pytest.mark.parametrize(
    ("run", "rule", "wanted"),
    [
        (run_sgd, optim.SGD(lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01), [0.949, 0.9151255, 0.83418088725]),
        (run_sgd, optim.SGD(lr=0.1, momentum=0.9, nesterov=True), [0.905, 0.912, 0.7058]),
        (run_sgd, optim.SGD(lr=0.1), [0.95, 0.975, 0.875]),
        (run_adam, optim.Adam(lr=0.1, weight_decay=0.1), [0.900000001666667, 0.854441367461762, 0.781504399863166]),
        (run_adam, optim.AdamW(lr=0.1, weight_decay=0.1), [0.890000002, 0.854466298687846, 0.780110476670211]),
    ],
)
def test_scalars_give_pytorchs_weights(run, rule, wanted):
    np.testing.assert_allclose(run(rule, [0.5, -0.25, 1.0]), wanted, rtol=1e-13)


def test_names_and_states():
    assert optim.SGD().state_names == ()
    assert optim.SGD(momentum=0.9).state_names == ("momentum_buffer",)
    assert optim.Adam().state_names == optim.AdamW().state_names == ("exp_avg", "exp_avg_sq")
    assert [rule().name for rule in (optim.SGD, optim.Adam, optim.AdamW)] == ["sgd", "adam", "adamw"]
    assert optim.SGD().lr == optim.Adam().lr == optim.AdamW().lr == 1e-3
    assert optim.Adam().weight_decay == 0.0 and optim.AdamW().weight_decay == 1e-2
    assert all(type(value) is float for value in {**optim.SGD().hyper(1), **optim.Adam().hyper(1)}.values())


def test_rate_can_be_set_but_not_to_nonsense():
    rule = optim.SGD(lr=np.float32(0.5))
    rule.lr = 0.25
    assert rule.hyper(1)["lr"] == 0.25
    for bad, error in ((-1.0, ValueError), (math.nan, ValueError), ("x", TypeError)):
        with pytest.raises(error, match="SGD: lr"):
            rule.lr = bad
    assert rule.lr == 0.25


@pytest.mark.parametrize("value", [[np.zeros(3)], np.zeros(3), {"weight": 1}, True, "0.1", iter([]), [{"lr": 1.0}],
                                   [{"params": []}], [{"params": [3]}], {Parameter(0.0)}, Parameter(0.0)])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_what_no_parameters_are(kind, value):
    with pytest.raises((TypeError, ValueError), match=rf"{kind.__name__}: param"):
        kind(value)


def test_a_number_in_the_place_of_the_parameters_is_the_rate():
    assert repr(optim.SGD(0.1, 0.9)) == repr(optim.SGD(lr=0.1, momentum=0.9)) == repr(optim.SGD(None, 0.1, 0.9))
    assert optim.Adam(np.float32(0.5)).lr == 0.5
    with pytest.raises(TypeError, match="SGD: got two values for lr, 0.1 and 0.2"):
        optim.SGD(0.1, lr=0.2)


def test_what_changes_nothing_is_taken_and_what_would_is_not():
    optim.Adam(lr=0.1, foreach=True, fused=None, capturable=False, differentiable=False)
    with pytest.raises(ValueError, match="Adam: capturable=True: expected one of False"):
        optim.Adam(lr=0.1, capturable=True)
    with pytest.raises(TypeError, match="RMSprop: got an unexpected keyword argument 'rho'"):
        optim.RMSprop(lr=0.1, rho=0.9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optim.SGD(lr=-1), ValueError, "SGD: lr=-1 must be at least 0"),
        (lambda: optim.SGD(momentum=-0.1), ValueError, "momentum=-0.1 must be at least 0"),
        (lambda: optim.SGD(weight_decay=math.inf), ValueError, "weight_decay=inf must be finite"),
        (lambda: optim.SGD(dampening="x"), TypeError, "dampening must be a number, got str"),
        (lambda: optim.SGD(nesterov=True), ValueError, "nesterov=True needs momentum above 0"),
        (lambda: optim.SGD(momentum=0.9, dampening=0.1, nesterov=True), ValueError, "dampening 0, got"),
        (lambda: optim.Adam(betas=(0.9, 1.0)), ValueError, r"betas\[1\]=1.0 must be below 1"),
        (lambda: optim.Adam(betas=0.9), ValueError, "betas=0.9 must be two numbers"),
        (lambda: optim.Adam(betas=("x", 0.9)), TypeError, r"betas\[0\] must be a number"),
        (lambda: optim.AdamW(eps=-1), ValueError, "AdamW: eps=-1 must be at least 0"),
        (lambda: optim.Adam().hyper(0), ValueError, "step=0 must be at least 1"),
        (lambda: optim.SGD().hyper(1.0), TypeError, "step must be an int, got float"),
    ],
)
def test_bad_hyper_parameters(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "rule",
    [
        optim.SGD(lr=0.3, momentum=0.8, weight_decay=0.1, nesterov=True),
        optim.Adam(lr=0.3, betas=(0.8, 0.7), eps=1e-3),
        optim.AdamW(lr=0.3),
    ],
)
def test_state_round_trip_and_refusal(rule):
    fresh = type(rule)()
    fresh.load_state_dict(rule.state_dict())
    assert fresh.state_dict() == rule.state_dict() and repr(fresh) == repr(rule)
    fresh.load_state_dict(optim.AdamW().state_dict() if rule.name == "adamw" else type(rule)().state_dict())
    before = fresh.state_dict()
    for bad in ({"lr": -1.0}, {"name": "other"}, {"more": 1}):
        with pytest.raises(ValueError):
            fresh.load_state_dict({**rule.state_dict(), **bad})
        assert fresh.state_dict() == before

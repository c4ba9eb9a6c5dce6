"""Learning-rate schedules: the numbers are PyTorch 2.13's for the same arguments."""

import math

import numpy as np
import pytest

from fastconv import optim


class Plain:
    """An optimiser that knows nothing but its rate."""

    def __init__(self, lr=0.1):
        self.lr = lr


class Closed:
    """An optimiser that takes no new attributes, as one written in Cython."""

    __slots__ = ("lr",)

    def __init__(self, lr):
        self.lr = lr


def rates(schedule, count, optimizer=None):
    """`count` rates, the first before any step; the optimiser's own is what counts."""
    optimizer = optimizer or schedule.optimizer
    out = []
    for _ in range(count):
        assert schedule.get_last_lr() == [optimizer.lr]
        out.append(optimizer.lr)
        schedule.step()
    return out


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-16)


# --- schedules against literal numbers -------------------------------------------------------------------------------


def test_step():
    close(rates(optim.StepLR(Plain(), 2, 0.5), 6), [0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


def test_multi_step_counts_a_repeated_milestone_twice():
    close(rates(optim.MultiStepLR(Plain(), [4, 1, 4], 0.5), 6), [0.1, 0.05, 0.05, 0.05, 0.0125, 0.0125])


def test_lambda():
    close(rates(optim.LambdaLR(Plain(), lambda epoch: 1 / (1 + epoch)), 4), [0.1, 0.05, 0.1 / 3, 0.025])


def test_linear():
    close(rates(optim.LinearLR(Plain(), 0.25, 1, 3), 5), [0.025, 0.05, 0.075, 0.1, 0.1])


def test_cosine_rises_again():
    wanted = [0.1, 0.0882842712475, 0.06, 0.0317157287525, 0.02, 0.0317157287525, 0.06]
    close(rates(optim.CosineAnnealingLR(Plain(), 4, 0.02), 7), wanted)


ONE_CYCLE = (
    [0.04, 0.52, 1, 0.950484632013, 0.81174565395, 0.611262021936, 0.388741978064, 0.18825834605, 0.0495193679865]
    + [4e-6],
    [0.95, 0.9, 0.85, 0.854951556605, 0.868825509907, 0.888873953302, 0.911126046698, 0.931174490093, 0.945048443395]
    + [0.95],
)


def test_one_cycle_moves_the_momentum():
    rule = optim.SGD(lr=0.1, momentum=0.9)
    schedule = optim.OneCycleLR(rule, 1.0, 10)
    assert schedule.interval == "step"
    momenta = []
    for rate in ONE_CYCLE[0]:
        close(rule.lr, rate)
        momenta.append(rule.momentum)
        schedule.step()
    close(momenta, ONE_CYCLE[1])


def test_one_cycle_moves_the_first_beta():
    rule = optim.Adam(betas=(0.9, 0.99))
    schedule = optim.OneCycleLR(rule, 1.0, epochs=5, steps_per_epoch=2)
    betas = []
    for _ in ONE_CYCLE[1]:
        betas.append(rule.betas)
        schedule.step()
    close([first for first, _ in betas], ONE_CYCLE[1])
    assert {second for _, second in betas} == {0.99}


def test_one_cycle_linear_three_phases():
    rule = optim.SGD(momentum=0.9)
    got = rates(optim.OneCycleLR(rule, 1.0, 10, anneal_strategy="linear", three_phase=True), 10)
    close(got, [0.04, 0.52, 1, 0.52, 0.04, 0.0320008, 0.0240016, 0.0160024, 0.0080032, 4e-6])


def test_one_cycle_without_momentum():
    rule = optim.SGD(momentum=0.7)
    close(rates(optim.OneCycleLR(rule, 1.0, 10, cycle_momentum=False), 10), ONE_CYCLE[0])
    assert rule.momentum == 0.7


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_after_its_end(strategy):
    schedule = optim.OneCycleLR(Plain(), 1.0, 3, anneal_strategy=strategy, cycle_momentum=False)
    for _ in range(3):
        schedule.step()
    close(schedule.get_last_lr(), [4e-6])  # the step after the last update keeps the rate
    with pytest.raises(ValueError, match="step 4 is beyond total_steps=3"):
        schedule.step()
    assert schedule.last_epoch == 3


@pytest.mark.parametrize("total", [1, 2, 5, 10])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.55, 1.0])
@pytest.mark.parametrize("three", [False, True])
def test_one_cycle_with_empty_phases_stays_in_range(total, share, three):
    schedule = optim.OneCycleLR(Plain(), 1.0, total, pct_start=share, three_phase=three, cycle_momentum=False)
    got = rates(schedule, total) + schedule.get_last_lr()
    assert all(schedule.min_lr <= rate <= 1.0 + 1e-12 for rate in got)


def test_sequence():
    optimizer = Plain()
    parts = [optim.LinearLR(optimizer, 0.1, 1, 3), optim.StepLR(optimizer, 2, 0.5)]
    schedule = optim.SequentialLR(optimizer, parts, [3])
    close(rates(schedule, 8), [0.01, 0.04, 0.07, 0.1, 0.1, 0.05, 0.05, 0.025])


def test_warm_up_alone():
    schedule = optim.WarmupLR(Plain(), 4, start_factor=0.2)
    assert schedule.interval == "step"
    close(rates(schedule, 6), [0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_warm_up_meets_the_schedule_after_it():
    optimizer = Plain()
    after = optim.LambdaLR(optimizer, lambda step: 0.5 / (1 + step), interval="step")
    schedule = optim.WarmupLR(optimizer, 2, after, start_factor=0.0)
    close(rates(schedule, 5), [0.0, 0.025, 0.05, 0.025, 0.05 / 3])
    # By epochs, both.
    optimizer = Plain()
    schedule = optim.WarmupLR(optimizer, 1, optim.StepLR(optimizer, 1, 0.5), start_factor=0.5, interval="epoch")
    assert schedule.interval == "epoch"
    close(rates(schedule, 3), [0.05, 0.1, 0.05])


def test_warm_up_before_one_cycle_moves_the_momentum():
    rule = optim.SGD(lr=0.1, momentum=0.5)
    schedule = optim.WarmupLR(rule, 3, optim.OneCycleLR(rule, 1.0, 10), start_factor=0.5)
    close(rates(schedule, 5), [0.02, 0.02 + 0.02 / 3, 0.02 + 0.04 / 3, 0.04, 0.52])
    close(rule.momentum, 0.85)


PLATEAU = [1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]


def test_plateau():
    optimizer = Plain()
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.02)
    assert schedule.needs_metric and schedule.interval == "epoch"
    got = []
    for metric in PLATEAU:
        schedule.step(metric)
        got += schedule.get_last_lr()
    close(got, [0.1] * 3 + [0.05] * 3 + [0.025] * 4 + [0.02] * 4)


@pytest.mark.parametrize(
    ("arguments", "metrics", "reduced"),
    [
        ({"mode": "max"}, [1.0, 1.1], False),
        ({"mode": "max"}, [1.0, 0.9], True),
        ({"mode": "min"}, [1.0, 0.99995], True),  # less than the relative threshold of 1e-4
        ({"mode": "min", "threshold_mode": "abs", "threshold": 0.2}, [1.0, 0.7], False),
        ({"mode": "min", "threshold_mode": "abs", "threshold": 0.2}, [1.0, 0.9], True),
        ({"mode": "min"}, [1.0, math.nan], True),
        ({"mode": "min"}, [math.nan], True),
        ({"mode": "min", "eps": 0.2}, [1.0, 2.0], False),
    ],
)
def test_plateau_judges(arguments, metrics, reduced):
    schedule = optim.ReduceLROnPlateau(Plain(), patience=0, **arguments)
    for metric in metrics:
        schedule.step(metric)
    assert schedule.get_last_lr() == [0.1 * 0.1 if reduced else 0.1]


# --- what all schedules share ----------------------------------------------------------------------------------------

MAKERS = {
    "StepLR": lambda o: optim.StepLR(o, 2),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [1, 3]),
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda epoch: 0.9**epoch),
    "LinearLR": lambda o: optim.LinearLR(o),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 7),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 0.5, 20),
    "SequentialLR": lambda o: optim.SequentialLR(
        o, [optim.LinearLR(o), optim.StepLR(o, 2), optim.StepLR(o, 1)], [2, 6]
    ),
    "WarmupLR": lambda o: optim.WarmupLR(o, 3, optim.CosineAnnealingLR(o, 9, interval="step")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_loaded_schedule_goes_on_with_the_same_bits(name):
    one = optim.SGD(lr=0.1, momentum=0.9)
    schedule = MAKERS[name](one)
    for _ in range(4):
        schedule.step()
    state = schedule.state_dict()
    assert state["schedule"] == name and state["last_epoch"] == 4
    other = optim.SGD(lr=0.7, momentum=0.3)  # another rate: the state brings the base
    loaded = MAKERS[name](other)
    loaded.load_state_dict(state)
    for _ in range(5):
        assert other.lr == one.lr
        if name == "OneCycleLR":
            assert other.momentum == one.momentum
        schedule.step()
        loaded.step()


def test_loaded_plateau_goes_on():
    one, other = Plain(), Plain(0.7)
    schedule = optim.ReduceLROnPlateau(one, factor=0.5, patience=1, cooldown=1)
    loaded = optim.ReduceLROnPlateau(other, factor=0.5, patience=1, cooldown=1)
    for place, metric in enumerate(PLATEAU):
        if place == 6:
            loaded.load_state_dict(schedule.state_dict())
        schedule.step(metric)
        if place >= 6:
            loaded.step(metric)
            assert other.lr == one.lr


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "change", [{"schedule": "Other"}, {"last_epoch": -1}, {"base_lr": math.inf}, {"more": 1}, {"last_epoch": None}]
)
def test_bad_state_changes_nothing(name, change):
    rule = optim.SGD(lr=0.1)
    schedule = MAKERS[name](rule)
    schedule.step()
    before = (schedule.state_dict(), rule.lr)
    with pytest.raises((ValueError, TypeError)):
        schedule.load_state_dict({**schedule.state_dict(), "last_epoch": 3, "base_lr": 0.9, **change})
    assert (schedule.state_dict(), rule.lr) == before


def test_bad_state_of_a_part_changes_nothing():
    optimizer = Plain()
    schedule = MAKERS["SequentialLR"](optimizer)
    before = (schedule.state_dict(), optimizer.lr)
    parts = schedule.state_dict()["schedules"]
    for bad in (parts[:2], [parts[1], parts[0], parts[2]]):
        with pytest.raises(ValueError):
            schedule.load_state_dict({**schedule.state_dict(), "last_epoch": 3, "schedules": bad})
        assert (schedule.state_dict(), optimizer.lr) == before
    one_cycle = MAKERS["OneCycleLR"](optim.SGD())
    with pytest.raises(ValueError, match="beyond total_steps=20"):
        one_cycle.load_state_dict({**one_cycle.state_dict(), "last_epoch": 30})
    assert one_cycle.last_epoch == 0
    warm = MAKERS["WarmupLR"](Plain())
    with pytest.raises(ValueError, match="only one of"):
        warm.load_state_dict({**warm.state_dict(), "after": None})
    plateau = optim.ReduceLROnPlateau(Plain())
    with pytest.raises(ValueError, match="num_bad_epochs=-1"):
        plateau.load_state_dict({**plateau.state_dict(), "lr": 0.5, "num_bad_epochs": -1})
    with pytest.raises(ValueError, match="state is of 'StepLR'"):
        plateau.load_state_dict({**plateau.state_dict(), "schedule": "StepLR"})
    assert plateau.optimizer.lr == 0.1


def test_the_first_schedule_fixes_the_base():
    optimizer = Plain(0.2)
    optim.LinearLR(optimizer, 0.1)
    assert optimizer.lr == pytest.approx(0.02) and optimizer.initial_lr == 0.2
    assert optim.StepLR(optimizer, 1).base_lr == 0.2


def test_an_optimizer_that_takes_no_attribute():
    optimizer = Closed(0.2)
    close(rates(optim.StepLR(optimizer, 1, 0.5), 3), [0.2, 0.1, 0.05])
    close(rates(optim.OneCycleLR(Closed(0.2), 1.0, 10, cycle_momentum=False), 10), ONE_CYCLE[0])


def test_interval_can_be_named():
    assert optim.StepLR(Plain(), 1).interval == "epoch"
    assert optim.StepLR(Plain(), 1, interval="step").interval == "step"
    assert optim.OneCycleLR(Plain(), 1.0, 5, cycle_momentum=False, interval="epoch").interval == "epoch"


BAD = [
    (lambda o: optim.StepLR(o, 0), ValueError, "StepLR: step_size=0 must be at least 1"),
    (lambda o: optim.StepLR(o, 1.5), TypeError, "step_size must be an int, got float"),
    (lambda o: optim.StepLR(o, True), TypeError, "step_size must be an int, got bool"),
    (lambda o: optim.StepLR(o, 1, math.nan), ValueError, "gamma=nan must be finite"),
    (lambda o: optim.StepLR(o, 1, "x"), TypeError, "gamma must be a number, got str"),
    (lambda o: optim.StepLR(o, 1, interval="batch"), ValueError, "interval='batch' must be one of 'step', 'epoch'"),
    (lambda o: optim.StepLR({"lr": 1}, 1), TypeError, "optimizer.lr must be a number, got NoneType"),
    (lambda o: optim.OneCycleLR({}, 1.0, 2, cycle_momentum=False), TypeError, "optimizer.lr must be a number"),
    (lambda o: optim.ReduceLROnPlateau([]), TypeError, "optimizer.lr must be a number"),
    (lambda o: optim.MultiStepLR(o, [3, -1]), ValueError, "milestones=-1 must be at least 0"),
    (lambda o: optim.LambdaLR(o, 0.9), TypeError, "lr_lambda must be callable, got float"),
    (lambda o: optim.LambdaLR(o, lambda e: -1.0), ValueError, r"lr_lambda\(0\)=-1.0 must be at least 0"),
    (lambda o: optim.LinearLR(o, 0), ValueError, "start_factor=0 must be above 0"),
    (lambda o: optim.LinearLR(o, 1.5), ValueError, "start_factor=1.5 must be at most 1"),
    (lambda o: optim.LinearLR(o, 0.5, 1.5), ValueError, "end_factor=1.5 must be at most 1"),
    (lambda o: optim.LinearLR(o, total_iters=0), ValueError, "total_iters=0 must be at least 1"),
    (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "T_max=0 must be at least 1"),
    (lambda o: optim.CosineAnnealingLR(o, 3, -1), ValueError, "eta_min=-1 must be at least 0"),
    (lambda o: optim.OneCycleLR(o, 0, 5), ValueError, "max_lr=0 must be above 0"),
    (lambda o: optim.OneCycleLR(o, 1.0), ValueError, "needs both epochs and steps_per_epoch"),
    (lambda o: optim.OneCycleLR(o, 1.0, epochs=2), ValueError, "needs both epochs and steps_per_epoch"),
    (lambda o: optim.OneCycleLR(o, 1.0, epochs=2, steps_per_epoch=0), ValueError, "steps_per_epoch=0 must be"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5, pct_start=1.1), ValueError, "pct_start=1.1 must be at most 1"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5, anneal_strategy="exp"), ValueError, "anneal_strategy='exp' must be one"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5, div_factor=0), ValueError, "div_factor=0 must be above 0"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5, final_div_factor=0), ValueError, "final_div_factor=0 must be above 0"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5, max_momentum=1), ValueError, "max_momentum=1 must be below 1"),
    (lambda o: optim.OneCycleLR(o, 1.0, 5), ValueError, "Plain has neither"),
    (lambda o: optim.SequentialLR(o, [], []), ValueError, "at least one schedule"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)], [1]), ValueError, "1 schedules need 0 milestones, got 1"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(Plain(), 1)], []), ValueError, "has another optimizer"),
    (lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []), TypeError, "is a ReduceLROnPlateau"),
    (
        lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(o, 1, interval="step")], [1]),
        ValueError,
        r"schedule 1 \(StepLR\) has interval='step' but schedule 0 has 'epoch'",
    ),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 3, [2, 2]), ValueError, r"\[2, 2\] must ascend"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 2, [0]), ValueError, "milestones=0 must be at least 1"),
    (lambda o: optim.WarmupLR(o, 0), ValueError, "warmup_steps=0 must be at least 1"),
    (lambda o: optim.WarmupLR(o, 2, start_factor=2), ValueError, "start_factor=2 must be at most 1"),
    (lambda o: optim.WarmupLR(o, 2, optim.StepLR(o, 1)), ValueError, "interval='epoch' but the warm-up 'step'"),
    (lambda o: optim.WarmupLR(o, 2, optim.StepLR(Plain(), 1)), ValueError, "has another optimizer"),
    (lambda o: optim.WarmupLR(o, 2, optim.ReduceLROnPlateau(o)), TypeError, "is a ReduceLROnPlateau"),
    (lambda o: optim.ReduceLROnPlateau(o, "best"), ValueError, "mode='best' must be one of 'min', 'max'"),
    (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor=1.0 must be below 1"),
    (lambda o: optim.ReduceLROnPlateau(o, patience=-1), ValueError, "patience=-1 must be at least 0"),
    (lambda o: optim.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold_mode='x' must be one of"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(Plain())

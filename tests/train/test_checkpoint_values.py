"""Checkpoints whose numbers are not what a training writes: refused by name, and the trainer is as it was."""

import copy
import json
import math

import pytest
from trainers import data, make, same

import fastconv as fc
from fastconv import optim
from fastconv.train import load_model, save_model

WILD = [-1, -(2**63), 2**31, 2**63 - 1, 2**63, 2**64, 10**400, -(10**400), 1.5, 1e308, math.nan, math.inf, True, None, "x",
        "", [], {}, [1], {"a": 1}, [[2**70]]]


def trained(path=None):
    rule = optim.Adam(1e-2)
    trainer = make(None, rule, schedule=optim.OneCycleLR(rule, 1e-2, total_steps=40), accumulate=2)
    x, y = data()
    loader = fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True)
    trainer.fit(loader, 1, verbose=False)
    for i, batch in enumerate(loader):
        trainer.step(*batch)
        if i == 2:
            break
    if path is not None:
        trainer.save_checkpoint(path)
    return trainer


def places(value, path=()):
    """Where the numbers, texts, lists and dicts of a state are."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for key in range(min(len(value), 2)):
            yield from places(value[key], (*path, key))


def changed(state, path, value):
    state = copy.deepcopy(state)
    if not path:
        return value
    inside = state
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return state


def test_every_value_of_a_checkpoint(tmp_path):
    """What is refused names the file, and nothing of the trainer or the random generator has changed."""
    path = tmp_path / "a.ckpt"
    trainer = trained(path)
    arrays, metadata = load_model(path)
    state = json.loads(metadata["checkpoint"])
    before, drawn = trainer.state_dict(), fc.graph.random.get_state()
    refused = taken = 0
    for place in places(state):
        for value in WILD:
            text = json.dumps(changed(state, place, value))
            save_model(path, arrays, {**metadata, "checkpoint": text})
            try:
                trainer.load_checkpoint(path)
            except ValueError as error:
                refused += 1
                assert "load_checkpoint" in str(error) and len(str(error)) < 700, (place, value)
                after = trainer.state_dict()
                same(after, before)
                assert {k: after[k] for k in ("epoch", "log", "loader", "schedule", "meters")} == \
                    {k: before[k] for k in ("epoch", "log", "loader", "schedule", "meters")}, (place, value)
                assert fc.graph.random.get_state() == drawn
            else:
                taken += 1
                trainer.evaluate(data())  # it can be used
                trainer.load_state_dict(before)
                fc.graph.random.set_state(drawn)
                before = trainer.state_dict()
    assert refused > 3 * taken and refused > 500


@pytest.mark.parametrize("name, value", [("seed", -1), ("seed", 2**64), ("epoch", 2**64), ("position", -4),
                                         ("position", 1.5), ("position", 2**63), ("seed", None), ("epoch", "3")])
def test_where_a_loader_was_is_checked_before_anything_is_replaced(name, value):
    trainer = trained()
    before = trainer.state_dict()
    state = copy.deepcopy(before)
    state["loader"][name] = value
    state["epoch"] = 17
    with pytest.raises((ValueError, TypeError), match=f"DataLoader: {name}"):
        trainer.load_state_dict(state)
    same(trainer.state_dict(), before)
    assert trainer.epoch == before["epoch"]


def test_a_format_1_state_is_read():
    trainer, other = trained(), trained()
    state = trainer.state_dict()
    old = {**state, "format": 1, "optimizer": {k: v for k, v in state["optimizer"].items() if k != "counts"}}
    del old["began"]
    other.load_state_dict(old)
    same(other.state_dict(), state)
    assert set(other.state_dict()["optimizer"]["counts"].values()) == {trainer.steps}
    x, y = data()
    assert other.step(x, y) == trainer.step(x, y)


def test_numbers_out_of_range_are_named_in_a_state_too():
    trainer = trained()
    before = trainer.state_dict()
    plain = {key: value for key, value in before.items() if key not in ("model", "accumulated")}
    for place in places(plain):
        if not place or place[:2] == ("optimizer", "state"):
            continue
        for value in (10**400, -(10**400), 2**70):
            try:
                trainer.load_state_dict({**before, **changed(plain, place, value)})
            except (ValueError, TypeError) as error:
                assert len(str(error)) < 700
                same(trainer.state_dict(), before)
            else:
                trainer.load_state_dict(before)

"""What a trainer keeps: modes, its state, and model files."""

import numpy as np
import pytest
from trainers import RNG, RULES, data, make, same, small_net

import fastconv as fc
from fastconv import nn

# ---- modes, files, state --------------------------------------------------------------------------------------------


def test_modes():
    net = small_net(batch_norm=True)
    net.eval()
    x, y = data()
    make(net).step(x, y)
    assert (net.state_dict()["1.running_mean"] != 0).any()  # the whole was set to training mode
    net = small_net(batch_norm=True)
    net[1].eval()
    make(net).step(x, y)
    assert (net.state_dict()["1.running_mean"] == 0).all()  # one layer was frozen by itself


def test_parameters_without_gradient_stay():
    net = small_net()
    net[0].weight.requires_grad = False
    before = net.state_dict()
    make(net).step(*data())
    assert (net.state_dict()["0.weight"] == before["0.weight"]).all()
    assert (net.state_dict()["4.weight"] != before["4.weight"]).any()


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_a_restored_training_goes_on_with_the_same_bits(rule):
    x, y = data(20)

    def trainer():
        optimizer = RULES[rule]()
        schedule = fc.optim.CosineAnnealingLR(optimizer, 8, interval="step")
        return make(small_net(batch_norm=True), optimizer, schedule=schedule)

    whole, first, second = trainer(), trainer(), trainer()
    whole.fit((x, y), 4, batch_size=8)
    first.fit((x, y), 2, batch_size=8)
    second.fit((x[::-1].copy(), y), 1, batch_size=5)  # whatever it was before
    second.load_state_dict(first.state_dict())
    second.fit((x, y), 2, batch_size=8)
    a, b = whole.state_dict(), second.state_dict()
    same(a, b)
    for key in ("schedule", "loader", "epoch"):
        assert a[key] == b[key]
    assert a["optimizer"]["rule"] == b["optimizer"]["rule"] and a["optimizer"]["steps"] == b["optimizer"]["steps"]
    assert [{**row, "seconds": 0} for row in a["log"]] == [{**row, "seconds": 0} for row in b["log"]]


def test_a_training_goes_on_in_the_middle_of_an_epoch():
    x, y = data(20)

    def part(stop):
        trainer = make()
        loader = fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True)
        if stop is None:
            trainer.fit(loader, 2)
            return trainer, None
        trainer.fit(loader, 1)
        for i, batch in enumerate(loader):
            trainer.step(*batch)
            if i + 1 == stop:
                return trainer, trainer.state_dict()

    whole, _ = part(None)
    _, state = part(2)
    assert state["loader"]["position"] == 8
    rest = make()
    rest.load_state_dict(state)
    rest.fit(fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True), 1)
    same(rest.state_dict(), whole.state_dict())


def test_a_state_that_does_not_fit_changes_nothing():
    x, y = data()
    trainer = make()
    trainer.step(x, y)
    good = trainer.state_dict()
    other = make(optimizer=fc.optim.AdamW(1e-2))
    other.step(x, y)
    deep = fc.Trainer(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)), nn.CrossEntropyLoss(), fc.optim.SGD(0.1, 0.9))
    deep.step(x, y)
    for bad, error, message in [
        (other.state_dict(), ValueError, "'exp_avg' for '0.weight', SGD has momentum_buffer"),
        (deep.state_dict(), ValueError, "buffers for '1.weight', which this network has no parameter for"),
        ({**good, "model": deep.state_dict()["model"]}, ValueError, "missing: 0.weight"),
        ({**good, "optimizer": {**good["optimizer"], "rule": other.optimizer.state_dict()}}, ValueError, "SGD: state"),
        ({**good, "schedule": {}}, ValueError, "only one of the state and this trainer has a schedule"),
        ({**good, "format": 99}, ValueError, "format 99"),
        (None, TypeError, "state is a NoneType"),
        ({**good, "optimizer": None}, ValueError, "rule, steps, counts and state"),
        ({**good, "optimizer": {**good["optimizer"], "steps": -5}}, ValueError, "steps=-5"),
        ({**good, "optimizer": {**good["optimizer"], "state": {"0.weight": None}}}, ValueError, "a dict of dicts"),
        ({**good, "epoch": "a"}, ValueError, "epoch='a'"),
        ({**good, "loader": 3}, ValueError, "loader=3"),
        ({**good, "log": [3]}, ValueError, "log must be a list of dicts"),
        ({key: good[key] for key in good if key != "log"}, ValueError, r"state lacks \['log'\]"),
    ]:
        with pytest.raises(error, match=message):
            trainer.load_state_dict(bad)
        same(trainer.state_dict(), good)


def test_saved_networks_of_the_zoo_come_back(tmp_path):
    path = tmp_path / "net.safetensors"
    fc.manual_seed(0)
    net = fc.zoo.lenet5(num_classes=7, in_channels=2)
    trainer = make(net)
    trainer.save(path, {"mean": [0.5], "classes": ["a", "b"]})
    back = fc.load(path)
    assert back.preprocessing == {"mean": [0.5], "classes": ["a", "b"]}
    assert back.network == net.network == {"name": "lenet5", "arguments": {"num_classes": 7, "in_channels": 2}}
    x = RNG(0).standard_normal((3, 2, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(fc.compile(back, x.shape)(x), trainer.predict(x))
    fc.train.save(back, path)
    assert fc.load(path).preprocessing == back.preprocessing
    with pytest.raises(TypeError, match="is not JSON"):
        trainer.save(path, {"mean": x})
    assert fc.load(path).preprocessing == back.preprocessing


def test_files_that_cannot_be_loaded(tmp_path):
    path = tmp_path / "net.safetensors"
    make().save(path)
    advice = r"does not name its network.*load_state_dict\(fastconv.train.load_model\(path\)\[0\]\)"
    with pytest.raises(ValueError, match=advice):
        fc.load(path)
    net = small_net(1)
    net.load_state_dict(fc.train.load_model(path)[0])
    np.testing.assert_array_equal(net.state_dict()["0.weight"], small_net().state_dict()["0.weight"])
    fc.train.save(fc.zoo.lenet5(), path)
    arrays, metadata = fc.train.load_model(path)
    for network, message in [
        ('{"name": "lenet6", "arguments": {}}', "name='lenet6': expected one of"),
        ('{"name": "lenet5", "arguments": {"num_classes": 11}}', "11.weight has shape"),
        ('{"name": "lenet5", "arguments": {"depth": 11}}', "depth"),
        ('{"name": "lenet5", "arguments": []}', "load"),
        ("[]", "load"),
        ("{", "load"),
    ]:
        fc.train.save_model(path, arrays, {**metadata, "network": network})
        with pytest.raises(ValueError, match=message) as caught:
            fc.load(path)
        assert str(path) in str(caught.value)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="truncated"):
        fc.load(path)
    path.write_bytes(b"\x08\x01onnx model of somebody else")
    with pytest.raises(ValueError, match="not a safetensors file"):
        fc.load(path)

"""Averages of weights, beside PyTorch's, and in a training."""

import copy
import pickle

import numpy as np
import pytest
from trainers import data, make, small_net

import fastconv as fc
from fastconv import nn, optim
from fastconv.optim import swa_utils


def moved(net, seed):
    """The network with other weights and statistics."""
    rng = np.random.default_rng(seed)
    for value in (*net.parameters(), *(b for b in net.buffers() if isinstance(b, fc.Parameter))):
        value.data = rng.standard_normal(value.shape)
    return net


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", ["swa", "ema", "own"])
def test_as_pytorchs(kind, use_buffers):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its averages are the reference")
    own = lambda a, b, n: 0.25 * a + 0.75 * b * (1 + n)  # noqa: E731
    ours = {"swa": {}, "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}, "own": {"avg_fn": own}}[kind]
    theirs = {"swa": {}, "ema": {"multi_avg_fn": torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)},
              "own": {"avg_fn": own}}[kind]
    net, other = nn.Sequential(nn.Linear(4, 9000), nn.BatchNorm1d(9000)), \
        torch.nn.Sequential(torch.nn.Linear(4, 9000), torch.nn.BatchNorm1d(9000))
    average = swa_utils.AveragedModel(net, use_buffers=use_buffers, **ours)
    expected = torch.optim.swa_utils.AveragedModel(other, use_buffers=use_buffers, **theirs)
    for step in range(4):
        moved(net, step)
        other.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
        average.update_parameters(net)
        expected.update_parameters(other)
    assert set(average.state_dict()) == set(expected.state_dict()) and average.n_averaged == 4
    for name, value in expected.state_dict().items():
        if "num_batches" not in name:
            np.testing.assert_allclose(average.state_dict()[name], value.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def test_ema_is_a_network():
    net = moved(small_net(batch_norm=True), 0)
    ema = swa_utils.EMA(net, 0.5)
    ema.update_parameters(net)
    x = data()[0]
    np.testing.assert_array_equal(fc.compile(ema, x.shape)(x), fc.compile(net, x.shape)(x))
    before = net.state_dict()
    engine = fc.compile(ema, x.shape)
    ema.update_parameters(moved(net, 1))
    expected = moved(small_net(batch_norm=True), 1)
    for name, p in expected.named_parameters():
        p.data = 0.5 * before[name] + 0.5 * p.data
    np.testing.assert_allclose(engine(x), fc.compile(expected, x.shape)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trainer_updates_it_and_checkpoints_keep_it(tmp_path, accumulate):
    def trainer():
        net = small_net(batch_norm=True)
        return make(net, average=swa_utils.EMA(net, 0.9), accumulate=accumulate)

    x, y = data(24)
    whole, part, rest = trainer(), trainer(), trainer()
    for t, steps in ((whole, range(6)), (part, range(3))):
        for i in steps:
            t.step(x[4 * i:4 * i + 4], y[4 * i:4 * i + 4])
    assert whole.average.n_averaged == 6 // accumulate
    part.save_checkpoint(tmp_path / "c")
    rest.load_checkpoint(tmp_path / "c")
    for other in (rest, pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        for i in range(3, 6):
            other.step(x[4 * i:4 * i + 4], y[4 * i:4 * i + 4])
        for name, value in whole.average.state_dict().items():
            np.testing.assert_array_equal(value, other.average.state_dict()[name], err_msg=name)
    with pytest.raises(ValueError, match="only one of the state and this trainer has an average"):
        make(small_net(batch_norm=True), accumulate=accumulate).load_checkpoint(tmp_path / "c")


def test_swalr_as_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its schedule is the reference")
    for strategy in ("cos", "linear"):
        a, b = fc.Parameter(np.ones(1)), torch.ones(1, requires_grad=True)
        rule, other = optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.1)
        ours = swa_utils.SWALR(rule, 0.02, 4, strategy)
        theirs = torch.optim.swa_utils.SWALR(other, 0.02, 4, strategy)
        for _ in range(7):
            other.step()
            ours.step()
            theirs.step()
            assert rule.lr == pytest.approx(other.param_groups[0]["lr"], rel=1e-6)


@pytest.mark.parametrize("call, error, message", [
    (lambda net: swa_utils.AveragedModel(3), TypeError, "AveragedModel: model is a int"),
    (lambda net: swa_utils.AveragedModel(net, "cuda"), ValueError, "device='cuda'"),
    (lambda net: swa_utils.AveragedModel(net, avg_fn=3), TypeError, "avg_fn is a int"),
    (lambda net: swa_utils.AveragedModel(net, avg_fn=max, multi_avg_fn=max), ValueError, "only one of avg_fn"),
    (lambda net: swa_utils.AveragedModel(net, multi_avg_fn=max), TypeError, "multi_avg_fn: expected what"),
    (lambda net: swa_utils.AveragedModel(net).update_parameters(nn.Linear(2, 2)), ValueError, "other parameters or buffers"),
    (lambda net: swa_utils.EMA(net, 1.5), ValueError, "EMA: decay=1.5"),
    (lambda net: make(net, average=3), TypeError, "Trainer: average is a int"),
])
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(small_net())

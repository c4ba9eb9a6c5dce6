"""What one epoch, and one call of fit, leaves to the next: nothing that would be wrong there."""

import pickle

import numpy as np
import pytest
from trainers import data, make, same, small_net

import fastconv as fc
from fastconv import nn
from fastconv.train import EarlyStopping, LogWriter, ModelCheckpoint


class Bad(Exception):
    pass


def poison(x):
    """Data in whose third batch the loss is not finite, after large ones."""
    x = x * 1e3
    x[8:12] = np.inf
    return x


def ended_by_nan(trainer, x, y):
    with pytest.raises(FloatingPointError):
        trainer.fit(fc.data.DataLoader(fc.data.ArrayDataset(poison(x), y), 4), 1, verbose=False)


def ended_by(error):
    def end(trainer, x, y):
        def transform(batch):
            seen.append(batch)
            if len(seen) == 3:
                raise error("enough")
            return batch[0] * 1e3, batch[1]

        seen = []
        loader = fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, transform=transform, prefetch=0)
        with pytest.raises(error):
            trainer.fit(loader, 1, verbose=False)

    return end


@pytest.mark.parametrize("end", [ended_by_nan, ended_by(Bad), ended_by(KeyboardInterrupt)],
                         ids=["nan", "exception", "ctrl-c"])
@pytest.mark.parametrize("given", ["arrays", "loader"])
def test_an_epoch_that_was_cut_short_leaves_no_averages(end, given):
    x, y = data()
    trainer = make(optimizer=fc.optim.SGD(0.0))
    expected = trainer.evaluate((x, y))
    end(trainer, x, y)
    assert len(trainer.log) == 0 and trainer.epoch == 0
    train = (x, y) if given == "arrays" else fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True)
    row = trainer.fit(train, 1, batch_size=4 if given == "arrays" else None, verbose=False)[0]
    assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5) and row["accuracy"] == expected["accuracy"]


def test_an_epoch_that_was_cut_short_is_resumed_with_its_averages():
    x, y = data()

    def loader(stop=None):
        def transform(batch):
            seen.append(batch)
            if len(seen) == stop:
                raise Bad
            return batch

        seen = []
        return fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True, transform=transform, prefetch=0)

    whole, part, rest = make(), make(), make()
    whole.fit(loader(), 2, verbose=False)
    with pytest.raises(Bad):
        part.fit(loader(stop=9), 2, verbose=False)
    state = part.state_dict()
    rest.load_state_dict(state)
    for trainer in (rest, pickle.loads(pickle.dumps(part))):
        trainer.fit(loader(), 1, verbose=False)
        same(trainer.state_dict(), whole.state_dict())
        for ours, theirs in zip(trainer.log, whole.log, strict=True):
            assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    part.fit(loader(), 1, verbose=False)  # in the trainer itself, the epoch begins anew
    assert part.epoch == 2 and part.steps == 2 + 6 + 6


def watched(values):
    """A trainer whose column val_watched takes these values, one an epoch."""
    trainer, rows = make(metrics=()), iter(values)
    trainer.evaluate = lambda data, batch_size=None: {"watched": next(rows)}
    return trainer


def fit(trainer, epochs, *callbacks):
    x, y = data(8)
    trainer.fit((x, y), epochs, validation=fc.data.DataLoader(fc.data.ArrayDataset(x, y), 8), callbacks=callbacks,
                batch_size=8, verbose=False)
    return trainer


@pytest.mark.parametrize("mode, sign", [("min", 1), ("max", -1)])
def test_another_fit_is_judged_by_itself(tmp_path, mode, sign):
    values = [sign * v for v in (1.0, 0.5, 0.6, 0.7, 9.0, 8.0, 7.0, 6.0, 5.0)]
    trainer = watched(values)

    def stopping():
        return EarlyStopping("val_watched", patience=2, mode=mode)

    used = stopping()
    fit(trainer, 4, used)
    assert len(trainer.log) == 4 and trainer.began == 0
    path = tmp_path / "best"
    fit(trainer, 2, stopping(), ModelCheckpoint(path, "val_watched", mode))
    assert len(trainer.log) == 6 and trainer.began == 4 and path.exists()
    fit(trainer, 3, used)
    assert len(trainer.log) == 9


def test_one_model_checkpoint_remembers_its_best_over_several_fits(tmp_path):
    path, other = tmp_path / "best", tmp_path / "other"
    trainer = watched([3.0, 1.0, 2.0, 2.5, 0.5])
    keep = ModelCheckpoint(path, "val_watched", "min")
    fit(trainer, 2, keep)
    best = path.read_bytes()
    fit(trainer, 2, keep, ModelCheckpoint(other, "val_watched", "min"))
    assert path.read_bytes() == best != other.read_bytes()
    fit(trainer, 1, keep)
    assert path.read_bytes() != best
    pickle.loads(pickle.dumps(keep))


@pytest.mark.parametrize("stop", ["patience", "epochs over", "another callback"])
def test_the_best_network_is_restored_however_the_fit_ends(stop):
    trainer, nets = watched([3.0, 1.0, 2.0, 2.0, 2.0]), []
    patience = 2 if stop == "patience" else 9
    restore = EarlyStopping("val_watched", patience=patience, mode="min", restore_best=True)
    extra = [lambda trainer, row: nets.append(trainer.module.state_dict())]
    if stop == "another callback":
        extra.append(lambda trainer, row: trainer.stop() if len(trainer.log) == 4 else None)
    fit(trainer, 5, *extra, restore)
    assert len(trainer.log) == (5 if stop == "epochs over" else 4)
    for name, value in trainer.module.state_dict().items():
        np.testing.assert_array_equal(value, nets[1][name])
    assert not np.array_equal(nets[1]["0.weight"], nets[-1]["0.weight"])


def test_a_restored_network_is_what_the_checkpoint_holds(tmp_path):
    trainer, (x, y) = watched([1.0, 2.0, 3.0]), data(8)
    trainer.fit((x, y), 3, validation=fc.data.DataLoader(fc.data.ArrayDataset(x, y), 8), verbose=False, batch_size=8,
                callbacks=[EarlyStopping("val_watched", mode="min", restore_best=True)], checkpoint=tmp_path / "c")
    other = make(metrics=())
    other.load_checkpoint(tmp_path / "c")
    same(other.state_dict(), trainer.state_dict())


def test_nothing_is_restored_where_the_last_epoch_is_the_best_or_an_exception_ends_it():
    trainer, nets = watched([3.0, 2.0, 1.0, 5.0]), []
    keep = lambda trainer, row: nets.append(trainer.module.state_dict())  # noqa: E731
    restore = EarlyStopping("val_watched", mode="min", restore_best=True)
    fit(trainer, 3, keep, restore)
    same({"model": nets[-1], "optimizer": {"state": {}}}, {"model": trainer.module.state_dict()})

    def fail(trainer, row):
        raise Bad

    with pytest.raises(Bad):
        fit(trainer, 2, keep, fail, restore)
    same({"model": nets[-1], "optimizer": {"state": {}}}, {"model": trainer.module.state_dict()})


def test_a_resumed_fit_is_judged_as_one_that_was_never_interrupted(tmp_path):
    class Stop(Exception):
        pass

    def interrupt(trainer, row):
        if trainer.epoch == 4:
            raise Stop

    values = [9.0, 8.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    for resumed in (False, True):
        trainer = watched(values)
        fit(trainer, 1)  # an earlier fit, with a row that does not count
        if resumed:
            with pytest.raises(Stop):
                fit(trainer, 7, EarlyStopping("val_watched", patience=3, mode="min"), interrupt)
            state = trainer.state_dict()
            assert state["began"] == 1
            trainer = watched(values[4:])
            trainer.load_state_dict(state)
            assert trainer.state_dict()["began"] == 1
            fit(trainer, 4, EarlyStopping("val_watched", patience=3, mode="min"))
        else:
            fit(trainer, 7, EarlyStopping("val_watched", patience=3, mode="min"))
        assert len(trainer.log) == 6 and trainer.state_dict()["began"] is None


def test_a_state_that_is_refused_leaves_the_next_fit_as_it_was():
    trainer = make()
    x, y = data()
    loader = fc.data.DataLoader(fc.data.ArrayDataset(x, y), 4, shuffle=True)
    trainer.fit(loader, 1, verbose=False)
    bad = trainer.state_dict()
    bad["model"] = {name: value for name, value in bad["model"].items() if name != "0.weight"}
    with pytest.raises(ValueError, match="missing: 0.weight"):
        trainer.load_state_dict(bad)
    assert trainer._loader_state is None and trainer._resumed is None
    trainer.fit((x[:8], y[:8]), 1, batch_size=8, verbose=False)
    assert trainer.steps == 7


def test_the_log_of_all_fits_is_written(tmp_path):
    trainer = watched([1.0, 2.0, 3.0])
    fit(trainer, 2, LogWriter(tmp_path / "log.csv"))
    fit(trainer, 1, LogWriter(tmp_path / "log.csv"))
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()] == ["epoch", "1", "2", "3"]


def test_a_plateau_listens_on_over_several_fits():
    for mode, values in (("min", [1.0, 2.0, 2.0, 2.0]), ("max", [1.0, 0.5, 0.5, 0.5])):
        rule = fc.optim.SGD(1.0)
        trainer = make(small_net(), rule, schedule=fc.optim.ReduceLROnPlateau(rule, mode=mode, patience=2), metrics=())
        rows = iter(values)
        trainer.evaluate = lambda data, batch_size=None: {"loss": next(rows)}  # noqa: B023
        fit(trainer, 2)
        fit(trainer, 1)
        assert rule.lr == 1.0
        fit(trainer, 1)
        assert rule.lr == pytest.approx(0.1)
    assert isinstance(trainer.loss, nn.CrossEntropyLoss)

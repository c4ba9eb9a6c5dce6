"""Engines that share weights and parameters: clones in threads, snapshots, changes that must not go unnoticed."""

import gc
import pickle
import threading
import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

SHAPE = (2, 3, 9, 9)


def net():
    fc.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 40, 3), nn.BatchNorm2d(40), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 49, 10))


def image(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)


def test_clones_in_threads_pack_changed_weights_once(monkeypatch):
    module, x = net(), image()
    engines = [fc.compile(module, SHAPE)]
    engines += [engines[0].clone() for _ in range(3)]
    prepared, start = [], threading.Barrier(4)
    for engine in engines:
        program = engine._current[1]

        class Counted:
            def __init__(self, steps):
                self.steps = steps

            def run(self, threads):
                prepared.append(threading.get_ident())
                self.steps.run(threads)

        monkeypatch.setattr(program, "_prepare", Counted(program._prepare))
    for turn in range(20):
        with module[0].weight.edit() as weight:
            weight *= -1.25
        expected, got = fc.compile(module, SHAPE)(x), [None] * 4
        prepared.clear()

        def work(i, got=got):
            start.wait()
            got[i] = engines[i](x)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for y in got:
            np.testing.assert_array_equal(y, expected)
        assert len(prepared) == 1, turn


def test_a_clone_of_a_snapshot_keeps_the_snapshots_weights_for_new_shapes_too():
    module, x, larger = net()[:3], image(), np.ones((1, 3, 12, 12), np.float32)
    live = fc.compile(module, SHAPE)
    before, before_larger = live(x), live(larger)
    frozen = live.freeze()
    clone = frozen.clone()
    with module[0].weight.edit() as weight:
        weight += 1
    for engine in (frozen, clone):
        np.testing.assert_array_equal(engine(x), before)
        np.testing.assert_array_equal(engine(larger), before_larger)
    assert not np.array_equal(live(x), before)
    assert not np.array_equal(live.clone()(larger), before_larger)


def test_a_snapshot_of_a_plain_function_keeps_its_weights_for_new_shapes():
    convolution, x, larger = nn.Conv2d(3, 4, 3), image(), np.ones((1, 3, 12, 12), np.float32)
    live = fc.compile(lambda t: convolution(t), SHAPE)
    before, before_larger = live(x), live(larger)
    frozen = live.freeze()
    with convolution.weight.edit() as weight:
        weight += 1
    np.testing.assert_array_equal(frozen.freeze()(x), before)
    np.testing.assert_array_equal(frozen(larger), before_larger)
    assert not np.array_equal(live(x), before)
    with pytest.raises(TypeError, match="a frozen engine of a plain function cannot be pickled"):
        pickle.dumps(frozen)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pickled_engine_is_compiled_again(frozen):
    module, x = net(), image()
    engine = fc.compile(module, SHAPE, algorithm="im2col", threads=1, cache_size=2)
    engine, expected = engine.freeze() if frozen else engine, engine(x)
    with module[0].weight.edit() as weight:
        weight += frozen
    copy = pickle.loads(pickle.dumps(engine))
    np.testing.assert_array_equal(copy(x), expected)
    assert copy._options() == engine._options() and copy.batch == 2
    assert {s.algorithm for s in copy.steps()} == {s.algorithm for s in engine.steps()}
    assert (copy._snapshot is not None) == frozen


def test_a_snapshot_keeps_one_copy_of_the_parameters_besides_the_packed_ones():
    """Freezing it again, and clones, add none."""
    layer, x = nn.Linear(1024, 1024), np.ones((1, 1024), np.float32)
    engine, nbytes = fc.compile(layer, x.shape), 4 * 1024 * 1024
    expected = engine(x)
    tracemalloc.start()
    try:
        frozen = engine.freeze()
        assert nbytes <= tracemalloc.get_traced_memory()[0] < 1.5 * nbytes
        others = [frozen.freeze(), frozen.clone()]
        assert tracemalloc.get_traced_memory()[0] < 1.5 * nbytes
    finally:
        tracemalloc.stop()
    layer.weight.data = np.zeros((1024, 1024))
    for one in (frozen, *others):
        np.testing.assert_array_equal(one(x), expected)
    assert (engine(x) == layer.bias.data).all()


def test_every_change_of_a_parameter_is_noticed():
    layer = nn.Linear(3, 2)
    engine, x = fc.compile(layer, (1, 3)), np.ones((1, 3), np.float32)
    layer.bias.data = np.zeros(2)
    for change in ("data", "edit", "load"):
        new = np.full((2, 3), {"data": 1, "edit": 2, "load": 3}[change], np.float32)
        if change == "data":
            layer.weight.data = new
        elif change == "edit":
            with layer.weight.edit() as weight:
                weight[...] = new
        else:
            layer.load_state_dict({"weight": new, "bias": np.zeros(2, np.float32)})
        np.testing.assert_array_equal(engine(x), np.full((1, 2), 3 * new[0, 0]))
    layer.weight.data[0, 0] = 1
    np.testing.assert_array_equal(engine(x), [[7, 9]])
    with layer.weight.edit() as kept:
        pass
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1


def test_a_gradient_keeps_itself_alone():
    """An array of its own: neither the arena nor other gradients live on with it, and it outlives its engine."""
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16 * 49, 4))
    engine, x = fc.compile(module, (64, 3, 9, 9), training=True), np.ones((64, 3, 9, 9), np.float32)
    engine.backward(np.ones_like(engine(x)))
    kept = []
    for parameter in module.parameters():
        owner = parameter.grad
        while isinstance(owner, np.ndarray):
            owner = owner.base
        assert memoryview(owner).nbytes == parameter.grad.nbytes
        kept.append((parameter.grad, parameter.grad.copy()))
    sizes = engine.memory()
    assert sizes["gradients"] == sum(p.grad.nbytes for p in module.parameters())
    del engine
    gc.collect()
    others = [np.full(sizes["arena"] // 4, np.nan, np.float32) for _ in range(3)]  # would lie where the arena has been
    for gradient, copy in kept:
        np.testing.assert_array_equal(gradient, copy)
    assert len(others) == 3

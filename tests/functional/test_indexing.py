"""Indexing and selection where the table of records does not reach: integers through engines and training, indices that are
outside, functions whose sizes depend on values."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.engine.training import TrainingTape
from fastconv.functional.record import vjp

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


# ---- integers in and out of engines -------------------------------------------------------------------------------------


def test_an_embedding_with_integers_as_input():
    table = fc.Parameter(array(11, 6))
    engine = fc.compile(lambda i: F.embedding(i, table), ((4, 3), "int64"))
    for n in (4, 2, 1):
        i = rng.integers(0, 11, (n, 3))
        np.testing.assert_array_equal(engine(i), table.data[i])
        np.testing.assert_array_equal(engine(i.astype(np.int32)), table.data[i])


def test_values_and_indices_as_outputs():
    engine = fc.compile(lambda x: F.topk(x, 3), (5, 40))
    for n in (5, 3):
        x = array(n, 40)
        values, indices = engine(x)
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices, np.argsort(-x, 1, kind="stable")[:, :3])
        np.testing.assert_array_equal(values, np.take_along_axis(x, indices, 1))


def test_indices_made_in_the_graph():
    engine = fc.compile(lambda x, t: F.gather(t, 1, F.argsort(x)), {"keys": (4, 9), "values": (4, 9)})
    for n in (4, 1):
        keys, values = array(n, 9), array(n, 9)
        np.testing.assert_array_equal(engine(keys, values), np.take_along_axis(values, np.argsort(keys, 1), 1))


def test_clones_have_their_own_integers():
    table = fc.Parameter(array(50, 64))
    engine = fc.compile(lambda i: F.embedding(i, table), ((200, 30), "int64"))
    engines, wrong = [engine, engine.clone()], []

    def run(engine, seed):
        generator = np.random.default_rng(seed)
        for _ in range(50):
            i = generator.integers(0, 50, (200, 30))
            if not np.array_equal(engine(i), table.data[i]):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(e, k)) for k, e in enumerate(engines)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_batch_that_is_mixed_is_planned_for_itself():
    engine = fc.compile(lambda x: F.index_select(x, 0, np.array([0, 1, 0])), (4, 5))
    for n in (4, 2):
        x = array(n, 5)
        np.testing.assert_array_equal(engine(x), x[[0, 1, 0]])
    engine = fc.compile(lambda x: F.sort(x, 0).values, (4, 5))
    for n in (4, 3):
        x = array(n, 5)
        np.testing.assert_array_equal(engine(x), np.sort(x, 0))


def test_images_stay_images():
    order = np.array([2, 0, 1, 0])
    engine = fc.compile(lambda x: F.relu(F.index_select(x, 1, order)), (2, 3, 5, 4))
    for n in (2, 1):
        x = array(n, 3, 5, 4)
        np.testing.assert_array_equal(engine(x), np.maximum(x[:, order], 0))


def test_training_adds_up_what_a_row_gets():
    start = array(7, 4)
    i, target = rng.integers(0, 7, (6, 3)), array(6, 3, 4)
    table = fc.Parameter(start.copy())
    engine = fc.compile(lambda i: F.embedding(i, table, 2), ((6, 3), "int64"), training=True)
    for n in (6, 5):
        table.grad = None
        engine(i[:n])
        engine.backward(target[:n])
        want = np.zeros((7, 4), np.float64)
        np.add.at(want, i[:n], target[:n])
        want[2] = 0
        np.testing.assert_allclose(table.grad, want, rtol=1e-5, atol=1e-6)


# ---- what is outside ----------------------------------------------------------------------------------------------------


def test_outside_is_refused_before_anything_runs():
    table, bn = fc.Parameter(array(5, 4)), nn.BatchNorm1d(4)
    engine = fc.compile(lambda i: bn(F.embedding(i, table)), ((6,), "int64"), training=True)
    engine(np.zeros(6, int))
    before = bn.running_mean.data.copy()
    for bad in (5, -1, 2**40):
        i = np.zeros(6, int)
        i[3] = bad
        with pytest.raises(IndexError, match=rf"embedding: input has the value {bad}: expected 0 to 4"):
            engine(i)
    np.testing.assert_array_equal(bn.running_mean.data, before)
    engine(np.zeros(6, int))


def test_outside_found_by_a_run():
    keys = np.array([[3, 1, 2], [0, 2, 1]], np.float32)
    engine = fc.compile(lambda x, t: F.gather(t, 1, F.argsort(x)), {"keys": (2, 3), "values": (2, 2)})
    with pytest.raises(ValueError, match="larger than input|index of shape"):
        fc.compile(lambda x, t: F.gather(t, 0, F.argsort(x)), {"keys": (2, 3), "values": (2, 2)})(keys, keys[:, :2])
    for _ in range(2):  # the flag is taken back
        with pytest.raises(IndexError, match="gather: index has the value 2: expected 0 to 1"):
            engine(keys, array(2, 2))


def test_outside_of_a_constant_is_refused_by_the_trace():
    with pytest.raises(IndexError, match=r"index_select: index has the value 3: expected 0 to 2"):
        fc.compile(lambda x: F.index_select(x, 1, np.array([0, 3])), (2, 3))


def test_slices_of_an_input_are_checked_alone():
    table = fc.Parameter(array(5, 4))
    engine = fc.compile(lambda i: F.embedding(F.index_select(i, 1, np.array([0])), table), ((3, 2), "int64"))
    i = np.array([[1, 99], [4, -7], [0, 5]])
    np.testing.assert_array_equal(engine(i), table.data[i[:, :1]])


# ---- order, ties, NaN ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint8, np.int8, np.bool_])
def test_stable(dtype):
    x = rng.integers(0, 2 if dtype is np.bool_ else 5, (4, 200)).astype(dtype)
    np.testing.assert_array_equal(F.argsort(x, stable=True), np.argsort(x, 1, kind="stable"))
    _, indices = F.sort(x, descending=True, stable=True)
    np.testing.assert_array_equal(indices, 199 - np.argsort(x[:, ::-1], 1, kind="stable")[:, ::-1])
    np.testing.assert_array_equal(F.topk(x, 7).indices, indices[:, :7])


def test_nan_is_the_largest():
    x = np.array([1, np.nan, -np.inf, np.inf, 0], np.float32)
    assert F.argsort(x).tolist() == [2, 4, 0, 3, 1]
    assert F.argsort(x, descending=True).tolist() == [1, 3, 0, 4, 2]
    assert F.topk(x, 2).indices.tolist() == [1, 3]
    assert F.median(x, 0).indices == 1
    assert F.nanmedian(x, 0).values == 0


# ---- gradients ----------------------------------------------------------------------------------------------------------


def test_the_gradient_of_rows_adds_up_in_order():
    x, i = array(5, 33), rng.integers(0, 5, 3000)
    g = array(3000, 33)
    _, gx = vjp(lambda t: F.index_select(t, 0, i), x, g)
    want = np.zeros_like(x)
    for k, row in zip(i, g, strict=True):
        want[k] += row
    np.testing.assert_array_equal(gx, want)


# ---- sizes that depend on values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    lambda x: F.nonzero(x), lambda x: F.unique(x), lambda x: F.masked_select(x, x), lambda x: F.bincount(x),
    lambda x: F.nms(x, x, 0.5), lambda x: F.histc(x), lambda x: F.unique_consecutive(x)])
def test_refused_inside_a_graph(call):
    with pytest.raises(TypeError, match="how large its result is depends on values"):
        fc.compile(call, (4, 4))


def test_nonzero_and_unique():
    x = np.array([[0, 2, 0], [np.nan, -0.0, 2]], np.float32)
    np.testing.assert_array_equal(F.nonzero(x), [[0, 1], [1, 0], [1, 2]])
    rows, columns = F.nonzero(x, as_tuple=True)
    assert rows.tolist() == [0, 1, 1]
    assert columns.tolist() == [1, 0, 2]
    values, where, counts = F.unique(np.array([3, 1, 3, 2]), return_inverse=True, return_counts=True)
    assert (values.tolist(), where.tolist(), counts.tolist()) == ([1, 2, 3], [2, 0, 2, 1], [1, 1, 2])
    values, where, counts = F.unique_consecutive(np.array([3, 3, 1, 3]), return_inverse=True, return_counts=True)
    assert (values.tolist(), where.tolist(), counts.tolist()) == ([3, 1, 3], [0, 0, 1, 2], [2, 1, 1])
    assert F.unique(np.array([[1, 2], [1, 2], [0, 2]]), dim=0).tolist() == [[0, 2], [1, 2]]
    assert F.unique_consecutive(np.zeros((0, 3), np.float32)).shape == (0,)


def test_masks_and_counts():
    x = array(3, 4)
    np.testing.assert_array_equal(F.masked_select(x, x > 0), x[x > 0])
    np.testing.assert_array_equal(F.masked_select(x, np.array([True, False, True, False])), x[:, ::2].reshape(-1))
    assert F.bincount(np.array([1, 3, 1]), minlength=6).tolist() == [0, 2, 0, 1, 0, 0]
    assert F.bincount(np.array([1, 3, 1]), np.array([0.5, 1, 2], np.float32)).tolist() == [0, 2.5, 0, 1]
    assert F.histc(np.array([0, 1, 2.5, 4, 5, np.nan], np.float32), 4, 0, 4).tolist() == [1, 1, 1, 1]
    assert F.isin(np.array([[1, 2], [3, 4]]), np.array([2, 3])).tolist() == [[False, True], [True, False]]


def test_suppression():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 9]], np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.5], np.float32)
    assert F.nms(boxes, scores, 0.5).tolist() == [1, 2]
    assert F.nms(boxes, scores, 0.95).tolist() == [1, 0, 3, 2]
    assert F.batched_nms(boxes, scores, np.array([0, 1, 0, 0]), 0.5).tolist() == [1, 0, 2]
    assert F.nms(boxes[:0], scores[:0], 0.5).shape == (0,)


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.nms(array(3, 5), array(3), 0.5), ValueError, r"nms: boxes of shape \(3, 5\): expected \(boxes, 4\)"),
    (lambda: F.nms(array(3, 4), array(2), 0.5), ValueError, r"nms: scores of shape \(2,\): expected \(3,\)"),
    (lambda: F.nms(np.zeros((3, 4), int), array(3), 0.5), TypeError, "nms: boxes has dtype int64: expected float32"),
    (lambda: F.nms(array(3, 4), array(3), "a"), TypeError, "nms: iou_threshold='a'"),
    (lambda: F.nms([1], array(3), 0.5), TypeError, "nms: boxes is a list"),
    (lambda: F.batched_nms(array(3, 4), array(3), array(3), 0.5), TypeError, "batched_nms: idxs has dtype float32"),
    (lambda: F.masked_select(array(3), array(3)), TypeError, "masked_select: mask has dtype float32: expected bool"),
    (lambda: F.masked_select(array(3), np.ones(2, bool)), ValueError, "does not broadcast"),
    (lambda: F.bincount(np.array([1, -1])), ValueError, "bincount: input has the value -1"),
    (lambda: F.bincount(array(3)), TypeError, "bincount: input has dtype float32"),
    (lambda: F.histc(array(3), 0), ValueError, "histc: bins=0"),
    (lambda: F.histc(array(3), 5, 2, 1), ValueError, "histc: min=2.0 is larger than max=1.0"),
    (lambda: F.unique(array(3), dim=1), IndexError, "unique: dim=1"),
    (lambda: F.nonzero(array(3), as_tuple=1), TypeError, "nonzero: as_tuple=1"),
    (lambda: F.nonzero("text"), TypeError, "nonzero: input is a str"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_max_pool_with_indices_in_a_network():
    pool = nn.MaxPool2d(3, 2, 1, return_indices=True)
    engine = fc.compile(pool, (3, 5, 9, 8))
    for n in (3, 1):
        x = array(n, 5, 9, 8)
        values, indices = engine(x)
        want = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        np.testing.assert_array_equal(values, want[0])
        np.testing.assert_array_equal(indices, want[1])
        np.testing.assert_array_equal(values, np.take_along_axis(x.reshape(n, 5, -1), indices.reshape(n, 5, -1),
                                                                 2).reshape(values.shape))
    values, indices = fc.compile(nn.AdaptiveMaxPool1d(3, return_indices=True), (2, 4, 10))(array(2, 4, 10))
    assert values.shape == indices.shape == (2, 4, 3)


def test_training_through_a_pool_with_indices():
    w = fc.Parameter(array(4, 3, 3, 3))
    x, t = array(2, 3, 8, 8), rng.integers(0, 64, 2)

    def model(v):
        y, _ = nn.MaxPool2d(2, return_indices=True)(F.conv2d(v, w, None, 1, 1))
        return F.flatten(y, 1)

    plain = fc.Parameter(w.data.copy())
    a = TrainingTape(model, F.cross_entropy, fc.optim.SGD(lr=0.1)).step(x, t)
    b = TrainingTape(lambda v: F.flatten(F.max_pool2d(F.conv2d(v, plain, None, 1, 1), 2), 1), F.cross_entropy,
                     fc.optim.SGD(lr=0.1)).step(x, t)
    assert a == b
    np.testing.assert_array_equal(w.data, plain.data)


# ---- pools that are made of others --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_fractional_pools_and_their_gradient(dims):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    shape, size = ((2, 3, 11, 9), (5, 4)) if dims == 2 else ((2, 2, 7, 6, 8), (3, 4, 2))
    x, samples = array(*shape), rng.random((*shape[:2], dims)).astype(np.float32)
    mine, theirs = (getattr(f, f"fractional_max_pool{dims}d") for f in (F, torch.nn.functional))
    leaf = torch.from_numpy(x).requires_grad_()
    y, i = theirs(leaf, 2, size, return_indices=True, _random_samples=torch.from_numpy(samples))
    g = array(*y.shape)
    (y * torch.from_numpy(g)).sum().backward()
    values, indices = mine(x, 2, size, return_indices=True, _random_samples=samples)
    np.testing.assert_array_equal(values, y.detach().numpy())
    np.testing.assert_array_equal(indices, i.numpy())
    _, gx = vjp(lambda v: mine(v, 2, size, _random_samples=samples), x, g)
    np.testing.assert_allclose(gx, leaf.grad.numpy(), rtol=1e-6)


def test_fractional_pools_draw():
    x = array(2, 3, 40, 40)
    engine = fc.compile(nn.FractionalMaxPool2d(2, output_ratio=0.6, return_indices=True), x.shape)
    fc.manual_seed(3)
    values, indices = engine(x)
    assert values.shape == (2, 3, 24, 24)
    np.testing.assert_array_equal(values, np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1),
                                                             2).reshape(values.shape))
    assert not np.array_equal(engine(x)[1], indices)
    fc.manual_seed(3)
    np.testing.assert_array_equal(engine(x)[1], indices)


def test_unpooling_undoes_pooling():
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    engine = fc.compile(lambda x: unpool(*pool(x)), (3, 4, 8, 6))
    for n in (3, 1):
        x = array(n, 4, 8, 6)
        y = engine(x)
        np.testing.assert_array_equal(F.max_pool2d(y, 2), np.maximum(F.max_pool2d(x, 2), 0))
        assert np.array_equal(y[y != 0], x[y != 0])


# ---- one image ----------------------------------------------------------------------------------------------------------

W = array(4, 3, 3, 3)


@pytest.mark.parametrize("call", [
    lambda x: F.conv2d(x, W), lambda x: F.conv_transpose2d(x, W.transpose(1, 0, 2, 3).copy()), lambda x: F.max_pool2d(x, 2),
    lambda x: F.avg_pool2d(x, 3, 1, 1), lambda x: F.adaptive_avg_pool2d(x, 3), lambda x: F.adaptive_max_pool2d(x, (2, None)),
    lambda x: F.lp_pool2d(x, 2, 2), lambda x: F.max_pool2d(x, 2, return_indices=True)])
def test_functions_of_one_image(call):
    x = array(3, 8, 7)
    alone, batch = call(x), call(x[None])
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (alone, batch)), strict=True):
        np.testing.assert_array_equal(a, b[0])


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(2),
                                   nn.AdaptiveAvgPool2d(2), nn.ReflectionPad2d(1), nn.LPPool2d(2, 2)])
def test_layers_of_one_image(layer):
    x = array(3, 8, 7)
    np.testing.assert_array_equal(fc.compile(layer, x.shape)(x), fc.compile(layer, (1, *x.shape))(x[None])[0])


# ---- tables -------------------------------------------------------------------------------------------------------------


def test_tables_as_layers():
    table = nn.Embedding(9, 4, padding_idx=-1)
    assert not table.weight.data[8].any()
    i = rng.integers(0, 9, (3, 5))
    np.testing.assert_array_equal(fc.compile(table, ((3, 5), "int64"))(i), table.weight.data[i])
    bag = nn.EmbeddingBag(9, 4, mode="mean")
    engine = fc.compile(bag, ((3, 5), "int64"))
    for n in (3, 2):
        np.testing.assert_allclose(engine(i[:n]), bag.weight.data[i[:n]].mean(1), rtol=1e-5, atol=1e-6)
    given = nn.Embedding.from_pretrained(array(4, 2))
    assert not given.weight.requires_grad
    with pytest.raises(ValueError, match="padding_idx=9 must be below num_embeddings=9"):
        nn.Embedding(9, 4, 9)
    assert F.one_hot(np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="one_hot: num_classes=-1"):
        fc.compile(lambda i: F.one_hot(i), ((2,), "int64"))


def test_indexing_of_symbolic_tensors():
    x, i, m = array(4, 5, 6), np.array([[0, 3], [-1, 2]]), rng.random((5, 6)) < 0.5
    for key in [(i,), (slice(None), i), (Ellipsis, i), (slice(1, 3), i % 5), (slice(None), m), (i, None, slice(0, 2)),
                (slice(None), np.array([1, 2]), np.array([0, 5])), (np.array([1, 2]), slice(None), np.array([0, 5]))]:
        np.testing.assert_array_equal(fc.compile(lambda t, key=key: t[key], x.shape)(x), x[key], str(key))
    np.testing.assert_array_equal(F.index(x, [None, m[:, 0]]), x[:, m[:, 0]])
    np.testing.assert_array_equal(F.index_put(x, [m[:4, 0]], np.float32(7)), np.where(m[:4, :1, None], 7, x))


@pytest.mark.parametrize("make, shape", [
    (lambda: nn.Linear(3, 2), (2, 3)), (lambda: nn.Conv2d(3, 2, 1), (2, 3, 4, 4)), (lambda: nn.MaxPool2d(2), (2, 3, 4, 4)),
    (lambda: nn.ConvTranspose2d(3, 2, 2), (2, 3, 4, 4)), (lambda: nn.BatchNorm2d(3), (2, 3, 4, 4)),
    (lambda: nn.AvgPool2d(2), (2, 3, 4, 4)), (lambda: nn.ZeroPad2d(1), (2, 3, 4, 4))])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_layers_of_float32_refuse_integers(make, shape, dtype):
    with pytest.raises(TypeError, match=f"input has dtype {dtype}: expected float32"):
        fc.compile(make(), (shape, dtype))


def test_trainer_takes_indices_as_input():
    """int64 and int32, batches of several sizes, beside the gradient written out by hand."""
    fc.manual_seed(0)
    net = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(30, 4))
    trainer, rng = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.5)), np.random.default_rng(0)
    for n, dtype in ((8, np.int64), (8, np.int32), (3, np.int64), (9, np.int64)):
        x, y = rng.integers(0, 11, (n, 5)).astype(dtype), rng.integers(0, 4, n)
        table, w, b = (p.numpy().astype(np.float64) for p in net.parameters())
        logits = table[x].reshape(n, 30) @ w.T + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = trainer.step(x, y)
        assert abs(loss + np.log(p[np.arange(n), y]).mean()) < 1e-5
        p[np.arange(n), y] -= 1
        np.add.at(table, x, -0.5 / n * (p @ w).reshape(n, 5, 6))
        np.testing.assert_allclose(net[0].weight.data, table, rtol=1e-4, atol=1e-5)
    before = net.state_dict()
    for bad in (11, -1, 2**40):
        x[0, 0] = bad
        with pytest.raises(IndexError, match=f"embedding: input has the value {bad}: expected 0 to 10"):
            trainer.step(x, y)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    x[0, 0] = 0
    want = fc.compile(net, (x.shape, "int64"))(x)
    np.testing.assert_allclose(trainer.predict(x, batch_size=4), want, rtol=1e-5, atol=1e-6)
    assert trainer.evaluate((x, y))["loss"] > 0
    trainer.fit((x, y), epochs=1, batch_size=4)
    with pytest.raises(TypeError, match="step: input 0 has dtype uint8: expected float32"):
        trainer.step(x.astype(np.uint8), y)

"""What moves elements, inside networks: batches of any size, views that copy nothing, methods, casts and constants."""

import fuzz_views
import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv.functional.record import vjp

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def copies(engine):
    return [row.op for row in engine.steps() if row.op not in ("input", "output")]


def agrees(network, reference, *shape, exact=False):
    """The network is the reference for the planned batch and smaller ones; the engine is planned again only if ``exact``."""
    x = array(*shape)
    engine = fc.compile(network, shape)
    for n in (shape[0], 1, max(1, shape[0] - 1)):
        got, want = engine(x[:n]), reference(x[:n])
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)
    return engine


class TestBatches:
    """The batch stays open where dimension 0 stays by itself."""

    CASES = {
        "permute": (lambda x: x.permute(0, 2, 3, 1), lambda x: x.transpose(0, 2, 3, 1)),
        "view with the batch": (lambda x: x.view(x.size(0), -1), lambda x: x.reshape(len(x), -1)),
        "shape taken apart": (lambda x: (lambda n, c, h, w: x.reshape(n, 2, c // 2, h * w))(*x.shape),
                              lambda x: x.reshape(len(x), 2, 4, 30)),
        "view(-1, ...)": (lambda x: x.view(-1, 8, 30), lambda x: x.reshape(len(x), 8, 30)),
        "flatten": (lambda x: x.flatten(2).transpose(1, 2), lambda x: x.reshape(len(x), 8, 30).swapaxes(1, 2)),
        "slices": (lambda x: x[:, 1:7:2, ..., ::3], lambda x: x[:, 1:7:2, ..., ::3]),
        "index": (lambda x: x[:, 3, None, :, -1], lambda x: x[:, 3, None, :, -1]),
        "chunks": (lambda x: F.cat([x.chunk(2, 1)[1], x.chunk(2, 1)[0]], 1),
                   lambda x: np.concatenate([x[:, 4:], x[:, :4]], 1)),
        "stack": (lambda x: F.stack([x, x * 2.0], 1), lambda x: np.stack([x, x * 2], 1)),
        "flip and roll": (lambda x: F.roll(x.flip(-1), 2, 2), lambda x: np.roll(x[..., ::-1], 2, 2)),
        "repeat": (lambda x: x.repeat(1, 2, 1, 3), lambda x: np.tile(x, (1, 2, 1, 3))),
        "expand": (lambda x: x[:, :, :1].expand(-1, -1, 4, -1), lambda x: np.repeat(x[:, :, :1], 4, 2)),
        "token": (lambda x: F.cat([fc.Parameter(np.ones((1, 1, 8), np.float32)).expand(x.shape[0], -1, -1),
                                   x.flatten(2).transpose(1, 2)], 1),
                  lambda x: np.concatenate([np.ones((len(x), 1, 8), np.float32), x.reshape(len(x), 8, 30).swapaxes(1, 2)],
                                           1)),
        "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2),
                          lambda x: x.reshape(-1, 2, 2, 2, 5, 6).transpose(0, 1, 4, 2, 5, 3).reshape(-1, 2, 10, 12)),
        "pad": (lambda x: F.pad(x.permute(0, 2, 3, 1), (1, 2, 0, 1), "replicate"),
                lambda x: np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 1), (1, 2)), "edge")),
        "tril": (lambda x: x.tril(), np.tril),
        "zeros like": (lambda x: F.cat([x, F.zeros_like(x)], -1), lambda x: np.concatenate([x, 0 * x], -1)),
        "windows": (lambda x: x.unfold(3, 3, 2), lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 3)[:, :, :, ::2]),
    }

    @pytest.mark.parametrize("name", CASES)
    def test_any_batch(self, name):
        network, reference = self.CASES[name]
        agrees(network, reference, 4, 8, 5, 6)
        graph, _ = fc.graph.trace.trace(network, [((4, 8, 5, 6), "input")])
        assert graph.exact is None

    @pytest.mark.parametrize("network, reference", [
        (lambda x: x.transpose(0, 1), lambda x: x.swapaxes(0, 1)), (lambda x: x[0], lambda x: x[0]),
        (lambda x: x.flatten(), np.ravel), (lambda x: x.flip(0), lambda x: x[::-1]),
        (lambda x: F.cat([x, x], 0), lambda x: np.concatenate([x, x])), (lambda x: x[-1:], lambda x: x[-1:]),
        (lambda x: x.reshape(-1, 5, 6), lambda x: x.reshape(-1, 5,
                                                            6)), (lambda x: F.stack([x, x]), lambda x: np.stack([x, x])),
        (lambda x: x.squeeze(), np.squeeze), (lambda x: F.roll(x, 1), lambda x: np.roll(x, 1))])
    def test_what_mixes_it_is_planned_for_each(self, network, reference):
        agrees(network, reference, 4, 8, 5, 6)

    def test_gradients_of_a_batch(self):
        """Of a tape that has moved everything about, against NumPy, for the planned batch and a smaller one."""
        w = fc.Parameter(array(1, 6, 4))
        def network(x):
            y = x.permute(0, 2, 1).reshape(x.shape[0], 6, 4) * w.expand(x.shape[0], -1, -1)
            return F.cat([y[:, ::2], y[:, 1::2].flip(1)], 1).transpose(1, 2)
        engine = fc.compile(network, (3, 4, 6), training=True)
        for n in (3, 2):
            x, g, w.grad = array(n, 4, 6), array(n, 4, 6), None
            engine(x)
            engine.backward(g)
            back = g.swapaxes(1, 2)
            gy = np.zeros((n, 6, 4), np.float32)
            gy[:, ::2], gy[:, 1::2] = back[:, :3], back[:, 3:][:, ::-1]
            np.testing.assert_allclose(w.grad, (gy * x.swapaxes(1, 2)).sum(0, keepdims=True), rtol=1e-5, atol=1e-6)


class TestNoCopies:
    @pytest.mark.parametrize("network", [
        lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), lambda x: x[:, 2:5], lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.view(x.size(0), 2, 4, 5, 6)])
    def test_views(self, network):
        assert not [op for op in copies(fc.compile(network, (4, 8, 5, 6))) if op != "copy"]

    def test_images_of_channels_last_go_into_a_convolution_as_they_are(self):
        w = fc.Parameter(array(4, 3, 3, 3))
        engine = fc.compile(lambda x: F.conv2d(x.permute(0, 3, 1, 2), w, None, 1, 1), (2, 8, 9, 3))
        assert "copy" not in copies(engine)
        x = array(2, 8, 9, 3)
        np.testing.assert_array_equal(engine(x), F.conv2d(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w.data, None, 1, 1))


X = array(2, 3, 4)
METHODS = {
    "view": (lambda x: x.view(6, 4), X.reshape(6, 4)), "view_as": (lambda x: x.view_as(x.transpose(1, 2)),
                                                                   X.reshape(2, 4, 3)),
    "reshape": (lambda x: x.reshape(3, -1), X.reshape(3,
                                                      -1)), "permute": (lambda x: x.permute(2, 0, 1), X.transpose(2, 0, 1)),
    "T": (lambda x: x.T, X.T), "mT": (lambda x: x.mT, X.swapaxes(1, 2)), "t": (lambda x: x[0].t(), X[0].T),
    "expand_as": (lambda x: x[:1].expand_as(x), np.broadcast_to(X[:1], X.shape)),
    "repeat": (lambda x: x.repeat(2, 1, 1, 2), np.tile(X, (2, 1, 1, 2))), "tile": (lambda x: x.tile(2), np.tile(X, 2)),
    "flip": (lambda x: x.flip(0, 2), X[::-1, :, ::-1]), "roll": (lambda x: x.roll(1, 1), np.roll(X, 1, 1)),
    "split": (lambda x: x.split(2, 1)[1], X[:, 2:]), "chunk": (lambda x: x.chunk(2, -1)[1], X[..., 2:]),
    "unbind": (lambda x: x.unbind(1)[2], X[:, 2]), "contiguous": (lambda x: x.mT.contiguous(), X.swapaxes(1, 2)),
    "clone": (lambda x: x.clone(), X), "unfold": (lambda x: x.unfold(2, 2, 2), X.reshape(2, 3, 2, 2)),
    "narrow": (lambda x: x.narrow(1, 1, 2), X[:, 1:3]), "select": (lambda x: x.select(1, -1), X[:, -1]),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(1),
                X), "diagonal": (lambda x: x.diagonal(0, 1, 2), np.diagonal(X, 0, 1, 2)),
    "long": (lambda x: (x * 3.0).long(), (X * 3).astype(np.int64)), "to": (lambda x: x.to("int32"), X.astype(np.int32)),
    "to a device": (lambda x: x.to("cpu").to(device="cpu", dtype="float32"), X), "bool": (lambda x: x.bool(), X != 0),
    "there and back": (lambda x: x.int().float(), np.trunc(X)), "type_as": (lambda x: x.long().type_as(x), np.trunc(X)),
    "[]": (lambda x: x[1, ..., 1:3], X[1, ..., 1:3]), "[None]": (lambda x: x[None, :, 0, None], X[None, :, 0, None]),
    "[array]": (lambda x: x[1, :, np.array([3, 0])], X[1][:, [3, 0]]),
    "[mask]": (lambda x: x[:, np.array([True, False, True])], X[:, [0, 2]]),
    "[()]": (lambda x: x[()], X), "[numpy int]": (lambda x: x[np.int64(1)], X[1]),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    method, want = METHODS[name]
    out, gradient = vjp(method, X) if want.dtype == np.float32 else (fc.engine.general.run(
        name, method, (fc.engine.general.Place(0, X.shape, "float32"),), [X]), None)
    assert out.dtype == want.dtype
    np.testing.assert_array_equal(out, want)
    if gradient is not None and name not in ("there and back", "type_as"):
        ones = np.zeros(X.shape, np.float32)  # how often each element is there
        np.add.at(ones.reshape(-1), vjp(method, np.arange(X.size,
                                                          dtype=np.float32).reshape(X.shape))[0].ravel().astype(int), 1)
        np.testing.assert_array_equal(gradient, ones)


def test_what_methods_say():
    seen = []
    fc.compile(lambda x: (seen.extend([x.dim(), x[0].numel(), x.size(1), tuple(x[0].size()), x.is_contiguous(), x.device]),
                          x)[1],
               (2, 3, 4))
    assert seen == [3, 12, 3, (3, 4), True, "cpu"]


@pytest.mark.parametrize("make, error, message", [
    (lambda x: x[3], IndexError, "index=3: dimension 0"), (lambda x: x[0, 0, 0, 0], IndexError, "4 indices for input of "
                                                                                                "shape"),
    (lambda x: x[..., ...], ValueError,
     "an ellipsis may stand once"), (lambda x: x[::-1], ValueError, "a step of at least 1"),
    (lambda x: x[True], TypeError, "masks without dimensions"),
    (lambda x: x[1.5], TypeError, "index (1.5,)|index 1.5: expected an integer"),
    (lambda x: x.view(5, 5), ValueError, "view: shape=(5, 5): input of shape (2, 3, 4) has 24 elements"),
    (lambda x: x.to("float16"), TypeError, "dtype='float16'"), (lambda x: x.to("cuda"), ValueError, "there is only the CPU"),
    (lambda x: x.repeat(2), ValueError, "expected as many at least"), (lambda x: x.size(3), IndexError, "dim=3"),
    (lambda x: x.unsqueeze(0)[None].unsqueeze(0).unsqueeze(0).unsqueeze(0)[None], ValueError, "at most 8")])
def test_what_they_refuse(make, error, message):
    with pytest.raises(error) as caught:
        fc.compile(make, (2, 3, 4))
    assert any(m in str(caught.value) for m in message.split("|")), str(caught.value)


def test_constants():
    np.testing.assert_array_equal(F.zeros(2, 3), np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(F.arange(3), np.arange(3))
    assert F.full((2,), 1.5).dtype == np.float32 and F.full((2,), 3).dtype == np.int64 and F.full((2,), True).dtype == bool
    assert F.ones(3, dtype="int32").dtype == np.int32 and F.eye(2).dtype == np.float32
    x = array(2, 3, 4)
    engine = fc.compile(lambda t: F.cat([t, F.ones_like(t), F.full_like(t, 2)], 1), x.shape)
    for n in (2, 1):
        np.testing.assert_array_equal(engine(x[:n]), np.concatenate([x[:n], 0 * x[:n] + 1, 0 * x[:n] + 2], 1))


@pytest.mark.parametrize("make, error, message", [
    (lambda: F.zeros(2.5), TypeError,
     "zeros: size=(2.5,): expected integers"), (lambda: F.ones(-1), ValueError, "ones: size=(-1,)"),
    (lambda: F.full((2,), "a"), TypeError, "full: fill_value='a': expected a number"),
    (lambda: F.zeros(2, dtype="float16"), TypeError, "zeros: dtype='float16': expected one of"),
    (lambda: F.zeros(2, device="cuda"), ValueError, "zeros: device='cuda': there is only the CPU"),
    (lambda: F.ones(2, requires_grad=True), ValueError, "ones: requires_grad=True"),
    (lambda: F.arange(0, 5, 0), ValueError,
     "arange: start=0, end=5, step=0"), (lambda: F.arange("a"), TypeError, "arange: end='a'"),
    (lambda: F.arange(0, float("nan")), ValueError, "arange: start=0, end=nan"),
    (lambda: F.linspace(0, 1, -1), ValueError,
     "linspace: steps=-1"), (lambda: F.linspace(0, 1, 2.5), TypeError, "linspace: steps=2.5"),
    (lambda: F.eye(-2), ValueError, "eye: size=(-2, -2)"), (lambda: F.eye("a"), TypeError, "eye: size=('a', 'a')"),
    (lambda: F.zeros_like(3), TypeError, "zeros_like: input is a int: expected an array"),
    (lambda: F.full_like([1.0], 2), TypeError, "full_like: input is a list: expected an array")])
def test_constants_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value), str(caught.value)


def test_other_dtypes_and_empty_arrays():
    for dtype in (np.int64, np.int32, np.uint8, np.int8, np.bool_):
        x = rng.integers(0, 2, (3, 4, 5)).astype(dtype)
        for got, want in ((F.permute(x, (2, 0, 1)), x.transpose(2, 0, 1)), (F.cat([x, x[:1]]), np.concatenate([x, x[:1]])),
                          (F.pad(x, (1, 2), "constant", 1), np.pad(x, ((0, 0), (0, 0), (1, 2)), constant_values=1)),
                          (F.flip(x, (0,)), x[::-1]), (F.tile(x, (2, 1, 1)),
                                                       np.tile(x, (2, 1, 1))), (F.reshape(x, (-1,)), x.ravel())):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, want)
    empty = np.zeros((0, 3), np.float32)
    assert F.permute(empty, (1, 0)).shape == (3, 0) and F.cat([empty, empty]).shape == (0, 3)
    assert F.pad(empty, (1, 1)).shape == (0, 5) and F.reshape(empty, (3, -1)).shape == (3, 0)
    assert F.stack([empty, empty]).shape == (2, 0, 3) and F.flip(empty, (0,)).shape == (0, 3)


def test_chains_like_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lengths = [len(fuzz_views.one(seed, torch)[1]) for seed in range(120)]
    assert sum(lengths) > 200

"""Networks that PyTorch has exported, of every kind of structure and of many operator sets, beside PyTorch itself."""

import io
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional as TF  # noqa: E402

import fastconv as fc  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

torch.manual_seed(3)


def block(i, o, size=3, stride=1, groups=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(o), act())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = block(3, 8), block(8, 16), block(16, 32), block(32, 16)
        self.up, self.e, self.out = nn.ConvTranspose2d(32, 16, 2, 2), block(24, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(TF.max_pool2d(a, 2))
        up = TF.interpolate(self.up(self.c(TF.max_pool2d(b, 2))), size=b.shape[2:], mode="bilinear", align_corners=False)
        up = TF.interpolate(self.d(torch.cat([up, b], 1)), size=a.shape[2:], mode="nearest")
        return self.out(self.e(torch.cat([up, a], 1))).sigmoid()


class Heads(nn.Module):
    """A detector: grids made of extents, anchors, scales joined."""

    def __init__(self):
        super().__init__()
        self.a, self.b = block(3, 16, 3, 4, act=nn.SiLU), block(16, 32, 3, 2, act=nn.SiLU)
        self.first, self.second = nn.Conv2d(16, 27, 1), nn.Conv2d(32, 27, 1)
        self.register_buffer("anchors", torch.tensor([10.0, 13.0, 16.0]).view(1, 3, 1, 1, 1))

    def head(self, x, head, stride):
        n, _, h, w = x.shape
        y = head(x).view(n, 3, 9, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack((columns, rows), 2).view(1, 1, h, w, 2).float()
        return torch.cat([(y[..., :2] * 2 - 0.5 + grid) * stride, (y[..., 2:4] * 2) ** 2 * self.anchors, y[..., 4:]],
                         -1).view(n, -1, 9)

    def forward(self, x):
        a = self.a(x)
        return torch.cat([self.head(a, self.first, 4.0), self.head(self.b(a), self.second, 8.0)], 1)


class Windows(nn.Module):
    """Attention in shifted windows."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(32, 96), nn.Linear(32, 32), nn.LayerNorm(32)
        self.bias = nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1)
        y = torch.roll(self.norm(x), (-2, -2), (1, 2)).view(n, h // 4, 4, w // 4, 4, c)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, 4, 8).permute(2, 0, 3, 1, 4)
        y = ((q * 8**-0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 16, c)).view(n, h // 4, w // 4, 4, 4, c)
        return x + torch.roll(y.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c), (2, 2), (1, 2))


class Words(nn.Module):
    """Embeddings, masks, attention: inputs of integers."""

    def __init__(self):
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(50, 32), nn.Embedding(64, 32), nn.LayerNorm(32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, words, mask):
        x = self.norm(self.words(words) + self.places(torch.arange(words.shape[1])[None]))
        q, k, v = (f(x).view(x.shape[0], x.shape[1], 4, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(2, 3) / 8**0.5 + (1 - mask[:, None, None].float()) * -1e4
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape), x.mean(1)


class Reader(nn.Module):
    """Lines of text: convolutions, then steps in both directions."""

    def __init__(self):
        super().__init__()
        self.a, self.lstm = block(1, 8), nn.LSTM(64, 12, 2, bidirectional=True)
        self.gru, self.head = nn.GRU(24, 10), nn.Linear(10, 11)

    def forward(self, x):
        x = TF.max_pool2d(self.a(x), 2).permute(3, 0, 1, 2).flatten(2)
        return self.head(self.gru(self.lstm(x)[0])[0]).log_softmax(-1)


class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(1, 16, 1)
        self.dilated = nn.ModuleList([nn.Conv1d(16, 32, 2, dilation=2**k) for k in range(4)])

    def forward(self, x):
        x, total = self.first(x), 0
        for k, layer in enumerate(self.dilated):
            y = TF.glu(layer(TF.pad(x, (2**k, 0))), 1)
            total, x = total + y, x + y
        return total


class Mobile(nn.Module):
    """Channels shuffled, squeezed and excited; pixels shuffled."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.se = block(8, 8, 1), block(8, 8, 3, 1, 8, nn.Hardswish), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        y = torch.cat([a, self.b(self.a(b))], 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = y * TF.hardsigmoid(self.se(y.mean((2, 3), keepdim=True)))
        return TF.pixel_shuffle(y, 2), TF.adaptive_avg_pool2d(y, 1).flatten(1)


class Functions(nn.Module):
    def forward(self, x):
        values, places = x.topk(3, -1)
        return (values, places, TF.one_hot(places, 12).float(), x.cumsum(2), x.flip(3), x.std((2, 3)), torch.logsumexp(x, 1),
                x.norm(dim=1), x.clamp(-0.5), torch.where(x > 0, x, x * 2), x.masked_fill(x < 0, -1e4).softmax(-1),
                torch.einsum("nchw,ncdw->nhd", x, x), TF.unfold(x, 3, padding=1), x.gather(3, places), x.argsort(-1),
                torch.erf(x) + torch.atan(x) + torch.floor(x) + torch.round(x) + torch.sign(x), x.repeat(1, 2, 1, 1),
                x[:, [0, 2]], x[..., ::2], x[:, 1:3, None], (x > 0) & (x < 1), torch.fmod(x, 0.7), torch.remainder(x, 0.7),
                TF.pad(x, (1, 2, 3, 1), mode="reflect"), TF.pad(x, (1, -2, 0, 1), value=2.5), TF.local_response_norm(x, 3),
                TF.instance_norm(x), TF.elu(x) + TF.selu(x) + TF.softplus(x) + TF.softsign(x))


class Anchors(nn.Module):
    """A detector without anchors: parts split and joined, sides of boxes as means over bins, scales of strides."""

    def __init__(self):
        super().__init__()
        self.stem, self.a = block(3, 16, 3, 4, act=nn.SiLU), block(16, 32, 1, act=nn.SiLU)
        self.m = block(16, 16, act=nn.SiLU)
        self.down, self.pool = block(48, 32, 3, 2, act=nn.SiLU), block(128, 48, 1, act=nn.SiLU)
        self.heads, self.bins = nn.ModuleList([nn.Conv2d(48, 37, 1), nn.Conv2d(48, 37, 1)]), nn.Conv2d(8, 1, 1, bias=False)
        self.bins.weight.data = torch.arange(8.0).view(1, 8, 1, 1)

    def forward(self, x):
        a, b = self.a(self.stem(x)).chunk(2, 1)
        x = torch.cat([a, b, b + self.m(b)], 1)
        pools = [self.down(x)]
        for _ in range(3):
            pools.append(TF.max_pool2d(pools[-1], 5, 1, 2))
        y = self.pool(torch.cat(pools, 1))
        maps = [head(f) for head, f in zip(self.heads, (x, y), strict=True)]
        places, strides = [], []
        for f, stride in zip(maps, (4.0, 8.0), strict=True):
            h, w = f.shape[2:]
            rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            places.append(torch.stack((columns, rows), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), stride))
        box, scores = torch.cat([f.view(f.shape[0], 37, -1) for f in maps], 2).split((32, 5), 1)
        n, _, count = box.shape
        low, high = self.bins(box.view(n, 4, 8, count).transpose(2, 1).softmax(1)).view(n, 4, count).chunk(2, 1)
        middle = torch.cat(places).transpose(0, 1)[None]
        corners = middle - low, middle + high
        box = torch.cat(((corners[0] + corners[1]) / 2, corners[1] - corners[0]), 1) * torch.cat(strides).transpose(0, 1)
        return torch.cat((box, scores.sigmoid()), 1)


class Peaks(nn.Module):
    """Points: local maxima, the best of them, and what stands there."""

    def __init__(self):
        super().__init__()
        self.body, self.heat, self.size = block(3, 16, 3, 4), nn.Conv2d(16, 3, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        f = self.body(x)
        heat = self.heat(f).sigmoid()
        n, _, h, w = heat.shape
        scores, at = torch.topk((heat * (TF.max_pool2d(heat, 3, 1, 1) == heat).float()).view(n, -1), 6)
        place = at % (h * w)
        size = self.size(f).permute(0, 2, 3, 1).reshape(n, -1, 2).gather(1, place[..., None].expand(n, 6, 2))
        rows = torch.div(place, w, rounding_mode="floor").float()
        return torch.stack([rows, (place % w).float(), size[..., 0], scores], -1)


class Styled(nn.Module):
    """A convolution whose weights follow from an input, one group an image."""

    def __init__(self):
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(8, 6, 3, 3)), nn.Linear(10, 6)

    def forward(self, x, z):
        n, c, h, w = x.shape
        k = self.weight[None] * self.style(z)[:, None, :, None, None]
        k = k * torch.rsqrt(k.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        y = TF.conv2d(x.reshape(1, n * c, h, w), k.reshape(n * 8, c, 3, 3), padding=1, groups=n)
        return TF.leaky_relu(y.reshape(n, 8, h, w), 0.2)


class Speech(nn.Module):
    """Windows of a signal, their spectrum, steps with states that come and go."""

    def __init__(self):
        super().__init__()
        self.basis, self.conv = nn.Parameter(torch.randn(34, 1, 64) / 8), nn.Conv1d(17, 8, 3, 2, 1)
        self.steps, self.out = nn.LSTM(8, 8, 2), nn.Conv1d(8, 1, 1)

    def forward(self, x, h, c):
        x = TF.conv1d(TF.pad(x, (0, 16), mode="reflect")[:, None], self.basis, stride=32)
        x = TF.relu(self.conv(torch.sqrt(x[:, :17] ** 2 + x[:, 17:] ** 2))).permute(2, 0, 1)
        x, (h, c) = self.steps(x, (h, c))
        return self.out(TF.relu(x).permute(1, 2, 0)).sigmoid().mean(2), h, c


class Turned(nn.Module):
    """Attention with positions as rotations, each step behind those before it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.scale = nn.Linear(32, 96), nn.Linear(32, 32), nn.Parameter(torch.randn(32))

    def forward(self, x):
        n, t, _ = x.shape
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        q, k, v = self.qkv(y).view(n, t, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        angles = torch.arange(t).float()[:, None] * (10000 ** -(torch.arange(0, 8, 2).float() / 8))[None]
        turn = angles.cos(), angles.sin()

        def turned(z):
            a, b = z[..., ::2], z[..., 1::2]
            return torch.stack([a * turn[0] - b * turn[1], a * turn[1] + b * turn[0]], -1).flatten(-2)

        y = TF.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(n, t, 32))


def numbers(*shape):
    return torch.randn(*shape)


CASES = [(UNet, (9, 11, 13, 17, 20), {0: "n", 2: "h", 3: "w"}, [[numbers(1, 3, 32, 48)], [numbers(2, 3, 24, 32)]]),
         (Heads, (9, 11, 17), {0: "n", 2: "h", 3: "w"}, [[numbers(1, 3, 64, 64)], [numbers(3, 3, 32, 64)]]),
         (Windows, (9, 13, 20), {0: "n"}, [[numbers(1, 32, 16, 16)], [numbers(3, 32, 16, 16)]]),
         (Words, (9, 13, 20), {0: "n", 1: "t"}, [[torch.randint(0, 50, (2, 9)), (torch.rand(2, 9) < 0.7).long()],
                                                 [torch.randint(0, 50, (1, 17)), torch.ones(1, 17).long()]]),
         (Reader, (9, 13, 20), {0: "n"}, [[numbers(2, 1, 16, 40)], [numbers(1, 1, 16, 40)]]),
         (Waves, (7, 13, 20), {0: "n", 2: "t"}, [[numbers(1, 1, 200)], [numbers(2, 1, 77)]]),
         (Mobile, (9, 13, 20), {0: "n", 2: "h", 3: "w"}, [[numbers(1, 16, 8, 8)], [numbers(2, 16, 7, 9)]]),
         (Functions, (14, 20), {}, [[numbers(2, 4, 10, 12)]]),
         (Anchors, (11, 17, 20), {0: "n", 2: "h", 3: "w"}, [[numbers(1, 3, 64, 64)], [numbers(2, 3, 32, 96)]]),
         (Peaks, (11, 17), {0: "n", 2: "h", 3: "w"}, [[numbers(1, 3, 32, 32)], [numbers(2, 3, 32, 48)]]),
         (Styled, (13, 20), {}, [[numbers(2, 6, 9, 8), numbers(2, 10)]]),
         (Speech, (13, 20), {}, [[numbers(2, 256), numbers(2, 2, 8), numbers(2, 2, 8)]]),
         (Turned, (17, 20), {0: "n", 1: "t"}, [[numbers(2, 6, 32)], [numbers(1, 9, 32)]])]


@pytest.mark.parametrize(("kind", "opset", "axes", "given"),
                         [pytest.param(k, o, a, g, id=f"{k.__name__}-{o}") for k, sets, a, g in CASES for o in sets])
def test_the_same_outputs(kind, opset, axes, given, tmp_path):
    net = kind().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    names, file = [f"x{i}" for i in range(len(given[0]))], io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, tuple(given[0]), file, dynamo=False, opset_version=opset, input_names=names,
                          dynamic_axes={n: axes for n in names} if axes else None)
    path = tmp_path / "net.onnx"
    path.write_bytes(file.getvalue())
    read = fc.load(path).eval()
    fc.save(read, tmp_path / "again.onnx")
    sessions = [onnxruntime.InferenceSession(str(tmp_path / "again.onnx"), providers=["CPUExecutionProvider"])] \
        if onnxruntime is not None and opset > 7 else []
    for inputs in given:
        with torch.no_grad():
            want = net(*inputs)
        want = [t.numpy() for t in (want if isinstance(want, tuple) else (want,))]
        arrays = [t.numpy() for t in inputs]
        shapes = {n: (a.shape, a.dtype.name) for n, a in zip(names, arrays, strict=True)}
        compiled = fc.compile(read, shapes)(*arrays)
        written = [session.run(None, dict(zip(names, arrays, strict=True))) for session in sessions]
        for got in (read.run(*arrays), compiled if isinstance(compiled, tuple) else (compiled,), *written):
            assert len(got) == len(want)
            for a, b in zip(got, want, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1e-6, np.abs(b).max(initial=0)))

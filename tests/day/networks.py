"""Networks as people write them for PyTorch, from the published descriptions (named at each), in one file that differs
between the two libraries by its import lines alone: ``{imports}`` is replaced before it is run."""

SOURCE = '''
{imports}


class DoubleConv(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015), with GroupNorm."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(4, outputs),
                                   nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                                   nn.GroupNorm(4, outputs), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.block(x)


class UNet(nn.Module):
    def __init__(self, inputs=3, classes=2, width=8):
        super().__init__()
        self.inc, self.down1 = DoubleConv(inputs, width), DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1, self.up2 = DoubleConv(6 * width, 2 * width), DoubleConv(3 * width, width)
        self.outc = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        a = self.inc(x)
        b = self.down1(F.max_pool2d(a, 2))
        c = self.down2(F.max_pool2d(b, 2))
        y = F.interpolate(c, scale_factor=2, mode="bilinear", align_corners=True)
        diff_y, diff_x = b.size(2) - y.size(2), b.size(3) - y.size(3)
        y = F.pad(y, [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2])
        y = self.up1(torch.cat([b, y], dim=1))
        y = F.interpolate(y, size=a.shape[2:], mode="nearest")
        return self.outc(self.up2(torch.cat((a, y), 1)))


class LayerNorm2d(nn.Module):
    """ConvNeXt (Liu et al. 2022): over the channels of each pixel."""

    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x):
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim=16, layer_scale=1e-1):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, dim, 4, stride=4), LayerNorm2d(dim)
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim), requires_grad=True)

    def forward(self, x):
        x = self.first(self.stem(x))
        shortcut = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)
        x = self.norm(x)
        x = self.pwconv1(x)
        x = self.act(x)
        x = self.pwconv2(x)
        x = self.gamma * x
        x = x.permute(0, 3, 1, 2)
        return shortcut + x


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu, Shen, Sun 2018)."""

    def __init__(self, channels=16, reduction=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.fc = nn.Sequential(nn.Linear(channels, channels // reduction), nn.ReLU(inplace=True),
                                nn.Linear(channels // reduction, channels), nn.Sigmoid())

    def forward(self, x):
        x = self.conv(x)
        b, c, _, _ = x.size()
        gate = self.fc(x.mean((2, 3)))
        y = x.view(b, c, -1).mean(-1)
        return x * gate[:, :, None, None] + x * gate.view(b, c, 1, 1).expand_as(x) / 2 - y[:, :, None, None]


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al. 2018)."""

    def __init__(self, channels=16):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1, stride=2)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels))
        self.spatial = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x):
        x = F.leaky_relu(self.conv(x), 0.1)
        average = F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
        largest = F.adaptive_max_pool2d(x, 1)
        scale = torch.sigmoid(self.mlp(average) + self.mlp(largest)).unsqueeze(2).unsqueeze(3)
        x = x * scale
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class Attention(nn.Module):
    """Vision Transformer (Dosovitskiy et al. 2021)."""

    def __init__(self, dim, heads=4):
        super().__init__()
        self.num_heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        attn = attn.softmax(dim=-1)
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class ViT(nn.Module):
    def __init__(self, image=16, patch=4, dim=32, classes=5):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.ones(1, 1 + (image // patch) ** 2, dim) * 0.02)
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), Attention(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.0), nn.Linear(4 * dim, dim))
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls, x), dim=1) + self.pos_embed
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class GatedBlock(nn.Module):
    """WaveNet (van den Oord et al. 2016): dilated causal convolutions with gates, residual and skip outputs."""

    def __init__(self, channels, dilation):
        super().__init__()
        self.pad = dilation
        self.conv = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.res, self.skip = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(F.pad(x, (self.pad, 0)))
        a, b = y.chunk(2, dim=1)
        y = torch.tanh(a) * torch.sigmoid(b)
        return x + self.res(y), self.skip(y)


class WaveNet(nn.Module):
    def __init__(self, channels=8, classes=6):
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.blocks = nn.ModuleList([GatedBlock(channels, 2 ** i) for i in range(4)])
        self.last = nn.Conv1d(channels, classes, 1)

    def forward(self, x):
        x, total = self.first(x), 0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.last(F.relu(total)).log_softmax(1)


class ChannelShuffle(nn.Module):
    """ShuffleNet v2's unit (Ma et al. 2018): split, depthwise branch, concatenation, shuffle."""

    def __init__(self, channels=16):
        super().__init__()
        half = channels // 2
        self.first = nn.Conv2d(3, channels, 3, 2, 1)
        self.branch = nn.Sequential(nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
                                    nn.Conv2d(half, half, 3, padding=1, groups=half), nn.BatchNorm2d(half),
                                    nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.first(x)
        x1, x2 = x.chunk(2, dim=1)
        out = torch.cat((x1, self.branch(x2)), dim=1)
        n, c, h, w = out.size()
        out = out.view(n, 2, c // 2, h, w)
        out = torch.transpose(out, 1, 2).contiguous()
        return out.view(n, -1, h, w)


class SuperResolution(nn.Module):
    """Sub-pixel convolution (Shi et al. 2016)."""

    def __init__(self, factor=3):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2)), nn.Conv2d(16, 8, 3, 1, 1)
        self.conv3, self.shuffle = nn.Conv2d(8, factor ** 2, 3, 1, 1), nn.PixelShuffle(factor)
        self.factor = factor

    def forward(self, x):
        y = torch.tanh(self.conv1(x))
        y = torch.tanh(self.conv2(y))
        y = self.shuffle(self.conv3(y))
        return (y + F.interpolate(x, scale_factor=self.factor, mode="bicubic", align_corners=False)).clamp(0.0, 1.0)


class HardBlock(nn.Module):
    """MobileNet v3's block (Howard et al. 2019)."""

    def __init__(self, channels=12, expand=24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels, momentum=0.01),
                                  nn.Hardswish(inplace=True))
        self.expand, self.bn1 = nn.Conv2d(channels, expand, 1, bias=False), nn.BatchNorm2d(expand, eps=0.001)
        self.depth = nn.Conv2d(expand, expand, 5, padding=2, groups=expand, bias=False)
        self.squeeze, self.excite = nn.Conv2d(expand, 8, 1), nn.Conv2d(8, expand, 1)
        self.project = nn.Conv2d(expand, channels, 1, bias=False)

    def forward(self, x):
        x = self.stem(x)
        y = F.hardswish(self.bn1(self.expand(x)))
        y = self.depth(y)
        s = F.adaptive_avg_pool2d(y, 1)
        s = F.hardsigmoid(self.excite(F.relu(self.squeeze(s))))
        return x + self.project(F.hardswish(y * s))


class FeaturePyramid(nn.Module):
    """Feature pyramid (Lin et al. 2017): three levels in, a dict of three out."""

    def __init__(self, width=8):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 24, 3, 2, 1)
        self.inner = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (8, 16, 24)])
        self.layer = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(3)])

    def forward(self, x):
        features = []
        for conv in (self.c1, self.c2, self.c3):
            x = F.relu(conv(x))
            features.append(x)
        last, results = None, {}
        for i in (2, 1, 0):
            y = self.inner[i](features[i])
            if last is not None:
                y = y + F.interpolate(last, size=y.shape[-2:], mode="nearest")
            last = y
            results["p%d" % i] = self.layer[i](y)
        return results


class NonLocal(nn.Module):
    """Non-local block (Wang et al. 2018)."""

    def __init__(self, channels=8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, 2, 1)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        self.W = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x):
        x = self.first(x)
        batch, inner = x.size(0), self.theta.out_channels
        g = self.g(x).view(batch, inner, -1).permute(0, 2, 1)
        theta = self.theta(x).view(batch, inner, -1).permute(0, 2, 1)
        phi = self.phi(x).view(batch, inner, -1)
        f = F.softmax(torch.matmul(theta, phi), dim=-1)
        y = torch.matmul(f, g).permute(0, 2, 1).contiguous().view(batch, inner, *x.size()[2:])
        return self.W(y) + x


class TwoInputs(nn.Module):
    """FiLM (Perez et al. 2018): a picture and a vector in, a picture and a score out; constants of one's own."""

    def __init__(self, channels=8, extra=5):
        super().__init__()
        self.conv, self.film = nn.Conv2d(3, channels, 3, padding=1), nn.Linear(extra, 2 * channels)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.register_buffer("weights", torch.ones(channels) / 3)
        self.score = nn.Linear(channels, 1)

    def forward(self, x, z):
        mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
        std = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
        x = self.norm(self.conv((x - constant(mean)) / constant(std)))
        gamma, beta = self.film(z).chunk(2, dim=1)
        x = F.elu(x * (1 + gamma.unsqueeze(-1).unsqueeze(-1)) + beta[..., None, None])
        pooled = (x * self.weights.view(1, -1, 1, 1)).flatten(2).amax(2)
        return x[:, :4, ::2, 1:-1], self.score(pooled).squeeze(-1)


class RecurrentConv(nn.Module):
    """A recurrent convolution (Liang, Hu 2015), unrolled; one layer used several times."""

    def __init__(self, channels=6, steps=4):
        super().__init__()
        self.inp, self.conv = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.steps = steps
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        x = self.inp(x)
        state = torch.zeros_like(x)
        for _ in range(self.steps):
            state = F.softplus(self.conv(state) + x) - 0.5
        return self.head(state.mean(dim=[-2, -1]))


class WindowAttention(nn.Module):
    """Swin's window attention (Liu et al. 2021), with a cyclic shift and a mask-free relative bias."""

    def __init__(self, dim=16, window=4, heads=2):
        super().__init__()
        self.window, self.heads = window, heads
        self.embed, self.qkv = nn.Conv2d(3, dim, 2, 2), nn.Linear(dim, 3 * dim, bias=False)
        self.bias = nn.Parameter(torch.ones(heads, window * window, window * window) / 7)
        self.norm, self.proj = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        shortcut = x
        x = torch.roll(self.norm(x), shifts=(-2, -2), dims=(1, 2))
        B, H, W, C = x.shape
        w = self.window
        x = x.view(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, w * w, C)
        q, k, v = self.qkv(x).view(x.shape[0], w * w, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attn = torch.softmax(q @ k.transpose(-2, -1) / (C // self.heads) ** 0.5 + self.bias.unsqueeze(0), dim=-1)
        x = self.proj((attn @ v).transpose(1, 2).reshape(-1, w * w, C))
        x = x.view(B, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        return shortcut + torch.roll(x, shifts=(2, 2), dims=(1, 2))


class Ghost(nn.Module):
    """Many small things: split, stack, min and max, where, comparisons, powers, normalisation to unit length."""

    def __init__(self, channels=12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, channels, 3, padding="same", padding_mode="reflect"), nn.PReLU(12)
        self.alpha = nn.Parameter(torch.full((1,), 0.3))

    def forward(self, x):
        x = self.b(self.a(x))
        p, q, r = torch.split(x, [4, 4, 4], dim=1)
        s = torch.stack((p, q, r), dim=2).sum(2)
        t = torch.where(s > 0, s, self.alpha * s)
        u = F.normalize(t, p=2, dim=1) + torch.maximum(p, q) - torch.min(q, r)
        v = (u ** 2 + 1e-3).sqrt() / (1 + abs(u)) - 1 / (2 + u.exp())
        v = v.reshape(v.shape[0], 2, 2, -1).std(dim=-1).flatten(1)
        return v, u.argmax(1), (u > 0.5).float().mean(dim=(1, 2, 3))
'''

NETWORKS = {  # name: shapes of the inputs
    "UNet": [(2, 3, 18, 22)], "ConvNeXtBlock": [(2, 3, 16, 24)], "SqueezeExcite": [(3, 3, 9, 7)], "CBAM": [(2, 3, 12, 10)],
    "ViT": [(2, 3, 16, 16)], "WaveNet": [(2, 1, 50)], "ChannelShuffle": [(2, 3, 12, 12)], "SuperResolution": [(2, 1, 9, 8)],
    "HardBlock": [(3, 3, 16, 16)], "FeaturePyramid": [(2, 3, 32, 24)], "NonLocal": [(2, 3, 12, 10)],
    "TwoInputs": [(2, 3, 12, 10), (2, 5)], "RecurrentConv": [(2, 3, 9, 8)], "WindowAttention": [(2, 3, 16, 16)],
    "Ghost": [(2, 3, 12, 10)]}

THEIRS = ("import numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n"
          "constant = torch.from_numpy")
OURS = ("import numpy as np\nimport fastconv as torch\nimport fastconv.functional as F\nfrom fastconv import Tensor, nn\n"
        "constant = lambda a: a")


def load(source: str, imports: str) -> dict:
    """The classes, made with these import lines."""
    names: dict = {}
    exec(source.replace("{imports}", imports), names)
    return names

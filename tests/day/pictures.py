"""More networks over pictures: backbones, heads and necks of detectors and segmenters, as `networks.py` has them."""

SOURCE = '''
{imports}
import math
from collections import OrderedDict
from functools import partial


class BasicConv2d(nn.Module):
    def __init__(self, in_planes, out_planes, kernel_size, stride, padding=0):
        super(BasicConv2d, self).__init__()
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size=kernel_size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_planes, eps=0.001, momentum=0.1, affine=True)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x)
        x = self.relu(x)
        return x


class InceptionResNetB(nn.Module):
    def __init__(self, c=12, scale=0.17):
        super().__init__()
        self.scale = scale
        self.stem = BasicConv2d(3, c, 3, 2)
        self.branch0 = BasicConv2d(c, 8, kernel_size=1, stride=1)
        self.branch1 = nn.Sequential(
            BasicConv2d(c, 6, kernel_size=1, stride=1),
            BasicConv2d(6, 7, kernel_size=(1, 7), stride=1, padding=(0, 3)),
            BasicConv2d(7, 8, kernel_size=(7, 1), stride=1, padding=(3, 0)))
        self.conv2d = nn.Conv2d(16, c, kernel_size=1, stride=1)
        self.relu = nn.ReLU(inplace=False)
        self.avgpool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.last_linear = nn.Linear(c, 5)

    def logits(self, features):
        x = nn.functional.adaptive_avg_pool2d(features, (1, 1))
        x = x.view(x.size(0), -1)
        return self.last_linear(x)

    def forward(self, x):
        x = self.stem(x)
        x0 = self.branch0(x)
        x1 = self.branch1(x)
        out = torch.cat((x0, x1), 1)
        out = self.conv2d(out)
        out = out * self.scale + x
        out = self.relu(out)
        out = self.avgpool(out)
        return self.logits(out)


class SEModule(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, kernel_size=1, padding=0)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(channels // reduction, channels, kernel_size=1, padding=0)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        module_input = x
        x = self.avg_pool(x)
        x = self.fc1(x)
        x = self.relu(x)
        x = self.fc2(x)
        x = self.sigmoid(x)
        return module_input * x


class SEResNeXtBottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes=8, planes=8, groups=4, reduction=4, stride=2, base_width=4):
        super().__init__()
        width = math.floor(planes * (base_width / 8)) * groups
        self.conv0 = nn.Conv2d(3, inplanes, 3, padding=1)
        self.conv1 = nn.Conv2d(inplanes, width, kernel_size=1, bias=False, stride=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * 4, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.se_module = SEModule(planes * 4, reduction=reduction)
        self.downsample = nn.Sequential(OrderedDict([("pool", nn.MaxPool2d(3, stride=stride, ceil_mode=True)),
                                                     ("conv", nn.Conv2d(inplanes, planes * 4, 1, bias=False)),
                                                     ("bn", nn.BatchNorm2d(planes * 4))]))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.conv0(x)
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        out = self.bn2(out)
        out = self.relu(out)
        out = self.conv3(out)
        out = self.bn3(out)
        if self.downsample is not None:
            residual = self.downsample(residual)
        residual = residual[:, :, :out.shape[2], :out.shape[3]]
        out = self.se_module(out)
        out = out[..., :residual.size(2), :residual.size(3)] + residual
        out = self.relu(out)
        return out


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class SeparableConvBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride=1, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(num_features=channels, momentum=0.01, eps=1e-3)

    def forward(self, x):
        return self.bn(self.pointwise(self.depthwise(x)))


class BiFPN(nn.Module):
    def __init__(self, num_channels=8, epsilon=1e-4):
        super().__init__()
        self.epsilon = epsilon
        self.c = nn.ModuleList([nn.Conv2d(3, num_channels, 3, stride=2 ** (i + 1), padding=1) for i in range(3)])
        self.conv4_up, self.conv3_up = SeparableConvBlock(num_channels), SeparableConvBlock(num_channels)
        self.conv4_down, self.conv5_down = SeparableConvBlock(num_channels), SeparableConvBlock(num_channels)
        self.p4_upsample = nn.Upsample(scale_factor=2, mode='nearest')
        self.p4_downsample = nn.MaxPool2d(3, 2, 1)
        self.p4_w1 = nn.Parameter(torch.ones(2, dtype=torch.float32), requires_grad=True)
        self.p4_w1_relu = nn.ReLU()
        self.p3_w1 = nn.Parameter(torch.ones(2, dtype=torch.float32), requires_grad=True)
        self.p4_w2 = nn.Parameter(torch.ones(3))
        self.swish = Swish()

    def forward(self, inp):
        p3, p4, p5 = [conv(inp) for conv in self.c]
        p4_w1 = self.p4_w1_relu(self.p4_w1)
        weight = p4_w1 / (torch.sum(p4_w1, dim=0) + self.epsilon)
        p4_td = self.conv4_up(self.swish(weight[0] * p4 + weight[1] * self.p4_upsample(p5)))
        w = F.relu(self.p3_w1)
        w = w / (w.sum() + self.epsilon)
        p3_out = self.conv3_up(self.swish(w[0] * p3 + w[1] * F.interpolate(p4_td, scale_factor=2.0)))
        w2 = torch.relu(self.p4_w2)
        w2 = w2 / (torch.sum(w2, dim=0) + self.epsilon)
        p4_out = self.conv4_down(self.swish(w2[0] * p4 + w2[1] * p4_td + w2[2] * self.p4_downsample(p3_out)))
        return p3_out, p4_out, self.conv5_down(self.swish(p5 + F.avg_pool2d(p4_out, 2)))


class Dilated(nn.Sequential):
    def __init__(self, inputs, outputs, rate):
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())


class Pooled(nn.Sequential):
    """A Sequential whose forward goes through itself."""

    def __init__(self, inputs, outputs):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())

    def forward(self, x):
        height, width = x.shape[-2:]
        for layer in self:
            x = layer(x)
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017)."""

    def __init__(self, inputs, rates, outputs=8):
        super().__init__()
        branches = [nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())]
        branches += [Dilated(inputs, outputs, rate) for rate in rates]
        branches.append(Pooled(inputs, outputs))
        self.branches = nn.ModuleList(branches)
        self.join = nn.Sequential(nn.Conv2d(len(self.branches) * outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
                                  nn.ReLU(), nn.Dropout(0.0))

    def forward(self, x):
        found = []
        for branch in self.branches:
            found.append(branch(x))
        return self.join(torch.cat(found, dim=1))


class DeepLabV3(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 12, 3, 2, 1), relu=nn.ReLU(inplace=True)))
        self.classifier = nn.Sequential(ASPP(12, [2, 4]), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
                                        nn.ReLU(), nn.Conv2d(8, classes, 1))

    def forward(self, x):
        input_shape = x.shape[-2:]
        features = self.backbone(x)
        result = OrderedDict()
        y = self.classifier(features)
        y = F.interpolate(y, size=input_shape, mode="bilinear", align_corners=False)
        result["out"] = y
        return result


def windows_of(x, size):
    n, height, width, channels = x.shape
    x = x.view(n, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, channels)


def from_windows(windows, size, height, width):
    n = int(windows.shape[0] / (height * width / size / size))
    x = windows.view(n, height // size, width // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(n, height, width, -1)


class SwinBlock(nn.Module):
    """Swin's block with a shift (Liu et al. 2021): table of relative biases, mask of what the shift joins."""

    def __init__(self, dim=12, heads=3, window=4, shift=2, size=8):
        super().__init__()
        self.window, self.shift, self.heads, self.scale = window, shift, heads, (dim // heads) ** -0.5
        self.patch = nn.Conv2d(3, dim, 2, 2)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        places = torch.stack(torch.meshgrid([torch.arange(window), torch.arange(window)], indexing="ij"))
        places = torch.flatten(places, 1)
        apart = places[:, :, None] - places[:, None, :]
        apart = apart.permute(1, 2, 0).contiguous()
        apart[:, :, 0] += window - 1
        apart[:, :, 1] += window - 1
        apart[:, :, 0] *= 2 * window - 1
        self.register_buffer("apart", apart.sum(-1))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj, self.softmax = nn.Linear(dim, dim * 3, bias=True), nn.Linear(dim, dim), nn.Softmax(dim=-1)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(approximate="tanh"), nn.Linear(2 * dim, dim))
        regions, count = torch.zeros((1, size, size, 1)), 0
        for rows in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
            for columns in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
                regions[:, rows, columns, :] = count
                count += 1
        regions = windows_of(regions, window).squeeze(-1)
        mask = regions.unsqueeze(1) - regions.unsqueeze(2)
        self.register_buffer("mask", mask.masked_fill(mask != 0, float(-100.0)).masked_fill(mask == 0, float(0.0)))

    def attention(self, x, mask):
        n, count, channels = x.shape
        q, k, v = self.qkv(x).reshape(n, count, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.table[self.apart.view(-1)].view(self.window * self.window, self.window * self.window, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        windows = mask.shape[0]
        scores = scores.view(n // windows, windows, self.heads, count, count) + mask.unsqueeze(1).unsqueeze(0)
        scores = self.softmax(scores.view(-1, self.heads, count, count))
        return self.proj((scores @ v).transpose(1, 2).reshape(n, count, channels))

    def forward(self, x):
        x = self.patch(x)
        height, width = x.shape[2], x.shape[3]
        x = x.flatten(2).transpose(1, 2)
        n, length, channels = x.shape
        assert length == height * width, "another size"
        y = torch.roll(self.norm1(x).view(n, height, width, channels), shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = from_windows(self.attention(windows_of(y, self.window), self.mask), self.window, height, width)
        y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y.view(n, height * width, channels)
        return x + self.mlp(self.norm2(x))


class DenseLayer(nn.Module):
    def __init__(self, num_input_features, growth_rate, bn_size, drop_rate=0.0):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(num_input_features)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(num_input_features, bn_size * growth_rate, kernel_size=1, stride=1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, kernel_size=3, stride=1, padding=1, bias=False)
        self.drop_rate = float(drop_rate)

    def forward(self, input):
        prev_features = [input] if isinstance(input, Tensor) else input
        bottleneck_output = self.conv1(self.relu1(self.norm1(torch.cat(prev_features, 1))))
        new_features = self.conv2(self.relu2(self.norm2(bottleneck_output)))
        if self.drop_rate > 0:
            new_features = F.dropout(new_features, p=self.drop_rate, training=self.training)
        return new_features


class DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers=3, num_input_features=6, bn_size=2, growth_rate=4):
        super().__init__()
        for i in range(num_layers):
            self.add_module("denselayer%d" % (i + 1), DenseLayer(num_input_features + i * growth_rate, growth_rate, bn_size))

    def forward(self, init_features):
        features = [init_features]
        for name, layer in self.items():
            new_features = layer(features)
            features.append(new_features)
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(OrderedDict([("conv0", nn.Conv2d(3, 6, 7, 2, 3, bias=False)),
                                                   ("norm0", nn.BatchNorm2d(6)),
                                                   ("relu0", nn.ReLU(inplace=True)), ("pool0", nn.MaxPool2d(3, 2, 1))]))
        self.features.add_module("denseblock1", DenseBlock())
        self.features.add_module("norm5", nn.BatchNorm2d(18))
        self.classifier = nn.Linear(18, 4)

    def forward(self, x):
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


class Darknet(nn.Module):
    """YOLO head with grid decoding."""

    def __init__(self, classes=3):
        super().__init__()
        self.nc, self.no, self.na = classes, classes + 5, 2
        self.register_buffer("anchor_grid", torch.tensor([[10.0, 13.0], [16.0, 30.0]]).view(1, 2, 1, 1, 2))
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.pred = nn.Conv2d(8, self.no * self.na, 1)

    def forward(self, x):
        x = self.pred(self.conv(x))
        bs, _, ny, nx = x.shape
        x = x.view(bs, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
        yv, xv = torch.meshgrid([torch.arange(ny), torch.arange(nx)], indexing="ij")
        grid = torch.stack((xv, yv), 2).reshape(1, 1, ny, nx, 2)
        y = x.sigmoid()
        xy = (y[..., 0:2] * 2. - 0.5 + grid) * 4.0
        wh = (y[..., 2:4] * 2) ** 2 * self.anchor_grid
        y = torch.cat((xy, wh, y[..., 4:]), -1)
        return x, y.view(bs, -1, self.no)


class ResUnetAttention(nn.Module):
    """Attention gate (Oktay et al. 2018), transposed convolutions, Upsample, odd sizes."""

    def __init__(self, c=6):
        super().__init__()
        self.e1 = nn.Sequential(nn.Conv2d(1, c, 3, padding=1), nn.InstanceNorm2d(c),
                                nn.LeakyReLU(negative_slope=0.01, inplace=True))
        self.e2 = nn.Sequential(nn.Conv2d(c, 2 * c, 3, padding=1), nn.InstanceNorm2d(2 * c), nn.LeakyReLU(0.01))
        self.up = nn.ConvTranspose2d(2 * c, c, kernel_size=2, stride=2)
        self.W_g = nn.Conv2d(c, 3, 1)
        self.W_x = nn.Conv2d(c, 3, 1, bias=False)
        self.psi = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Sigmoid())
        self.out = nn.Conv2d(2 * c, 2, 1)
        self.upsample = nn.Upsample(size=(20, 24), mode="bilinear", align_corners=True)

    def forward(self, x):
        e1 = self.e1(x)
        e2 = self.e2(F.max_pool2d(e1, kernel_size=2, stride=2))
        d = self.up(e2)
        if d.shape != e1.shape:
            d = F.pad(d, [0, e1.shape[-1] - d.shape[-1], 0, e1.shape[-2] - d.shape[-2]], mode="replicate")
        att = self.psi(F.relu(self.W_g(d) + self.W_x(e1)))
        y = self.out(torch.cat([e1 * att, d], dim=1))
        return torch.softmax(self.upsample(y), dim=1)


class CoordConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3 + 3, 4, 3, padding=1)

    def forward(self, x):
        batch_size, _, y_dim, x_dim = x.shape
        xx = torch.linspace(-1, 1, x_dim).view(1, 1, 1, -1).expand(batch_size, 1, y_dim, x_dim)
        yy = torch.linspace(-1, 1, y_dim)[None, None, :, None].repeat(batch_size, 1, 1, x_dim)
        rr = torch.sqrt(torch.pow(xx - 0.5, 2) + torch.pow(yy - 0.5, 2))
        ret = torch.cat([x, xx.type_as(x), yy.to(x.dtype), rr], dim=1)
        return self.conv(ret)


class EfficientAttention(nn.Module):
    """ECA, coordinate attention, GeM pooling, learned temperature, LayerScale, stochastic pieces off."""

    def __init__(self, c=12):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding="same")
        self.eca = nn.Conv1d(1, 1, kernel_size=3, padding=1, bias=False)
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.c1, self.ch, self.cw = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1), nn.Conv2d(4, c, 1)
        self.p = nn.Parameter(torch.ones(1) * 3)
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))
        self.proto = nn.Parameter(torch.randn(5, c))

    def forward(self, x):
        x = self.conv(x)
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.eca(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        x = x * y.sigmoid().expand_as(x)
        n, c, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        y = F.hardswish(self.c1(torch.cat([x_h, x_w], dim=2)))
        x_h, x_w = torch.split(y, [h, w], dim=2)
        x_w = x_w.permute(0, 1, 3, 2)
        x = x * self.ch(x_h).sigmoid() * self.cw(x_w).sigmoid()
        g = F.avg_pool2d(x.clamp(min=1e-6).pow(self.p), (x.size(-2), x.size(-1))).pow(1. / self.p).flatten(1)
        g = g / g.norm(dim=-1, keepdim=True)
        proto = self.proto / self.proto.norm(dim=-1, keepdim=True)
        logits = self.logit_scale.exp().clamp(max=100) * g @ proto.t()
        return logits, logits.topk(2, dim=1)[1]


class InvertedResidual3D(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 6, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(6)
        self.pool = nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.dw = nn.Conv3d(6, 6, 3, padding=1, groups=6)
        self.gn = nn.GroupNorm(num_groups=3, num_channels=6)
        self.up = nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = self.pool(F.relu6(self.bn1(self.conv1(x))))
        x = x + F.mish(self.gn(self.dw(x)))
        y = self.up(x)
        return self.fc(x.mean([-1, -2, -3])), y.amax(dim=(2,), keepdim=False)
'''

NETWORKS = {  # name: shapes of the inputs; of integers with what they are below
    "InceptionResNetB": [(2, 3, 19, 17)],
    "SEResNeXtBottleneck": [(2, 3, 13, 11)],
    "BiFPN": [(2, 3, 16, 24)],
    "DeepLabV3": [(3, 3, 21, 18)],
    "SwinBlock": [(2, 3, 16, 16)],
    "DenseNet": [(2, 3, 33, 29)],
    "Darknet": [(2, 3, 16, 20)],
    "ResUnetAttention": [(2, 1, 11, 13)],
    "CoordConv": [(2, 3, 7, 6)],
    "EfficientAttention": [(2, 3, 9, 8)],
    "InvertedResidual3D": [(2, 1, 4, 14, 12)]}

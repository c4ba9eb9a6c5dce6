"""MobileNet: version 1 (Howard et al., 2017) and version 2 (Sandler et al., 2018, with torchvision's module names)."""

from __future__ import annotations

from collections.abc import Callable

from fastconv import nn
from fastconv.zoo.registry import network


def _block(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1,
           activation: Callable[..., nn.Module] = nn.ReLU6) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups,
                                   bias=False), nn.BatchNorm2d(out_channels), activation(inplace=True))


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


class MobileNetV1(nn.Module):
    """Depthwise 3x3 and pointwise convolutions in turn."""

    STRIDES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        layers = [_block(in_channels, 32, 3, 2, activation=nn.ReLU)]
        channels = 32
        for out, stride in self.STRIDES:
            layers += [_block(channels, channels, 3, stride, channels, nn.ReLU),
                       _block(channels, out, 1, activation=nn.ReLU)]
            channels = out
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class InvertedResidual(nn.Module):
    """Widen by 1x1, convolve depthwise, narrow by 1x1 without an activation; a shortcut where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int):
        super().__init__()
        hidden = in_channels * expand_ratio
        layers: list[nn.Module] = [] if expand_ratio == 1 else [_block(in_channels, hidden, 1)]
        self.conv = nn.Sequential(*layers, _block(hidden, hidden, 3, stride, hidden),
                                  nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Inverted residuals."""

    # expansion, channels, blocks, stride of the first block
    SETTING = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
               (6, 320, 1, 1))

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2):
        super().__init__()
        layers: list[nn.Module] = [_block(in_channels, 32, 3, 2)]
        channels = 32
        for expand_ratio, out, blocks, stride in self.SETTING:
            for i in range(blocks):
                layers.append(InvertedResidual(channels, out, 1 if i else stride, expand_ratio))
                channels = out
        layers.append(_block(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        _initialise(self)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@network
def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3) -> MobileNetV1:
    """MobileNet, version 1."""
    return MobileNetV1(num_classes, in_channels)


@network
def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3) -> MobileNetV2:
    """MobileNet, version 2."""
    return MobileNetV2(num_classes, in_channels)

"""ResNet (He et al., 2016; the stride sits in the 3x3 convolution), with torchvision's module names."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv import nn
from fastconv.zoo.registry import network


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions of 3x3 and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as many channels come out."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, 4 * channels, 1)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNet(nn.Module):
    """A stem, four stages of blocks, global average pooling and one Linear.

    Parameters
    ----------
    block : class
        :class:`BasicBlock` or :class:`Bottleneck`.
    layers : sequence of 4 int
        Blocks per stage.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: Sequence[int], num_classes: int = 1000,
                 in_channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for i, blocks in enumerate(layers):
            width = 64 << i
            stage = []
            for j in range(blocks):
                stride = 2 if i and not j else 1
                downsample = None
                if stride != 1 or channels != width * block.expansion:
                    downsample = nn.Sequential(_conv(channels, width * block.expansion, 1, stride),
                                               nn.BatchNorm2d(width * block.expansion))
                stage.append(block(channels, width, stride, downsample))
                channels = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


@network
def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 18 layers."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


@network
def resnet34(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 34 layers."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels)


@network
def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 50 layers."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


@network
def resnet101(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 101 layers."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels)

"""VGG (Simonyan and Zisserman, 2015), with torchvision's module names."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv import nn
from fastconv.zoo.registry import network

CONFIGURATIONS: dict[int, tuple[int | str, ...]] = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    13: (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    19: (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"),
}


class VGG(nn.Module):
    """Convolutions of 3x3, five poolings, three Linears; for images of 224x224 or larger.

    Parameters
    ----------
    configuration : sequence
        Output channels of each convolution, "M" for a pooling.
    batch_norm : bool
        Whether every convolution is followed by BatchNorm.
    """

    def __init__(self, configuration: Sequence[int | str], batch_norm: bool = False, num_classes: int = 1000,
                 in_channels: int = 3, dropout: float = 0.5):
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for entry in configuration:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(nn.Conv2d(channels, int(entry), 3, padding=1))
            channels = int(entry)
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU(inplace=True))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(4096, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@network
def vgg11(num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """VGG with 11 layers."""
    return VGG(CONFIGURATIONS[11], batch_norm, num_classes, in_channels)


@network
def vgg13(num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """VGG with 13 layers."""
    return VGG(CONFIGURATIONS[13], batch_norm, num_classes, in_channels)


@network
def vgg16(num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """VGG with 16 layers."""
    return VGG(CONFIGURATIONS[16], batch_norm, num_classes, in_channels)


@network
def vgg19(num_classes: int = 1000, in_channels: int = 3, batch_norm: bool = False) -> VGG:
    """VGG with 19 layers."""
    return VGG(CONFIGURATIONS[19], batch_norm, num_classes, in_channels)

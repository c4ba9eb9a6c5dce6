"""LeNet-5 (LeCun et al., 1998), with ReLU and max pooling."""

from __future__ import annotations

from fastconv import nn
from fastconv.zoo.registry import network


@network
def lenet5(num_classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """For images of 32x32: two convolutions of 5x5 with pooling, then 120, 84 and ``num_classes`` features."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes))

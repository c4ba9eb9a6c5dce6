"""The convolutions of five networks: each distinct shape once, with the number of times the network has it.

Sources: LeNet-5 (LeCun et al., 1998; images of 32x32, every filter of conv2 sees all six maps), AlexNet (Krizhevsky,
2014, "One weird trick", as torchvision builds it), VGG-16 (Simonyan and Zisserman, 2015), ResNet-50 (He et al., 2016,
with the stride in the 3x3 convolution, as torchvision builds it), MobileNet v1 (Howard et al., 2017). Images of 224x224
but for LeNet-5. A test derives the same tables from fastconv.zoo.
"""

from __future__ import annotations

from typing import NamedTuple


class Conv(NamedTuple):
    """One convolution over square images, dilation 1."""

    network: str
    layer: str
    count: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int
    padding: int
    groups: int

    @property
    def output(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def first(self) -> bool:
        """Whether it reads the image: no training step computes the gradient of that."""
        return self.channels in (1, 3)

    def multiply_adds(self, batch: int) -> int:
        """The same for each of the three passes."""
        return batch * self.output**2 * self.filters * (self.channels // self.groups) * self.kernel**2

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"{self.size}x{self.size} {self.channels}->{self.filters} {self.kernel}x{self.kernel}{stride}{groups}"


# layer, count, channels, size, filters, kernel, stride, padding, groups
_TABLES = {
    "lenet5": [
        ("conv1", 1, 1, 32, 6, 5, 1, 0, 1),
        ("conv2", 1, 6, 14, 16, 5, 1, 0, 1),
    ],
    "alexnet": [
        ("conv1", 1, 3, 224, 64, 11, 4, 2, 1),
        ("conv2", 1, 64, 27, 192, 5, 1, 2, 1),
        ("conv3", 1, 192, 13, 384, 3, 1, 1, 1),
        ("conv4", 1, 384, 13, 256, 3, 1, 1, 1),
        ("conv5", 1, 256, 13, 256, 3, 1, 1, 1),
    ],
    "vgg16": [
        ("conv1_1", 1, 3, 224, 64, 3, 1, 1, 1),
        ("conv1_2", 1, 64, 224, 64, 3, 1, 1, 1),
        ("conv2_1", 1, 64, 112, 128, 3, 1, 1, 1),
        ("conv2_2", 1, 128, 112, 128, 3, 1, 1, 1),
        ("conv3_1", 1, 128, 56, 256, 3, 1, 1, 1),
        ("conv3_2", 2, 256, 56, 256, 3, 1, 1, 1),
        ("conv4_1", 1, 256, 28, 512, 3, 1, 1, 1),
        ("conv4_2", 2, 512, 28, 512, 3, 1, 1, 1),
        ("conv5", 3, 512, 14, 512, 3, 1, 1, 1),
    ],
    "resnet50": [
        ("conv1", 1, 3, 224, 64, 7, 2, 3, 1),
        ("layer1.reduce0", 1, 64, 56, 64, 1, 1, 0, 1),
        ("layer1.3x3", 3, 64, 56, 64, 3, 1, 1, 1),
        ("layer1.expand", 4, 64, 56, 256, 1, 1, 0, 1),
        ("layer1.reduce", 2, 256, 56, 64, 1, 1, 0, 1),
        ("layer2.reduce0", 1, 256, 56, 128, 1, 1, 0, 1),
        ("layer2.3x3/2", 1, 128, 56, 128, 3, 2, 1, 1),
        ("layer2.expand", 4, 128, 28, 512, 1, 1, 0, 1),
        ("layer2.shortcut", 1, 256, 56, 512, 1, 2, 0, 1),
        ("layer2.reduce", 3, 512, 28, 128, 1, 1, 0, 1),
        ("layer2.3x3", 3, 128, 28, 128, 3, 1, 1, 1),
        ("layer3.reduce0", 1, 512, 28, 256, 1, 1, 0, 1),
        ("layer3.3x3/2", 1, 256, 28, 256, 3, 2, 1, 1),
        ("layer3.expand", 6, 256, 14, 1024, 1, 1, 0, 1),
        ("layer3.shortcut", 1, 512, 28, 1024, 1, 2, 0, 1),
        ("layer3.reduce", 5, 1024, 14, 256, 1, 1, 0, 1),
        ("layer3.3x3", 5, 256, 14, 256, 3, 1, 1, 1),
        ("layer4.reduce0", 1, 1024, 14, 512, 1, 1, 0, 1),
        ("layer4.3x3/2", 1, 512, 14, 512, 3, 2, 1, 1),
        ("layer4.expand", 3, 512, 7, 2048, 1, 1, 0, 1),
        ("layer4.shortcut", 1, 1024, 14, 2048, 1, 2, 0, 1),
        ("layer4.reduce", 2, 2048, 7, 512, 1, 1, 0, 1),
        ("layer4.3x3", 2, 512, 7, 512, 3, 1, 1, 1),
    ],
    "mobilenet": [
        ("conv1", 1, 3, 224, 32, 3, 2, 1, 1),
        ("depth1", 1, 32, 112, 32, 3, 1, 1, 32),
        ("point1", 1, 32, 112, 64, 1, 1, 0, 1),
        ("depth2", 1, 64, 112, 64, 3, 2, 1, 64),
        ("point2", 1, 64, 56, 128, 1, 1, 0, 1),
        ("depth3", 1, 128, 56, 128, 3, 1, 1, 128),
        ("point3", 1, 128, 56, 128, 1, 1, 0, 1),
        ("depth4", 1, 128, 56, 128, 3, 2, 1, 128),
        ("point4", 1, 128, 28, 256, 1, 1, 0, 1),
        ("depth5", 1, 256, 28, 256, 3, 1, 1, 256),
        ("point5", 1, 256, 28, 256, 1, 1, 0, 1),
        ("depth6", 1, 256, 28, 256, 3, 2, 1, 256),
        ("point6", 1, 256, 14, 512, 1, 1, 0, 1),
        ("depth7", 5, 512, 14, 512, 3, 1, 1, 512),
        ("point7", 5, 512, 14, 512, 1, 1, 0, 1),
        ("depth12", 1, 512, 14, 512, 3, 2, 1, 512),
        ("point12", 1, 512, 7, 1024, 1, 1, 0, 1),
        ("depth13", 1, 1024, 7, 1024, 3, 1, 1, 1024),
        ("point13", 1, 1024, 7, 1024, 1, 1, 0, 1),
    ],
}
NETWORKS = {name: [Conv(name, *row) for row in rows] for name, rows in _TABLES.items()}

LENET5_MULTIPLY_ADDS = 6 * 25 * 28**2 + 16 * 150 * 10**2 + 400 * 120 + 120 * 84 + 84 * 10  # forward, per image
LENET5_TRAINING_MULTIPLY_ADDS = 3 * LENET5_MULTIPLY_ADDS - 6 * 25 * 28**2  # no gradient of the image


def select(names: list[str]) -> list[Conv]:
    """The convolutions of networks ("resnet50"), or the layer of a name, or those whose names begin so ("resnet50/layer1").

    Raises
    ------
    ValueError
        For a name that selects nothing.
    """
    found: list[Conv] = []
    for name in names:
        network, _, layer = name.partition("/")
        known = NETWORKS.get(network, [])
        rows = [c for c in known if c.layer == layer] or [c for c in known if c.layer.startswith(layer)]
        if not rows:
            layers = "; its layers are " + ", ".join(c.layer for c in NETWORKS[network]) if network in NETWORKS else ""
            raise ValueError(f"shapes={name!r}: expected one of {', '.join(NETWORKS)}, or network/layer{layers}")
        found += [c for c in rows if c not in found]
    return found

"""The convolutions of networks: each distinct shape once, with the number of times the network has it.

Sources: LeNet-5 (LeCun et al., 1998; images of 32x32, every filter of conv2 sees all six maps), AlexNet (Krizhevsky,
2014, "One weird trick", as torchvision builds it), VGG-16 (Simonyan and Zisserman, 2015), ResNet-50 (He et al., 2016,
with the stride in the 3x3 convolution, as torchvision builds it), MobileNet v1 (Howard et al., 2017), GoogLeNet v1
(Szegedy et al., 2015, table 1), U-Net (Ronneberger et al., 2015, its channels; images of 256x256 with padding "same",
not the 572x572 without), 3-D U-Net (Cicek et al., 2016, its channels; 32x32x32, "same"). Images of 224x224 but for those.
"wavenet" is like WaveNet (van den Oord et al., 2016): three stacks of ten dilated layers over 8,000 samples, each reading
as many samples more as its taps reach back. "heads" are fully connected layers as 1x1 convolutions of one pixel, and
"odd" is everything that common networks do not have. A test derives the tables of the zoo's networks from fastconv.zoo.
"""

from __future__ import annotations

from fastconv.bench.shapes import Conv, conv, merged

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

# size, input channels, filters: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, behind the pooling
_INCEPTION = {
    "3a": (28, 192, 64, 96, 128, 16, 32, 32),
    "3b": (28, 256, 128, 128, 192, 32, 96, 64),
    "4a": (14, 480, 192, 96, 208, 16, 48, 64),
    "4b": (14, 512, 160, 112, 224, 24, 64, 64),
    "4c": (14, 512, 128, 128, 256, 24, 64, 64),
    "4d": (14, 512, 112, 144, 288, 32, 64, 64),
    "4e": (14, 528, 256, 160, 320, 32, 128, 128),
    "5a": (7, 832, 256, 160, 320, 32, 128, 128),
    "5b": (7, 832, 384, 192, 384, 48, 128, 128),
}


def _googlenet() -> list[Conv]:
    rows: list[tuple] = [("conv1", 1, 3, 224, 64, 7, 2, 3),
                         ("conv2.reduce", 1, 64, 56, 64, 1), ("conv2", 1, 64, 56, 192, 3, 1, 1)]
    for name, (size, channels, one, reduce3, three, reduce5, five, pool) in _INCEPTION.items():
        rows += [(f"{name}.1x1", 1, channels, size, one, 1), (f"{name}.reduce3", 1, channels, size, reduce3, 1),
                 (f"{name}.3x3", 1, reduce3, size, three, 3, 1, 1), (f"{name}.reduce5", 1, channels, size, reduce5, 1),
                 (f"{name}.5x5", 1, reduce5, size, five, 5, 1, 2), (f"{name}.pool", 1, channels, size, pool, 1)]
    return merged(conv("googlenet", *row) for row in rows)


def _unet() -> list[Conv]:
    name, size, channels, rows = "unet", 256, 3, []
    for level, width in enumerate((64, 128, 256, 512, 1024)):
        rows += [conv(name, f"down{level}.1", 1, channels, size, width, 3, 1, 1),
                 conv(name, f"down{level}.2", 1, width, size, width, 3, 1, 1)]
        channels, size = width, size // 2
    size *= 2
    for level, width in reversed(list(enumerate((64, 128, 256, 512)))):
        rows.append(conv(name, f"up{level}", 1, 2 * width, size, width, 2, 2, transposed=True))
        size *= 2
        rows += [conv(name, f"up{level}.1", 1, 2 * width, size, width, 3, 1, 1),
                 conv(name, f"up{level}.2", 1, width, size, width, 3, 1, 1)]
    return merged([*rows, conv(name, "classes", 1, 64, size, 2, 1)])


def _unet3d() -> list[Conv]:
    name, size, channels, rows = "unet3d", 32, 3, []
    for level, width in enumerate((64, 128, 256, 512)):
        rows += [conv(name, f"down{level}.1", 1, channels, size, width // 2, 3, 1, 1, dims=3),
                 conv(name, f"down{level}.2", 1, width // 2, size, width, 3, 1, 1, dims=3)]
        channels, size = width, size // 2
    size *= 2
    for level, width in reversed(list(enumerate((64, 128, 256)))):
        rows.append(conv(name, f"up{level}", 1, 2 * width, size, 2 * width, 2, 2, dims=3, transposed=True))
        size *= 2
        rows += [conv(name, f"up{level}.1", 1, 3 * width, size, width, 3, 1, 1, dims=3),
                 conv(name, f"up{level}.2", 1, width, size, width, 3, 1, 1, dims=3)]
    return merged([*rows, conv(name, "classes", 1, 64, size, 3, 1, dims=3)])


def _wavenet() -> list[Conv]:
    name, length = "wavenet", 8000
    rows = [conv(name, "causal", 1, 1, length + 1, 64, 2, dims=1)]
    for power in range(10):
        rows.append(conv(name, f"dilated{2**power}", 3, 64, length + 2**power, 128, 2, dims=1, dilation=2**power))
    return [*rows, conv(name, "residual", 30, 64, length, 64, 1, dims=1),
            conv(name, "skip", 30, 64, length, 256, 1, dims=1), conv(name, "post", 2, 256, length, 256, 1, dims=1)]


def _odd() -> list[Conv]:
    def one(layer: str, channels: int, size, filters: int, kernel, stride=1, padding=0, groups=1, **more) -> Conv:
        return conv("odd", layer, 1, channels, size, filters, kernel, stride, padding, groups, **more)

    def up(layer: str, channels: int, size, filters: int, kernel, stride=1, padding=0, groups=1, **more) -> Conv:
        return one(layer, channels, size, filters, kernel, stride, padding, groups, transposed=True, **more)

    return [
        one("dilated2", 64, 56, 64, 3, 1, 2, dilation=2), one("dilated4", 128, 33, 128, 3, 1, 4, dilation=4),
        one("aspp6", 512, 33, 256, 3, 1, 6, dilation=6), one("aspp18", 512, 33, 256, 3, 1, 18, dilation=18),
        one("dilated.stride", 64, 56, 64, 3, 2, 2, dilation=2), one("dilated.1d", 64, (4000,), 64, 5, 1, 32, dilation=16),
        one("resnext1", 128, 56, 128, 3, 1, 1, 32), one("resnext2", 256, 28, 256, 3, 1, 1, 32),
        one("resnext2/2", 256, 56, 256, 3, 2, 1, 32), one("resnext3", 512, 14, 512, 3, 1, 1, 32),
        one("resnext4", 1024, 7, 1024, 3, 1, 1, 32), one("groups3", 96, 28, 192, 3, 1, 1, 3),
        one("shuffle.1x1", 240, 28, 240, 1, 1, 0, 3), one("alexnet.groups", 96, 27, 256, 5, 1, 2, 2),
        one("depthwise.odd", 33, 28, 33, 3, 1, 1, 33), one("depthwise.100", 100, 56, 100, 3, 1, 1, 100),
        one("depthwise.5x5", 120, 28, 120, 5, 1, 2, 120), one("depthwise.5x5/2", 240, 28, 240, 5, 2, 2, 240),
        one("depthwise.7x7", 96, 56, 96, 7, 1, 3, 96), one("depthwise.31x31", 128, 56, 128, 31, 1, 15, 128),
        one("depthwise.multiplier", 32, 56, 64, 3, 1, 1, 32), one("depthwise.1d", 256, (1000,), 256, 31, 1, 15, 256),
        one("depthwise.3d", 64, (8, 28, 28), 64, 3, 1, 1, 64),
        up("dcgan1", 1024, 4, 512, 4, 2, 1), up("dcgan2", 512, 8, 256, 4, 2, 1), up("dcgan3", 256, 16, 128, 4, 2, 1),
        up("dcgan4", 128, 32, 3, 4, 2, 1), up("up3x3", 64, 28, 64, 3, 2, 1, output_padding=1), up("up5x5", 64, 28, 32, 5),
        up("fcn", 21, 16, 21, 16, 8, 4), up("up.groups", 128, 28, 128, 4, 2, 1, 4),
        up("up.dilated", 32, 28, 32, 3, 2, dilation=2),
        up("hifigan", 256, (256,), 128, 16, 8, 4), up("up.3d", 64, (8, 14, 14), 64, 2, 2),
        one("speech.first", 1, (16000,), 512, 10, 5), one("speech.3/2", 512, (1600,), 512, 3, 2),
        one("speech.position", 256, (200,), 256, 128, 1, ((64, 63),), 16), one("text5", 128, (400,), 128, 5, 1, 2),
        one("ecg", 12, (5000,), 64, 15, 2, 7),
        one("c3d.first", 3, (16, 56, 56), 64, 3, 1, 1), one("c3d", 64, (8, 28, 28), 128, 3, 1, 1),
        one("r2plus1d.space", 64, (8, 28, 28), 144, (1, 3, 3), 1, (0, 1, 1)),
        one("r2plus1d.time", 144, (8, 28, 28), 64, (3, 1, 1), 1, (1, 0, 0)),
        one("5x5", 64, 28, 64, 5, 1, 2), one("7x7", 64, 28, 64, 7, 1, 3), one("9x9", 64, 28, 64, 9, 1, 4),
        one("9x9.first", 3, 64, 64, 9, 1, 4), one("11x11", 64, 28, 64, 11, 1, 5), one("15x15", 32, 56, 32, 15, 1, 7),
        one("31x31", 32, 56, 32, 31, 1, 15), one("1x7", 160, 17, 160, (1, 7), 1, (0, 3)),
        one("7x1", 160, 17, 160, (7, 1), 1, (3, 0)),
        one("17->33", 17, 28, 33, 3, 1, 1), one("35->67", 35, 28, 67, 3, 1, 1), one("100->100", 100, 28, 100, 3, 1, 1),
        one("1->1", 1, 128, 1, 3, 1, 1), one("4->6", 4, 64, 6, 5), one("130->70.1x1", 130, 28, 70, 1),
        one("last.1x1", 64, 56, 3, 1), one("same4x4", 64, 28, 64, 4, 1, ((1, 2), (1, 2))),
        one("1x1/2", 256, 28, 512, 1, 2), one("patch16", 3, 224, 768, 16, 16), one("stem4", 3, 224, 96, 4, 4),
        one("3x3/3", 64, 57, 64, 3, 3), one("13x13", 256, 13, 255, 3, 1, 1), one("one pixel", 512, 1, 512, 3, 1, 1),
    ]


_HEADS = [("vgg16.fc6", 1, 25088, 1, 4096, 1), ("vgg16.fc7", 1, 4096, 1, 4096, 1), ("vgg16.fc8", 1, 4096, 1, 1000, 1),
          ("alexnet.fc6", 1, 9216, 1, 4096, 1), ("resnet50.fc", 1, 2048, 1, 1000, 1)]

NETWORKS: dict[str, list[Conv]] = {name: [conv(name, *row) for row in rows] for name, rows in _TABLES.items()}
NETWORKS |= {"googlenet": _googlenet(), "unet": _unet(), "wavenet": _wavenet(), "unet3d": _unet3d(), "odd": _odd(),
             "heads": [conv("heads", *row) for row in _HEADS]}
FIGURES = ("resnet50", "vgg16", "googlenet", "mobilenet", "unet", "alexnet", "wavenet", "unet3d")

LENET5_MULTIPLY_ADDS = 6 * 25 * 28**2 + 16 * 150 * 10**2 + 400 * 120 + 120 * 84 + 84 * 10  # forward, per image
LENET5_TRAINING_MULTIPLY_ADDS = 3 * LENET5_MULTIPLY_ADDS - 6 * 25 * 28**2  # no gradient of the image

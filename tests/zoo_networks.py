"""The networks of the zoo written a second time, from their papers, over the few operators of a backend.

A backend (``zoo_backends.py``) holds the weights under the names that PyTorch's own files have, and computes: PyTorch, or
the float64 reference in NumPy. Nothing here or there is shared with the engine or with ``fastconv.zoo``. ``b.act`` and
``b.act6`` are activations, ``b.pool`` is the pooling between layers: a backend may replace them by smooth ones.
"""


def lenet5(b, x):
    for name in ("0", "3"):
        x = b.pool(b.act(b.conv(x, name)), 2, 2, 0)
    x = b.flatten(x)
    for name in ("7", "9"):
        x = b.act(b.linear(x, name))
    return b.linear(x, "11")


def alexnet(b, x):
    x = b.pool(b.act(b.conv(x, "features.0", 4, 2)), 3, 2, 0)
    x = b.pool(b.act(b.conv(x, "features.3", 1, 2)), 3, 2, 0)
    for name in ("features.6", "features.8", "features.10"):
        x = b.act(b.conv(x, name, 1, 1))
    x = b.flatten(b.mean(b.pool(x, 3, 2, 0), 6))
    for name in ("classifier.1", "classifier.4"):
        x = b.act(b.linear(x, name))
    return b.linear(x, "classifier.6")


def vgg(b, x, stages, norm):
    number = 0
    for convolutions in stages:
        for _ in range(convolutions):
            x = b.conv(x, f"features.{number}", 1, 1)
            if norm:
                x = b.norm(x, f"features.{number + 1}")
            x = b.act(x)
            number += 3 if norm else 2
        x = b.pool(x, 2, 2, 0)
        number += 1
    x = b.flatten(b.mean(x, 7))
    for name in ("classifier.0", "classifier.3"):
        x = b.act(b.linear(x, name))
    return b.linear(x, "classifier.6")


def resnet(b, x, layers, bottleneck):
    x = b.pool(b.act(b.norm(b.conv(x, "conv1", 2, 3), "bn1")), 3, 2, 1)
    for stage, blocks in enumerate(layers, 1):
        for i in range(blocks):
            path, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            short = x
            if i == 0 and (stage > 1 or bottleneck):
                short = b.norm(b.conv(x, f"{path}.downsample.0", stride), f"{path}.downsample.1")
            if bottleneck:  # the stride sits in the 3x3
                kernels = ((1, 0), (stride, 1), (1, 0))
            else:
                kernels = ((stride, 1), (1, 1))
            y = x
            for k, (s, padding) in enumerate(kernels, 1):
                y = b.norm(b.conv(y, f"{path}.conv{k}", s, padding), f"{path}.bn{k}")
                y = b.act(y) if k < len(kernels) else y
            x = b.act(b.add(y, short))
    return b.linear(b.flatten(b.mean(x, 1)), "fc")


def mobilenet_v1(b, x):
    x = b.act(b.norm(b.conv(x, "features.0.0", 2, 1), "features.0.1"))
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for i, stride in enumerate(strides):
        for k, (s, padding) in enumerate(((stride, 1), (1, 0))):
            path = f"features.{1 + 2 * i + k}"
            x = b.act(b.norm(b.conv(x, f"{path}.0", s, padding, depthwise=k == 0), f"{path}.1"))
    return b.linear(b.flatten(b.mean(x, 1)), "classifier")


def mobilenet_v2(b, x):
    x = b.act6(b.norm(b.conv(x, "features.0.0", 2, 1), "features.0.1"))
    number, channels = 0, 32
    for widen, out, blocks, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                      (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(blocks):
            number, stride, y, at = number + 1, first if i == 0 else 1, x, 0
            path = f"features.{number}.conv"
            if widen > 1:
                y, at = b.act6(b.norm(b.conv(y, f"{path}.0.0"), f"{path}.0.1")), 1
            y = b.act6(b.norm(b.conv(y, f"{path}.{at}.0", stride, 1, depthwise=True), f"{path}.{at}.1"))
            y = b.norm(b.conv(y, f"{path}.{at + 1}"), f"{path}.{at + 2}")
            x = b.add(x, y) if stride == 1 and channels == out else y
            channels = out
    x = b.act6(b.norm(b.conv(x, "features.18.0"), "features.18.1"))
    return b.linear(b.flatten(b.mean(x, 1)), "classifier.1")


def _vgg(*stages):
    return lambda b, x: vgg(b, x, stages, False), lambda b, x: vgg(b, x, stages, True)


def _resnet(bottleneck, *layers):
    return lambda b, x: resnet(b, x, layers, bottleneck)


VGG = {"vgg11": _vgg(1, 1, 2, 2, 2), "vgg13": _vgg(2, 2, 2, 2, 2), "vgg16": _vgg(2, 2, 3, 3, 3),
       "vgg19": _vgg(2, 2, 4, 4, 4)}

# by name: the network, and the shape of an image; last stages have 3x4 pixels and more, so that a normalisation of two
# images has 24 values and more
NETWORKS = {
    "lenet5": (lenet5, (1, 32, 32)),
    "alexnet": (alexnet, (3, 95, 127)),
    **{name: (plain, (3, 64, 96)) for name, (plain, _) in VGG.items()},
    **{f"{name}_bn": (normalised, (3, 64, 96)) for name, (_, normalised) in VGG.items()},
    "resnet18": (_resnet(False, 2, 2, 2, 2), (3, 72, 104)),
    "resnet34": (_resnet(False, 3, 4, 6, 3), (3, 72, 104)),
    "resnet50": (_resnet(True, 3, 4, 6, 3), (3, 72, 104)),
    "resnet101": (_resnet(True, 3, 4, 23, 3), (3, 72, 104)),
    "mobilenet_v1": (mobilenet_v1, (3, 72, 104)),
    "mobilenet_v2": (mobilenet_v2, (3, 72, 104)),
}

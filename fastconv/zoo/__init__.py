"""Networks by name, with untrained weights."""

from fastconv.nn import Module
from fastconv.zoo.alexnet import alexnet
from fastconv.zoo.lenet import lenet5
from fastconv.zoo.mobilenet import mobilenet_v1, mobilenet_v2
from fastconv.zoo.registry import NETWORKS
from fastconv.zoo.resnet import resnet18, resnet34, resnet50, resnet101
from fastconv.zoo.vgg import vgg11, vgg13, vgg16, vgg19


def create(name: str, **keywords) -> Module:
    """A network by its name.

    Parameters
    ----------
    name : str
        One of ``NETWORKS``.
    **keywords
        For its constructor: ``num_classes``, ``in_channels``.

    Raises
    ------
    ValueError
        For an unknown name, listing those known.
    """
    if name not in NETWORKS:
        raise ValueError(f"zoo: name={name!r}: expected one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](**keywords)


__all__ = [
    "NETWORKS",
    "alexnet",
    "create",
    "lenet5",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]

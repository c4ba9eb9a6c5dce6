"""How each network is trained unless the user says otherwise, and the size of its input."""

from __future__ import annotations

from typing import NamedTuple

FEW = 256  # training images: with fewer, batches are smaller
UPDATES = 600  # with fewer in all, the learning rate is lower
LONGER = 2  # times the recipe's epochs are the most that little data get


class Recipe(NamedTuple):
    """SGD with momentum under one cycle of the learning rate, whose highest value is ``lr`` for batches of 32 and more.

    ``size``: the side of its input; ``fixed``: it takes no other.
    """

    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.05
    weight_decay: float = 1e-4
    augment: str = "shift+flip"
    clip_grad_norm: float | None = None
    size: int = 224
    fixed: bool = False


# By the beginning of the name. Networks without normalisation learn with a smaller rate and clipped gradients.
RECIPES = {
    "lenet5": Recipe(epochs=10, weight_decay=5e-4, augment="shift", size=32, fixed=True),
    "alexnet": Recipe(lr=0.01, weight_decay=5e-4, clip_grad_norm=1.0),
    "vgg": Recipe(lr=0.01, weight_decay=5e-4, clip_grad_norm=1.0),
    "mobilenet": Recipe(weight_decay=4e-5),
    "resnet": Recipe(),
}


def recipe(network: str) -> Recipe:
    """The recipe of a network of the zoo."""
    return next((r for name, r in RECIPES.items() if network.startswith(name)), Recipe())


def fill(settings: dict, known: Recipe, images: int, tuning: bool) -> None:
    """Sets batch size, epochs and learning rate where they are None, after what there is to learn from.

    Few images: batches of 16 below 256, of 8 below 128, so that an epoch has some updates; more epochs, up to twice as many,
    towards 600 updates. The learning rate is proportional to the batch up to 32, and to the number of updates up to 600, by
    a tenth at the least: a network that is normalised by batches needs that many to follow. ``tuning`` a network that has
    learned before: a fifth of it.
    """
    if settings["batch_size"] is None:
        settings["batch_size"] = known.batch_size if images >= FEW else known.batch_size // (2 if 2 * images >= FEW else 4)
    batch = settings["batch_size"]
    steps = max(1, -(-images // batch))
    if settings["epochs"] is None:
        settings["epochs"] = min(max(known.epochs, -(-UPDATES // steps)), LONGER * known.epochs)
    if settings["lr"] is None:
        share = min(1, batch / known.batch_size) * min(1, max(0.1, settings["epochs"] * steps / UPDATES))
        settings["lr"] = float(f"{known.lr * share * (0.2 if tuning else 1):.3g}")

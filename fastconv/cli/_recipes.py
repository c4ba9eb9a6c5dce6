"""How each network is trained unless the user says otherwise, and the size of its input."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """SGD with momentum under one cycle of the learning rate, whose highest value is ``lr``.

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

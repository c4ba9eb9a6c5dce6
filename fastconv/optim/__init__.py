"""Update rules and learning-rate schedules. The rules describe; the fused kernels that obey them are on floor 1."""

from . import swa_utils
from .adaptive import Adadelta, Adagrad, Adamax, NAdam, RAdam, RMSprop
from .layerwise import LAMB, LARS
from .muon import Muon
from .optimizer import Optimizer
from .rules import SGD, Adam, AdamW
from .schedules import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
    WarmupLR,
)
from .signs import ASGD, Lion, Rprop
from .wrappers import SAM, Lookahead

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "SAM",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "CosineAnnealingLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
    "swa_utils",
]

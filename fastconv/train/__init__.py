"""The training loop and what it needs: model files, progress, metrics, learning curves."""

from fastconv.train.callbacks import EarlyStopping, LogWriter, ModelCheckpoint
from fastconv.train.curve import plot_curve
from fastconv.train.files import load_model, save_model
from fastconv.train.metrics import MetricLog, accuracy, top_k
from fastconv.train.model import save
from fastconv.train.trainer import Trainer

__all__ = [
    "EarlyStopping",
    "LogWriter",
    "MetricLog",
    "ModelCheckpoint",
    "Trainer",
    "accuracy",
    "load_model",
    "plot_curve",
    "save",
    "save_model",
    "top_k",
]

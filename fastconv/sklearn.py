"""Convolutional networks as scikit-learn's estimators: in pipelines, grid search and cross-validation. Needs scikit-learn
(extra ``sklearn``).

>>> from fastconv.sklearn import ConvClassifier
>>> ConvClassifier(image_shape=(1, 8, 8)).fit(X, y).score(X_test, y_test)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from math import prod
from weakref import WeakKeyDictionary

import numpy as np

from fastconv import functional as F
from fastconv import nn, optim
from fastconv._extra import require
from fastconv._values import shown
from fastconv.data import ArrayDataset, DataLoader
from fastconv.engine.engine import compile
from fastconv.graph import random
from fastconv.train.trainer import Trainer

require("sklearn", "fastconv.sklearn", "sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # noqa: E402  (said above what it needs)
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets, type_of_target  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["ConvClassifier", "ConvRegressor", "convnet"]
OPTIMIZERS: dict[str, Callable] = {
    "adam": lambda lr, decay: optim.Adam(lr=lr, weight_decay=decay),
    "adamw": lambda lr, decay: optim.AdamW(lr=lr, weight_decay=decay),
    "sgd": lambda lr, decay: optim.SGD(lr=lr, momentum=0.9, weight_decay=decay)}
MOST = 256  # samples that are predicted at once
_engines: WeakKeyDictionary = WeakKeyDictionary()  # of fitted estimators: beside them, so that predicting changes nothing
SMALL = 16  # features up to which a table is no sequence: dense layers see it whole


def convnet(shape: tuple[int, ...], outputs: int, hidden: tuple[int, ...] = (32, 64)) -> nn.Sequential:
    """The network that estimators make where none is given.

    Parameters
    ----------
    shape : tuple of int
        Of a sample, ``(C, spatial...)`` with one to three spatial dimensions; (1, n) of few features gets dense layers.
    outputs : int
    hidden : tuple of int
        Channels of the convolutions, each behind which extents that are large enough are halved.
    """
    layers: list = []
    channels, size = shape[0], list(shape[1:])
    if len(size) == 1 and channels == 1 and size[0] <= SMALL:
        layers.append(nn.Flatten())
        width = size[0]
        for h in hidden:
            layers += [nn.Linear(width, h), nn.ReLU()]
            width = h
        return nn.Sequential(*layers, nn.Linear(width, outputs))
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[len(size) - 1]
    for h in hidden:
        layers += [conv(channels, h, 3, padding=1), nn.ReLU()]
        channels = h
        window = [2 if s >= 4 else 1 for s in size]
        if max(window) > 1:
            layers.append(pool(tuple(window)))
            size = [s // w for s, w in zip(size, window, strict=True)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * prod(size), outputs))


@contextmanager
def _seeded(seed: int):
    """Initial values and dropout from this seed, and the process's own generator as it was afterwards."""
    before = random.get_state()
    random.manual_seed(seed)
    try:
        yield
    finally:
        random.set_state(before)


class _Conv(BaseEstimator):
    """What both estimators do."""

    def __init__(self, module=None, *, image_shape=None, hidden=(32, 64), optimizer="adam", learning_rate=1e-3,
                 weight_decay=0.0, max_iter=50, batch_size=32, early_stopping=False, validation_fraction=0.1,
                 n_iter_no_change=10, tol=1e-4, standardize=True, precision="highest", n_jobs=None, random_state=None,
                 verbose=False):
        self.module, self.image_shape, self.hidden = module, image_shape, hidden
        self.optimizer, self.learning_rate, self.weight_decay = optimizer, learning_rate, weight_decay
        self.max_iter, self.batch_size, self.early_stopping = max_iter, batch_size, early_stopping
        self.validation_fraction, self.n_iter_no_change, self.tol = validation_fraction, n_iter_no_change, tol
        self.standardize, self.precision, self.n_jobs = standardize, precision, n_jobs
        self.random_state, self.verbose = random_state, verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.two_d_array = True
        tags.non_deterministic = False
        return tags

    # ---- arguments ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        name = type(self).__name__

        def number(key, low, high=float("inf"), whole=False, open_=False):
            value = getattr(self, key)
            kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or open_ and value == low:
                kind = "an integer" if whole else "a number"
                raise ValueError(f"{name}: {key}={shown(value)}: expected {kind} {'above' if open_ else 'of at least'} {low}"
                                 + (f" and at most {high}" if high < float("inf") else ""))

        number("max_iter", 1, whole=True)
        number("batch_size", 1, whole=True)
        number("n_iter_no_change", 1, whole=True)
        number("learning_rate", 0, open_=True)
        number("weight_decay", 0)
        number("tol", 0)
        number("validation_fraction", 0, 0.9, open_=True)
        if not callable(self.optimizer) and self.optimizer not in OPTIMIZERS:
            raise ValueError(f"{name}: optimizer={shown(self.optimizer)}: expected one of {', '.join(OPTIMIZERS)}, or a "
                             "function of learning rate and weight decay")
        if self.module is not None and not callable(self.module):
            raise TypeError(f"{name}: module is a {type(self.module).__name__}: expected an nn.Module, or a function of the "
                            "sample's shape and the number of outputs that makes one")
        if self.n_jobs is not None and (isinstance(self.n_jobs, bool) or not isinstance(self.n_jobs, (int, np.integer))
                                        or self.n_jobs == 0):
            raise ValueError(f"{name}: n_jobs={shown(self.n_jobs)}: expected a number of threads, -1 for all, or None")

    def _threads(self) -> int | None:
        return None if self.n_jobs is None or self.n_jobs < 0 else int(self.n_jobs)

    def _samples(self, X, reset: bool) -> np.ndarray:
        """X as float32 samples, 2-D as scikit-learn has it or images as they are."""
        X = validate_data(self, X, dtype=np.float32, reset=reset, allow_nd=True)
        if reset:
            self.image_shape_ = self._shape_of(X)
        if X.shape[1:] != tuple(self.image_shape_) and prod(X.shape[1:]) != prod(self.image_shape_):
            raise ValueError(f"{type(self).__name__}: X of shape {X.shape}: expected samples of {self.image_shape_}")
        return np.ascontiguousarray(X).reshape(len(X), *self.image_shape_)

    def _shape_of(self, X) -> tuple[int, ...]:
        name = type(self).__name__
        if self.image_shape is None:
            if X.ndim == 2:
                return 1, X.shape[1]
            return X.shape[1:] if X.ndim > 3 else (1, *X.shape[1:])
        shape = tuple(self.image_shape)
        if not 2 <= len(shape) <= 4 or any(not isinstance(s, (int, np.integer)) or s < 1 for s in shape):
            raise ValueError(f"{name}: image_shape={shown(self.image_shape)}: expected (C, H, W), (C, L) or (C, D, H, W)")
        if prod(shape) != prod(X.shape[1:]):
            raise ValueError(f"{name}: X of shape {X.shape} has {prod(X.shape[1:])} numbers per sample: image_shape={shape} "
                             f"has {prod(shape)}")
        return shape

    # ---- training -------------------------------------------------------------------------------------------------

    def _begin(self, X: np.ndarray, outputs: int) -> None:
        """A network, an optimiser and what inputs are standardised by."""
        self._random = check_random_state(self.random_state)
        seed = int(self._random.randint(2**31 - 1))
        with _seeded(seed):
            if isinstance(self.module, nn.Module):
                import copy

                self.module_ = copy.deepcopy(self.module)
            elif self.module is not None:
                self.module_ = self.module(self.image_shape_, outputs)
            else:
                self.module_ = convnet(self.image_shape_, outputs, tuple(self.hidden))
        if self.standardize:
            axes = (0, *range(2, X.ndim)) if X.ndim > 3 else (0,)
            mean = X.mean(axes, keepdims=True, dtype=np.float64)[0]
            spread = X.std(axes, keepdims=True, dtype=np.float64)[0]
            self.mean_ = mean.astype(np.float32)
            self.scale_ = np.where(spread > 1e-12, spread, 1.0).astype(np.float32)
        make = OPTIMIZERS.get(self.optimizer) if isinstance(self.optimizer, str) else self.optimizer
        rule = make(self.learning_rate, self.weight_decay)  # type: ignore[misc]
        self._trainer = Trainer(self.module_, self._loss(), rule, metrics=(), precision=self.precision,
                                threads=self._threads(), seed=seed)
        self._seed = seed
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.n_iter_ = 0
        _engines.pop(self, None)

    def _ready(self, X: np.ndarray) -> np.ndarray:
        return (X - self.mean_) / self.scale_ if self.standardize else X

    def _train(self, X: np.ndarray, y: np.ndarray, epochs: int) -> None:
        X = self._ready(X)
        held = None
        if self.early_stopping and len(X) > 1:
            order = self._random.permutation(len(X))
            count = min(len(X) - 1, max(1, int(round(self.validation_fraction * len(X)))))
            held = X[order[:count]], y[order[:count]]
            X, y = X[order[count:]], y[order[count:]]
        best, state, waited = float("inf"), None, 0
        loader = DataLoader(ArrayDataset(X, y), batch_size=min(self.batch_size, len(X)), shuffle=True, seed=self._seed)
        with _seeded(self._seed + 1 + self.n_iter_):
            for _ in range(epochs):
                total, count = 0.0, 0
                for batch in loader:
                    total, count = total + self._trainer.step(*batch) * len(batch[0]), count + len(batch[0])
                self.n_iter_ += 1
                self.loss_curve_.append(float(total / count))
                self.loss_ = self.loss_curve_[-1]
                now = self.loss_
                if held is not None:
                    _engines.pop(self, None)
                    now = -self._held_out(*held)
                    self.validation_scores_.append(-now)  # type: ignore[union-attr]
                if self.verbose:
                    more = f", validation {-now:.4f}" if held is not None else ""
                    print(f"{type(self).__name__}: epoch {self.n_iter_}: loss {self.loss_:.6f}{more}", flush=True)
                waited = 0 if now < best - self.tol else waited + 1
                if now < best:
                    best = now
                    state = self.module_.state_dict() if held is not None else None
                    state = None if state is None else {k: np.array(v) for k, v in state.items()}
                if waited >= self.n_iter_no_change:
                    break
        if state is not None:
            self.module_.load_state_dict(state)
        _engines.pop(self, None)

    def _raw(self, X: np.ndarray, ready: bool = False) -> np.ndarray:
        """What the network says of samples, ``ready`` or to be standardised."""
        X = X if ready else self._ready(X)
        engine = _engines.get(self)
        if engine is None:
            engine = _engines[self] = compile(self.module_, (MOST, *self.image_shape_), precision=self.precision,
                                              threads=self._threads())
        return np.concatenate([engine(X[i: i + MOST]) for i in range(0, len(X), MOST)])


class ConvClassifier(ClassifierMixin, _Conv):
    """A convolutional network that classifies.

    Parameters
    ----------
    module : nn.Module or callable, optional
        The network, of which each fit trains a copy; or ``module(shape, outputs)``, which makes one.
        Default :func:`convnet`.
    image_shape : tuple of int, optional
        ``(C, H, W)`` (or (C, L), (C, D, H, W)) of a row of X; default: rows of a table are sequences of one channel,
        arrays of more dimensions are what they are.
    hidden : tuple of int, default (32, 64)
        Channels of the default network.
    optimizer : {"adam", "adamw", "sgd"} or callable(learning_rate, weight_decay), default "adam"
    learning_rate, weight_decay : float
    max_iter : int, default 50
        Epochs at most.
    batch_size : int, default 32
    early_stopping : bool, default False
        Holds out ``validation_fraction`` of the samples, and keeps the weights of the best epoch.
    validation_fraction : float, default 0.1
    n_iter_no_change : int, default 10
        Epochs without a gain of ``tol`` (of the held-out score; of the loss without early stopping) after which it ends.
    tol : float, default 1e-4
    standardize : bool, default True
        Subtracts the mean and divides by the deviation of the training samples, per channel of images, per feature of
        tables.
    precision : {"highest", "high", "medium"}, default "highest"
    n_jobs : int, optional
        Threads; None is :func:`fastconv.get_num_threads`.
    random_state : int, RandomState or None
    verbose : bool, default False

    Attributes
    ----------
    module_ : nn.Module
        The trained network.
    classes_ : ndarray
    n_iter_ : int
        Epochs done.
    loss_ : float
    loss_curve_ : list of float
    validation_scores_ : list of float or None
    image_shape_ : tuple of int
    mean_, scale_ : ndarray
        Where ``standardize`` is true.
    """

    def _loss(self):
        return nn.CrossEntropyLoss()

    def _held_out(self, X, y) -> float:
        return float((self._raw(X, True).argmax(1) == y).mean())

    def fit(self, X, y):
        """Trains on samples ``(n, ...)`` and their classes ``(n,)``."""
        self._check()
        X, y = self._both(X, y, True)
        check_classification_targets(y)
        self.classes_, places = np.unique(y, return_inverse=True)
        self._begin(X, max(2, len(self.classes_)))
        self._train(X, places.reshape(-1).astype(np.int64), self.max_iter)
        return self

    def partial_fit(self, X, y, classes=None):
        """One more epoch; the first call needs ``classes``, all that there are."""
        self._check()
        first = not hasattr(self, "module_")
        X, y = self._both(X, y, first)
        if first:
            if classes is None:
                raise ValueError(f"{type(self).__name__}: classes must be given to the first partial_fit")
            self.classes_ = np.unique(classes)
            self._begin(X, max(2, len(self.classes_)))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"{type(self).__name__}: classes={shown(classes)} differ from those of the first partial_fit")
        places = np.searchsorted(self.classes_, y)
        if (places >= len(self.classes_)).any() or (self.classes_[np.minimum(places, len(self.classes_) - 1)] != y).any():
            raise ValueError(f"{type(self).__name__}: y has classes that are not among those of the first partial_fit")
        self._train(X, places.astype(np.int64), 1)
        return self

    def _both(self, X, y, reset: bool):
        if y is None:
            raise ValueError(f"{type(self).__name__}: requires y to be passed, but the target y is None")
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            from sklearn.utils.validation import column_or_1d

            y = column_or_1d(y, warn=True)
        from sklearn.utils.validation import _num_samples, check_consistent_length

        kind = type_of_target(y, input_name="y")
        if kind in ("continuous", "continuous-multioutput"):
            raise ValueError(f"Unknown label type: {kind}. {type(self).__name__} expects classes; for numbers there is "
                             "ConvRegressor")
        X = self._samples(X, reset)
        check_consistent_length(X, y)
        if _num_samples(X) < 1:
            raise ValueError(f"{type(self).__name__}: no samples")
        if y.ndim != 1:
            raise ValueError(f"{type(self).__name__}: y of shape {y.shape}: expected (n,)")
        return X, y

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities ``(n, classes)``, float32."""
        check_is_fitted(self, "module_")
        raw = self._raw(self._samples(X, False))[:, : len(self.classes_)]
        return F.softmax(np.ascontiguousarray(raw), 1)

    def predict_log_proba(self, X) -> np.ndarray:
        """Logarithms of :meth:`predict_proba`."""
        check_is_fitted(self, "module_")
        raw = self._raw(self._samples(X, False))[:, : len(self.classes_)]
        return F.log_softmax(np.ascontiguousarray(raw), 1)

    def predict(self, X) -> np.ndarray:
        """The most probable classes ``(n,)``."""
        check_is_fitted(self, "module_")
        return self.classes_[self.predict_proba(X).argmax(1)]


class ConvRegressor(RegressorMixin, _Conv):
    """A convolutional network that predicts one number per sample, or several; parameters and attributes as those of
    :class:`ConvClassifier`. Targets are standardised while training."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def _loss(self):
        return nn.MSELoss()

    def _held_out(self, X, y) -> float:
        return float(-((self._raw(X, True) - y) ** 2).mean())

    def _targets(self, X, y, reset: bool):
        from sklearn.utils.validation import check_array, check_consistent_length

        if y is None:
            raise ValueError(f"{type(self).__name__}: requires y to be passed, but the target y is None")
        X = self._samples(X, reset)
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            from sklearn.utils.validation import column_or_1d

            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        if y.ndim > 2:
            raise ValueError(f"{type(self).__name__}: y of shape {y.shape}: expected (n,) or (n, targets)")
        return X, y

    def fit(self, X, y):
        """Trains on samples ``(n, ...)`` and numbers ``(n,)`` or ``(n, targets)``."""
        self._check()
        X, y = self._targets(X, y, True)
        self._begin_targets(X, y)
        self._train(X, self._scaled(y), self.max_iter)
        return self

    def partial_fit(self, X, y):
        """One more epoch; the first call says how targets are standardised."""
        self._check()
        first = not hasattr(self, "module_")
        X, y = self._targets(X, y, first)
        if first:
            self._begin_targets(X, y)
        self._train(X, self._scaled(y), 1)
        return self

    def _begin_targets(self, X, y) -> None:
        wide = y.reshape(len(y), -1)
        self._flat = y.ndim == 1
        self.target_mean_ = wide.mean(0)
        spread = wide.std(0)
        self.target_scale_ = np.where(spread > 1e-12, spread, 1.0)
        self._begin(X, wide.shape[1])

    def _scaled(self, y) -> np.ndarray:
        wide = y.reshape(len(y), -1)
        if wide.shape[1] != len(self.target_mean_):
            raise ValueError(f"{type(self).__name__}: y has {wide.shape[1]} targets: expected {len(self.target_mean_)}")
        return ((wide - self.target_mean_) / self.target_scale_).astype(np.float32)

    def predict(self, X) -> np.ndarray:
        """The numbers ``(n,)`` or ``(n, targets)``, float64."""
        check_is_fitted(self, "module_")
        raw = self._raw(self._samples(X, False)) * self.target_scale_ + self.target_mean_
        return raw[:, 0] if self._flat else raw



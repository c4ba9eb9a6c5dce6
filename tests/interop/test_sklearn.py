"""The estimators: scikit-learn's own checks, and what people do with them."""

import pickle

import numpy as np
import pytest

import fastconv as fc

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_diabetes, load_digits  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastconv.sklearn import ConvClassifier, ConvRegressor, convnet  # noqa: E402


@parametrize_with_checks([ConvClassifier(), ConvRegressor()])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.astype(np.float32), y, test_size=400, random_state=0, stratify=y)


def test_digits(digits):
    X, Z, y, t = digits
    model = ConvClassifier(image_shape=(1, 8, 8), max_iter=15, random_state=0).fit(X, y)
    assert model.score(Z, t) > 0.97
    assert model.predict_proba(Z).shape == (400, 10) and model.n_iter_ == len(model.loss_curve_) == 15
    np.testing.assert_allclose(model.predict_proba(Z).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(Z)), model.predict_proba(Z), rtol=1e-4, atol=1e-6)
    images = ConvClassifier(max_iter=15, random_state=0).fit(X.reshape(-1, 1, 8, 8), y)
    np.testing.assert_array_equal(images.predict(Z.reshape(-1, 1, 8, 8)), model.predict(Z))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(Z), model.predict_proba(Z))
    np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(Z), model.predict_proba(Z))


def test_labels_of_any_kind_and_a_module_of_ones_own(digits):
    X, Z, y, t = digits
    names = np.array([f"digit {i}" for i in range(10)])

    def network(shape, outputs):
        assert (shape, outputs) == ((1, 8, 8), 10)
        return fc.nn.Sequential(fc.nn.Conv2d(1, 16, 3), fc.nn.BatchNorm2d(16), fc.nn.ReLU(), fc.nn.Flatten(),
                                fc.nn.Linear(576, 10))

    for module in (network, network((1, 8, 8), 10)):
        model = ConvClassifier(module, image_shape=(1, 8, 8), max_iter=8, random_state=0).fit(X, names[y])
        assert model.score(Z, names[t]) > 0.95 and isinstance(model.module_, fc.nn.Sequential)
    assert model.module_ is not model.module


def test_partial_fit_and_early_stopping(digits):
    X, Z, y, t = digits
    model = ConvClassifier(image_shape=(1, 8, 8), random_state=0)
    with pytest.raises(ValueError, match="classes must be given"):
        model.partial_fit(X, y)
    for _ in range(6):
        model.partial_fit(X, y, classes=range(10))
    assert model.score(Z, t) > 0.9 and model.n_iter_ == 6
    with pytest.raises(ValueError, match="not among those of the first"):
        model.partial_fit(X[:3], [1, 2, 11])
    with pytest.raises(ValueError, match="differ from those of the first"):
        model.partial_fit(X, y, classes=range(11))
    model = ConvClassifier(image_shape=(1, 8, 8), random_state=0, early_stopping=True, n_iter_no_change=3, max_iter=60)
    model.fit(X, y)
    assert model.n_iter_ < 60 and len(model.validation_scores_) == model.n_iter_ and model.score(Z, t) > 0.95
    assert ConvClassifier(random_state=0, tol=1e9, n_iter_no_change=2).fit(X, y).n_iter_ == 3


def test_pipelines_grid_search_and_cross_validation(digits):
    X, Z, y, t = digits
    X, y = X[:400], y[:400]
    pipeline = make_pipeline(StandardScaler(), ConvClassifier(image_shape=(1, 8, 8), max_iter=20, random_state=0))
    search = GridSearchCV(pipeline, {"convclassifier__hidden": [(8,), (16, 32)]}, cv=3).fit(X, y)
    assert search.best_params_["convclassifier__hidden"] == (16, 32) and search.score(Z, t) > 0.85
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.8


def test_regression():
    X, y = load_diabetes(return_X_y=True)
    model = ConvRegressor(max_iter=60, random_state=0, weight_decay=1e-3)
    assert cross_val_score(model, X, y, cv=3).mean() > 0.35
    both = np.stack([y, -2 * y], 1)
    model.fit(X, both)
    assert model.predict(X).shape == both.shape and model.score(X, both) > 0.4
    model = ConvRegressor(max_iter=30, random_state=0, early_stopping=True).fit(X, y)
    assert model.predict(X).shape == y.shape
    for _ in range(3):
        model.partial_fit(X, y)


def test_the_generator_of_the_process_is_left_alone(digits):
    X, _, y, _ = digits
    fc.manual_seed(7)
    before = fc.nn.Linear(3, 3).weight.data.copy()
    fc.manual_seed(7)
    ConvClassifier(max_iter=1, random_state=0).fit(X[:50], y[:50])
    np.testing.assert_array_equal(fc.nn.Linear(3, 3).weight.data, before)


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"max_iter": 0}, ValueError, "max_iter=0: expected an integer of at least 1"),
    ({"batch_size": 2.5}, ValueError, "batch_size=2.5"),
    ({"learning_rate": 0}, ValueError, "learning_rate=0: expected a number above"),
    ({"optimizer": "lbfgs"}, ValueError, "optimizer='lbfgs'"), ({"module": 3}, TypeError, "module is a int"),
    ({"n_jobs": 0}, ValueError, "n_jobs=0"), ({"validation_fraction": 1.0}, ValueError, "validation_fraction=1.0"),
    ({"image_shape": (1, 7, 8)}, ValueError, "image_shape=(1, 7, 8) has 56"),
    ({"image_shape": (64,)}, ValueError, "image_shape=(64,): expected (C, H, W)")])
def test_wrong_settings(digits, settings, error, message):
    X, _, y, _ = digits
    for estimator in (ConvClassifier, ConvRegressor):
        with pytest.raises(error) as caught:
            estimator(**settings).fit(X, y)
        assert message in str(caught.value)


def test_wrong_samples(digits):
    X, Z, y, _ = digits
    model = ConvClassifier(image_shape=(1, 8, 8), max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="63 features"):
        model.predict(Z[:, :63])
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.where(Z > 10, np.nan, Z))
    with pytest.raises(ValueError, match="Unknown label type"):
        ConvClassifier().fit(X, y + 0.5)


def test_the_default_network_of_every_shape():
    for shape in ((1, 5), (1, 100), (3, 7), (3, 16, 9), (1, 1, 1), (2, 5, 6, 7)):
        net = convnet(shape, 4)
        assert fc.compile(net, (2, *shape))(np.zeros((2, *shape), np.float32)).shape == (2, 4)

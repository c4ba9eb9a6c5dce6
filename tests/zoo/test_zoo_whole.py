"""Every network of the zoo, whole, at its real widths: output, all gradients, running statistics, and inference.

The truth is float64, by networks that were written a second time (``zoo_networks.py``) over PyTorch or over the reference in
NumPy (``zoo_backends.py``). Kernels take other branches where channels are many, which no test of a small layer sees.
"""

import gradients as graph_gradients
import numpy as np
import pytest
from zoo_backends import Numpy, Torch
from zoo_networks import NETWORKS

import fastconv as fc
from fastconv import nn, zoo

TIMES = 5  # errors may be so many times those of PyTorch's float32
CLOSE = 2e-5  # and, where PyTorch's are small enough for that, below this, relative to the gradient
CLASSES = 11
FAMILIES = ("lenet5", "alexnet", "vgg11_bn", "resnet50", "mobilenet_v1", "mobilenet_v2")  # with NumPy alone


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="without PyTorch, one network of each family is compared with NumPy")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its threads wait for each other forever where others use the processor
    yield torch
    torch.set_num_threads(threads)


class Spy(nn.Module):
    """A network that also returns what each of its activations made."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []
        for module in list(net.modules()):
            for name, child in list(module._modules.items()):
                if isinstance(child, (nn.ReLU, nn.ReLU6)):
                    module.add_module(name, Noting(child, self.seen))

    def forward(self, x):
        self.seen.clear()
        return self.net(x), *self.seen


class Noting(nn.Module):
    def __init__(self, inner, seen):
        super().__init__()
        self.inner, self.seen = inner, seen

    def forward(self, x):
        self.seen.append(self.inner(x))
        return self.seen[-1]


def build(name, smooth):
    """The network, far from its initial state, without dropout; with ``smooth``, SiLU and mean pooling in place of kinks."""
    fc.manual_seed(3)
    keywords = {"batch_norm": True} if name.endswith("_bn") else {}
    net, rng = zoo.create(name.removesuffix("_bn"), num_classes=CLASSES, **keywords), np.random.default_rng(4)
    for module in list(net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = rng.uniform(0.5, 1.5, shape) * (0.3 if smooth else 1)  # small ones: errors do not grow
            module.bias.data = rng.normal(0, 0.3, shape)
            module.running_mean.data, module.running_var.data = rng.normal(0, 0.3, shape), rng.uniform(0.5, 2, shape)
        elif isinstance(module, nn.Dropout):
            module.eval()
        for key, child in list(module._modules.items()) if smooth else ():
            if isinstance(child, (nn.ReLU, nn.ReLU6)):
                module.add_module(key, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                module.add_module(key, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return net


class Case:
    """A network of the zoo, its batch, and what fastconv makes of them."""

    def __init__(self, name, smooth):
        self.network, shape = NETWORKS[name]
        self.smooth = smooth
        rng, net = np.random.default_rng(5), build(name, smooth)
        self.x = rng.normal(size=(2, *shape)).astype(np.float32)
        self.gy = rng.normal(size=(2, CLASSES)).astype(np.float32)
        self.state = net.state_dict()
        self.inference = fc.compile(net, self.x.shape)(self.x)
        engine = fc.compile(net, self.x.shape, training=True)
        self.output = engine(self.x)
        engine.backward(self.gy)
        self.statistics = {k: v for k, v in net.state_dict().items() if k.rsplit(".")[-1] in
                           ("running_mean", "running_var", "num_batches_tracked")}
        self.gradients = {n: np.array(p.grad) for n, p in net.named_parameters()}
        del engine
        net.load_state_dict(self.state)
        _, (self.gradients["input"],) = graph_gradients.run(net.symbolic(True), [self.x], self.gy)
        self.decisions = None
        if not smooth:
            net.load_state_dict(self.state)
            output, *self.decisions = fc.compile(Spy(net), self.x.shape, training=True)(self.x)
            np.testing.assert_array_equal(output, self.output)  # the same decisions

    def by(self, backend, **keywords):
        """What a backend makes of it."""
        made = backend(self.state, self.smooth, **keywords)
        result = made.run(self.network, self.x, self.gy, self.decisions)
        assert made.margin <= 1e-3  # the engine decided as float64 does but for what is next to a kink
        return result


def pairs(case, truth):
    """(what, a value, the true one) of everything that is not counted; nothing may be left out, and counts must be right.
    ``case``: fastconv's or a backend's."""
    assert set(case.gradients) == set(truth.gradients) and set(case.statistics) == set(truth.statistics)
    yield "inference", case.inference, truth.inference
    yield "output", case.output, truth.output
    for name, value in case.gradients.items():
        yield f"gradient of {name}", value, truth.gradients[name]
    for name, value in case.statistics.items():
        if name.endswith("num_batches_tracked"):
            assert value == truth.statistics[name] == 1
        else:
            yield name, value, truth.statistics[name]


def distance(a, b):
    return float(np.linalg.norm(np.asarray(a, np.float64) - b))


@pytest.mark.parametrize("smooth", [False, True], ids=["as it is", "smooth"])
@pytest.mark.parametrize("name", NETWORKS)
def test_beside_pytorch(name, smooth, torch):
    """Within 5 times the error of PyTorch's float32, the worse of its memory formats; where that leaves room for it, and
    without kinks, within 2e-5 of the value itself."""
    case = Case(name, smooth)
    truth = case.by(Torch)
    found = {what: [distance(ours, right), 0.0, float(np.linalg.norm(right))] for what, ours, right in pairs(case, truth)}
    for channels_last in (False, True):
        for what, value, right in pairs(case.by(Torch, dtype="float32", channels_last=channels_last), truth):
            found[what][1] = max(found[what][1], distance(value, right))
    judged = 0
    for what, (error, allowed, size) in found.items():
        assert error <= TIMES * allowed + 2.0**-24 * size, f"{what}: {error:.3g} beside {allowed:.3g} of {size:.3g}"
        if smooth and allowed <= CLOSE * size:  # not what is zero but for rounding, as a bias before a normalisation
            judged += 1
            assert error <= CLOSE * size, f"{what}: relative error {error / size:.3g}"
    assert judged >= len(found) * smooth * (0.4 if name == "resnet101" else 0.8)  # errors grow with the depth


@pytest.mark.parametrize("smooth", [False, True], ids=["as it is", "smooth"])
@pytest.mark.parametrize("name", FAMILIES)
def test_beside_numpy(name, smooth):
    """One network of each family, also where there is no PyTorch. The gradient of a bias, which a normalisation behind it
    makes zero but for rounding, is measured by that of the weights beside it."""
    case = Case(name, smooth)
    truth = case.by(Numpy)
    for what, ours, right in pairs(case, truth):
        beside = truth.gradients.get(f"{what.removesuffix('.bias').removeprefix('gradient of ')}.weight", 0.0)
        size = max(np.linalg.norm(right), np.linalg.norm(beside))
        assert distance(ours, right) <= (CLOSE if smooth else 10 * CLOSE) * size, what

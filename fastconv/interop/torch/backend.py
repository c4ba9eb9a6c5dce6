"""``torch.compile(model, backend="fastconv")``: inference. What of a graph cannot be computed here stays PyTorch's."""

from __future__ import annotations

import logging
import operator
from typing import Any

from fastconv._extra import require
from fastconv.engine import general
from fastconv.engine.engine import compile
from fastconv.interop.torch.graph import missing_operators, read_graph, supported
from fastconv.interop.torch.module import TorchModule
from fastconv.interop.torch.sharing import Watch, as_parameter

log = logging.getLogger("fastconv")
OURS = ("float32", "int64", "int32", "uint8", "int8", "bool")  # dtypes; of others PyTorch computes more, or less, exactly
RANK = 8


def compile_fx(graph_module, example_inputs):
    """The backend ``fastconv`` of ``torch.compile``: inference on the CPU.

    What is not ours (operators that are not there, float64, random numbers) runs eagerly, in parts, which is logged as a
    warning; so does all of it where gradients are wanted. Weights are PyTorch's own memory, packed once, and again when they
    have changed in place.
    """
    torch = require("torch", "torch.compile(backend='fastconv')", "bench")
    if torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in example_inputs):
        log.warning("torch.compile: gradients are wanted: runs eagerly; use torch.no_grad() or torch.inference_mode() for "
                    "inference, fastconv.interop.from_torch() and fastconv.Trainer to train here")
        return graph_module.forward
    backends = __import__("torch._dynamo.backends.common", fromlist=["aot_autograd"])
    return backends.aot_autograd(fw_compiler=lambda module, inputs: lower(torch, module))(graph_module, example_inputs)


def lower(torch, module):
    """A graph of ATen operators, its parts that can run here replaced."""
    from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner

    class Ours:
        def is_node_supported(self, submodules, node) -> bool:
            return node.op == "call_function" and fits(torch, node)

    context = torch._guards.TracingContext.try_get()
    metadata = getattr(context, "fw_metadata", None)
    static = set(getattr(metadata, "static_input_indices", None) or ())
    weights = {node.name for i, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder") if i in static}
    partitioner = CapabilityBasedPartitioner(module, Ours(), allows_single_node_partition=True)  # type: ignore[arg-type]
    parts = partitioner.propose_partitions()
    left = [n for n in module.graph.nodes if n.op == "call_function" and not fits(torch, n) and not _integers(torch, n)]
    if left:
        names = dict.fromkeys(_name(torch, n) + _why(torch, n) for n in left)
        count = sum(n.op == "call_function" for n in module.graph.nodes)
        log.warning("torch.compile: %s: %s", "a graph runs eagerly" if not parts else
                    f"of a graph {len(left)} of {count} operators run eagerly", ", ".join(names))
    if not parts:
        return module.forward
    whole = partitioner.fuse_partitions(parts)
    for node in whole.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("fused_"):
            part = getattr(whole, node.target)
            setattr(whole, node.target, _module(torch, Runner(torch, part, [
                isinstance(a, torch.fx.Node) and a.name in weights for a in node.args])))
    whole.recompile()
    return whole.forward


def _tensors(torch, value) -> list | None:
    """The tensors of a node's value; None where it is something else."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)) and value and all(v is None or isinstance(v, torch.Tensor) for v in value):
        return [v for v in value if v is not None]
    return None


def _integers(torch, node) -> bool:
    """Whether a node computes extents."""
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _fits(torch, value) -> bool:
    return value.device.type == "cpu" and str(value.dtype).removeprefix("torch.") in OURS and value.ndim <= RANK and \
        value.layout is torch.strided


def fits(torch, node) -> bool:
    """Whether a node may run here: its operator is there, and its tensors are such as we have."""
    made = _tensors(torch, node.meta.get("val"))
    if "scaled_dot_product" in str(node.target) and any(isinstance(a, float) and a > 0 for a in node.args[3:5]):
        return False  # dropout
    if made is None or not supported(node, torch, drawn=False):
        return False
    given = [t for n in node.all_input_nodes for t in _tensors(torch, n.meta.get("val")) or ()]
    return all(_fits(torch, t) for t in (*made, *given))


def _name(torch, node) -> str:
    target = node.target
    return target._schema.name.replace("::", ".") if isinstance(target, torch._ops.OpOverload) else str(target)


def _why(torch, node) -> str:
    if not supported(node, torch):
        return ""
    if not supported(node, torch, drawn=False):
        return " (draws random numbers)"
    given = [t for n in (node, *node.all_input_nodes) for t in _tensors(torch, n.meta.get("val")) or ()]
    odd = dict.fromkeys(str(t.dtype).removeprefix("torch.") if t.device.type == "cpu" else str(t.device) for t in given
                        if not _fits(torch, t))
    return f" ({', '.join(odd)})" if odd else ""


def _module(torch, runner: Runner):
    class Fused(torch.nn.Module):
        def forward(self, *values):
            return runner(*values)

    return Fused()


class Runner:
    """Runs one graph: compiled when it is first called with such shapes, PyTorch's own where that fails."""

    def __init__(self, torch, module, static: list[bool]):
        self.torch, self.module, self.static = torch, module, static
        self.graph: Any = None
        self.weights: list = []
        self.places: list[int] = []
        self.parameters: list = []
        self.ready: dict[tuple, Any] = {}
        self.single = not isinstance(next(n for n in module.graph.nodes if n.op == "output").args[0], (tuple, list))
        try:
            if self.single:
                output = next(n for n in module.graph.nodes if n.op == "output")
                output.args = ([output.args[0]],)
            missing = missing_operators(module.graph, torch, drawn=False)
            if missing:
                raise NotImplementedError(f"operators that fastconv does not have: {', '.join(missing)}")
            self.graph = read_graph(module.graph, torch)
        except NotImplementedError as error:
            log.warning("torch.compile: a graph runs eagerly: %s", error)

    def __call__(self, *values):
        with self.torch.no_grad():
            results = self.run(values)
        return results[0] if self.single else results

    def run(self, values: tuple):
        weights = [v for v, fixed in zip(values, self.static, strict=True) if fixed]
        if self.graph is not None and any(w.is_inference() for w in weights):
            log.warning("torch.compile: a graph runs eagerly: its weights were made in inference mode, where PyTorch counts "
                        "no changes")
            self.graph = None
        if self.graph is None:
            return self.module(*values)
        places = [w.data_ptr() for w in weights]
        if len(weights) != len(self.weights) or places != self.places or not all(map(operator.is_, weights, self.weights)):
            self.take(weights, places)
        torch = self.torch
        given = [v.detach().numpy() if isinstance(v, torch.Tensor) else v
                 for v, fixed in zip(values, self.static, strict=True) if not fixed]
        key = tuple((v.shape, v.dtype.name) if hasattr(v, "dtype") else v for v in given)
        function = self.ready.get(key)
        if function is None:
            try:
                function = self.make(given)
                results = function(given)
            except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
                log.warning("torch.compile: a graph runs eagerly: %s", error)
                self.graph = None
                return self.module(*values)
            self.ready[key] = function
        else:
            results = function(given)
        return [torch.from_numpy(a) for a in results]

    def take(self, weights: list, places: list[int]) -> None:
        """Lays parameters into the memory of weights, which are others than before."""
        self.ready.clear()
        self.weights, self.places = weights, places
        self.parameters = [as_parameter(w, True) for w in weights]
        shared = [p for p in self.parameters if hasattr(p, "tensor")]
        Watch(shared, [p.tensor for p in shared])

    def make(self, given: list):
        """A function of arrays (and integers, which are fixed)."""
        names = list(self.graph.inputs)
        fixed = [n for n, s in zip(names, self.static, strict=True) if s]
        free = [n for n, s in zip(names, self.static, strict=True) if not s]
        arrays = {n: v for n, v in zip(free, given, strict=True) if hasattr(v, "dtype")}
        module = TorchModule(self.graph._replace(inputs=dict.fromkeys(arrays)), list(self.graph.outputs))
        module._followed.constants.update({n: v for n, v in zip(free, given, strict=True) if n not in arrays})
        for name, parameter in zip(fixed, self.parameters, strict=True):
            if hasattr(parameter, "edit"):
                module._own(name, (name,), parameter, True, True)
            else:
                module._followed.constants[name] = parameter
        module.eval()
        if arrays and len({v.shape[:1] for v in arrays.values()}) == 1 and all(v.ndim and v.size for v in arrays.values()):
            engine = compile(module, {n: (v.shape, v.dtype.name) for n, v in arrays.items()})
            return lambda values: engine(*(v for v in values if hasattr(v, "dtype")))
        # extents in front that differ: no batch
        held = [*arrays.values(), *(p.data if hasattr(p, "edit") else p for p in self.parameters)]
        order = [*arrays, *fixed]

        def body(*tensors):
            known = dict(zip(order, tensors, strict=True))
            for name, (home, key) in module._followed.places.items():
                home._buffers.pop(key, None)
                module._followed.constants.pop(name, None)
            module._followed.places = {}
            module._followed.constants.update({n: known[n] for n in fixed})
            return module(*(known[n] for n in arrays))

        compiled = general.compile_function("torch.compile", body, tuple(
            general.Place(i, a.shape, a.dtype.name) for i, a in enumerate(held)), held)
        return lambda values: compiled.run([*(v for v in values if hasattr(v, "dtype")), *held[len(arrays):]], 1)


def register_backend() -> None:
    """Makes ``torch.compile(model, backend="fastconv")`` find :func:`compile_fx`; of an installed fastconv PyTorch
    knows by an entry point."""
    torch = require("torch", "torch.compile(backend='fastconv')", "bench")
    from torch._dynamo import register_backend as register

    if "fastconv" not in torch._dynamo.list_backends():
        register(compile_fx, name="fastconv")

"""Modules of PyTorch as modules of fastconv."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._extra import require
from fastconv.graph.ir import scope
from fastconv.graph.parameter import Parameter
from fastconv.interop.imported import Followed, Graft, Imported, Part
from fastconv.interop.torch.graph import Call, Graph, Ref, filled, read_graph
from fastconv.interop.torch.rules import MODES, call
from fastconv.interop.torch.sharing import SharedParameter, Watch, as_parameter

log = logging.getLogger("fastconv")


class TorchPart(Part):
    """A submodule of PyTorch's: its parameters, and the mode that its batch normalisations and dropouts follow."""


class TorchGraph(Followed):
    """A graph of PyTorch's as a module follows it."""

    def __init__(self, graph: Graph, outputs: Any):
        super().__init__()
        self.nodes = list(graph.nodes)
        self.inputs, self.leaves, self.outputs = graph.inputs, graph.outputs, outputs


class TorchModule(Imported):
    """A network that was a module of PyTorch; parameters and buffers have the names that they had there."""

    _part = TorchPart

    def __init__(self, graph: Graph, outputs: Any):
        super().__init__()
        self._followed = TorchGraph(graph, outputs)

    def _node(self, node: Call):
        return node.reads(), (node.name,), node.path

    def _results(self) -> Sequence[str]:
        return [leaf for leaf in self._followed.leaves if isinstance(leaf, Ref)]

    def _own(self, name: str, places: Sequence[str], value: np.ndarray | Parameter, buffer: bool, kept: bool) -> None:
        """Takes over a parameter, or a buffer, that the graph knows as ``places``; ``kept``: it is in state dicts."""
        home, last = self._home(name)
        if buffer or not isinstance(value, Parameter):
            home.register_buffer(last, value, kept)
            home._buffers[last] = value  # counts of batches too are PyTorch's own
        else:
            home.register_parameter(last, value)
        self._followed.places.update(dict.fromkeys(places, (home, last)))

    def forward(self, *inputs):
        followed = self._followed
        if len(inputs) != len(followed.inputs):
            raise TypeError(f"TorchModule: {len(inputs)} inputs given, {len(followed.inputs)} expected: "
                            f"{', '.join(followed.inputs)}")
        known = self._known()
        for (name, extents), value in zip(followed.inputs.items(), inputs, strict=True):
            shape = tuple(getattr(value, "shape", ()))
            if extents is not None and (len(shape) != len(extents) or
                                        any(e is not None and e != s for e, s in zip(extents, shape, strict=True))):
                raise ValueError(f"TorchModule: {name} has shape {shape}: the module was traced for "
                                 f"({', '.join('?' if e is None else str(e) for e in extents)}); "
                                 "from_torch(..., dynamic_shapes=) says what else may be any")
            known[name] = value
        for node in followed.nodes:
            if isinstance(node, Graft):
                known[node.writes] = node(known[node.reads])
                continue
            with scope(node.path):
                training = node.fixed if node.fixed is not None else node.op in MODES and self._mode(node.path)
                keywords = filled(node.kwargs, known)
                if node.op == "batch_norm":
                    keywords["counter"] = followed.parts.get(node.path, self)._buffers.get("num_batches_tracked")
                known[node.name] = call(node.op, node.target, filled(node.args, known), keywords, training)
        return filled(followed.outputs, known)

    def _mode(self, path: str) -> bool:
        return self._followed.parts.get(path, self).training

    def touch(self) -> None:
        """Says that shared weights have changed in a way that PyTorch does not count: through ``tensor.numpy()``,
        ``tensor.data``, or another library."""
        for parameter in {id(p): p for p in (*self.parameters(), *self.buffers()) if isinstance(p, Parameter)}.values():
            parameter.touch()


def from_torch(module, example, dynamic_batch: bool = True, *, dynamic_shapes=None, share: bool = True) -> TorchModule:
    """Makes a module of one of PyTorch's, by ``torch.export``.

    Parameters
    ----------
    module : torch.nn.Module
    example : torch.Tensor, or tuple of such
        Inputs for which its forward is traced.
    dynamic_batch : bool, default True
        Whether the first extent of every input may be any. Where the module does not allow that, a warning says so.
    dynamic_shapes : optional
        What else may be any, as ``torch.export`` takes it; in place of ``dynamic_batch``.
    share : bool, default True
        Whether weights are the module's own memory, where they are dense float32 on the CPU in C order: what either side
        trains the other has. What PyTorch changes in place (``optimizer.step()``, ``load_state_dict``) engines notice; for
        changes that PyTorch does not count call :meth:`TorchModule.touch`. Other weights are copied. False: all are.

    Returns
    -------
    TorchModule
        Each part in the mode that it has in ``module``; batch normalisation and dropout follow the mode of their part, so
        that ``net.get_submodule("bn1").eval()`` freezes statistics.

    Raises
    ------
    NotImplementedError
        Operators that are not there: all of them.
    TypeError, ValueError
        What is no module, and what ``torch.export`` refuses.
    ImportError
        torch is not installed.
    """
    torch = require("torch", "from_torch", "bench")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: module is a {type(module).__name__}: expected a torch.nn.Module")
    inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    for i, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"from_torch: example holds something that is no tensor: a {type(x).__name__} at {i}")
    exported = _exported(torch, module, inputs, dynamic_batch, dynamic_shapes)
    signature = exported.graph_signature
    given = [n for n in signature.user_inputs if isinstance(n, str)]
    if len(given) != len(inputs):
        raise ValueError(f"from_torch: the module takes {len(given)} tensors, the example has {len(inputs)}")
    kinds = [spec.kind.name == "USER_OUTPUT" for spec in signature.output_specs]
    buffers = {**signature.inputs_to_buffers}
    modes = {name: part.training for name, part in module.named_modules()}
    graph = read_graph(exported.graph, torch, kinds, modes, {**buffers})
    graph = graph._replace(inputs={name: graph.inputs[name] for name in given})
    result = TorchModule(graph, torch.utils._pytree.tree_unflatten(graph.outputs, exported.call_spec.out_spec))
    for name in sorted({node.path for node in graph.nodes if node.path and node.path in modes}):
        result._branch(name.split("."))
    _take_weights(result, torch, module, exported, share)
    for name, part in module.named_modules():
        mine = result._followed.parts.get(name, None if name else result)
        if mine is not None:
            mine.training = part.training
            if isinstance(mine, TorchPart):
                mine.kind = type(part).__name__
    return result


def _exported(torch, module, inputs: tuple, dynamic_batch: bool, dynamic_shapes):
    """The program that ``torch.export`` makes of a module."""
    shapes = dynamic_shapes
    if shapes is None and dynamic_batch and inputs and all(x.ndim for x in inputs):
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in inputs)
        if any(x.shape[0] < 2 for x in inputs):  # an extent of 1 would be taken for one that is always 1
            inputs = tuple(torch.cat([x, x]) for x in inputs)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused operators without names of their own
    try:
        with torch.enable_grad():
            return torch.export.export(module, inputs, dynamic_shapes=shapes)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if shapes is None or dynamic_shapes is not None:
            raise ValueError(f"from_torch: torch.export refuses the module: {first}") from error
        log.warning("from_torch: the batch stays as in the example, %s (%s)", [tuple(x.shape) for x in inputs], first)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return _exported(torch, module, inputs, False, None)


def _take_weights(result: TorchModule, torch, module, exported, share: bool) -> None:
    """Gives a module its weights: one parameter for each of PyTorch's, under all of its names."""
    signature = exported.graph_signature
    places: dict[str, list[str]] = {}
    for place, name in {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.items():
        places.setdefault(name, []).append(place)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    own = {**parameters, **dict(module.named_buffers(remove_duplicate=False))}
    kept = {*module.state_dict(keep_vars=True), *places}
    made: dict[int, Any] = {}
    narrowed = set()
    for name in [n for n in own if n in kept]:  # those that the graph does not read, too: state dicts agree
        tensor = own[name]
        if id(tensor) not in made:
            made[id(tensor)] = as_parameter(tensor, share)
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                narrowed.add(str(tensor.dtype).removeprefix("torch."))
        result._own(name, places.get(name, ()), made[id(tensor)], name not in parameters, name in module.state_dict())
    lost = [name for name in places if name not in own]
    if lost:
        raise ValueError(f"from_torch: {lost[0]} is neither a parameter nor a buffer of the module")
    weights = [value for value in made.values() if isinstance(value, Parameter)]
    lying = [value for value in weights if isinstance(value, SharedParameter)]
    pairs = [(value, value.tensor) for value in lying]
    for part in module.modules():  # of running statistics PyTorch counts no changes: their number of batches speaks for them
        count = getattr(part, "num_batches_tracked", None)
        if isinstance(count, torch.Tensor):
            mine = [made.get(id(buffer)) for buffer in part.buffers(recurse=False)]
            pairs += [(value, count) for value in mine if isinstance(value, SharedParameter)]
    Watch([p for p, _ in pairs], [t for _, t in pairs])
    if narrowed:
        log.warning("from_torch: weights of %s have become float32", ", ".join(sorted(narrowed)))
    if share and len(lying) < len(weights):
        log.info("from_torch: %d of %d weights are copies: they are not dense float32 on the CPU in C order",
                 len(weights) - len(lying), len(weights))
    for place, name in dict(getattr(signature, "inputs_to_lifted_tensor_constants", {})).items():
        array = exported.constants[name].detach().cpu()
        result._followed.constants[place] = (array.float() if array.is_floating_point() else array).numpy()

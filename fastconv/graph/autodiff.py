"""Reverse-mode differentiation: gradient rules add nodes to the same graph, so backward is planned like forward."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.graph.ir import FLAT, Graph, Tensor, apply, building


def differentiate(graph: Graph, seeds: Sequence[tuple[Tensor, Tensor | None]],
                  wanted: Sequence[Tensor]) -> list[Tensor | None]:
    """Adds the backward nodes.

    Parameters
    ----------
    graph : Graph
        Gets the new nodes, in segment ``backward``.
    seeds : list of (tensor, gradient)
        Where differentiation starts; a gradient of None is the constant 1 of a scalar loss.
    wanted : list of Tensor
        Inputs or parameters whose gradients are needed; everything else is left out.

    Returns
    -------
    list
        One gradient per wanted tensor; None where no path leads there.
    """
    needed = set(wanted)
    for node in graph.nodes:
        if not node.frozen and any(t in needed for t in node.inputs if t is not None):
            needed.update(node.outputs)
    gradients: dict[Tensor, Tensor] = {}
    ones: set[Tensor] = set()
    forward_nodes = list(graph.nodes)
    graph.segment = "backward"
    for tensor, gradient in seeds:
        if gradient is None and tensor.node is not None and tensor.node.op.starts:
            ones.add(tensor)
        elif gradient is None:  # a sum of losses, say
            with building(graph, ""):
                _accumulate(gradients, tensor, apply("constant", [], shape=tensor.shape, value=1.0))
        else:
            _accumulate(gradients, tensor, gradient)  # an output may be returned twice
    for node in reversed(forward_nodes):
        if not any(out in gradients or out in ones for out in node.outputs):
            continue
        if node.frozen or not any(t in needed for t in node.inputs if t is not None):
            continue
        if node.op.gradient is None:
            raise NotImplementedError(f"{node.op.name} '{node.path}': has no gradient")
        with building(graph, node.path):
            grads = node.op.gradient(node, [_as_it_lies(gradients.get(out), out) for out in node.outputs])
            for tensor, grad in zip(node.inputs, grads, strict=True):
                if tensor is None or grad is None or tensor not in needed:
                    continue
                _accumulate(gradients, tensor, grad)
    graph.segment = "forward"
    graph.roots.update(g for g in (gradients.get(t) for t in wanted) if g is not None)
    remove_dead(graph, list(graph.roots))
    return [gradients.get(t) for t in wanted]


def _as_it_lies(gradient: Tensor | None, tensor: Tensor) -> Tensor | None:
    """The gradient in the layout of the tensor that it is of: what gradient rules expect."""
    if gradient is None or gradient.layout == tensor.layout:
        return gradient
    return apply("layout", [gradient], layout=tensor.layout)


def _accumulate(gradients: dict[Tensor, Tensor], tensor: Tensor, gradient: Tensor) -> None:
    """Adds a gradient to what has reached the tensor on other paths."""
    if tensor in gradients:
        kind = "add_flat" if tensor.layout == FLAT else "add"
        gradient = apply(kind, [gradients[tensor], gradient])
    gradients[tensor] = gradient


def remove_dead(graph: Graph, roots: Sequence[Tensor] = ()) -> None:
    """Drops nodes that nothing needs: neither an output of the graph, nor a root, nor a node with an effect."""
    alive = set(graph.outputs) | set(roots)
    keep = []
    for node in reversed(graph.nodes):
        if node.attrs.get("effect") or any(out in alive for out in node.outputs):
            keep.append(node)
            alive.update(t for t in node.inputs if t is not None)
    graph.nodes = keep[::-1]

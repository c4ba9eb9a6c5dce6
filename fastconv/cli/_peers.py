"""Other engines on the same network: its graph and weights go to a process per peer, and they are timed in turn.

A waiting thread pool spins and would spoil the others' times, so a process stands still (SIGSTOP) while it is not asked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from fastconv.graph.ir import Graph, Tensor
from fastconv.graph.trace import trace

ROUNDS = 7
CLOSE = 1e-2  # of the largest output: a peer that differs by more computes something else


def installed(name: str) -> bool:
    """Whether a peer can be imported; onnxruntime and openvino are given an ONNX model, which needs onnx."""
    needed = [name] if name == "torch" else [name, "onnx"]
    return all(importlib.util.find_spec(module) for module in needed)


def race(names: Sequence[str], network, x: np.ndarray, y: np.ndarray, burst: Callable[[float], list[float]], seconds: float,
         threads: int) -> dict[str, list[list[float]]]:
    """Seconds of runs, by round, of fastconv (``burst``) and the best variant of each peer, interleaved.

    Raises
    ------
    ValueError
        A peer does not support the network, failed, or computes something else.
    """
    graph, _ = trace(network.symbolic(False), [(x.shape, "input")])
    nodes, weights = describe(graph)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(os.path.join(folder, "weights.npz"), **weights)  # type: ignore[arg-type]
        np.save(os.path.join(folder, "x.npy"), x)
        with open(os.path.join(folder, "graph.json"), "w") as file:
            json.dump(nodes, file)
        peers: list[Peer] = []
        try:
            for name in names:
                peers.append(Peer(name, folder, threads))
                peers[-1].check(y)
            variants = [(peer, variant) for peer in peers for variant in peer.variants]
            times: dict = {"fastconv": []}
            for _ in range(ROUNDS):
                times["fastconv"].append(burst(seconds / ROUNDS))
                for peer, variant in variants:
                    answer = peer.ask({"variant": variant, "seconds": seconds / ROUNDS / len(peer.variants)})
                    times.setdefault((peer.name, variant), []).append(answer["times"])
        finally:
            for peer in peers:
                peer.close()
    best = {"fastconv": times["fastconv"]}
    for peer in peers:
        variant = min(peer.variants, key=lambda v: np.median([np.median(t) for t in times[peer.name, v]]))
        best[f"{peer.name} {peer.version} ({variant})"] = times[peer.name, variant]
    return best


def describe(graph: Graph) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Nodes as (op, inputs, output, attributes) with names for tensors, and the parameters by name.

    The first node's input is "x", the graph's output "y".
    """
    names: dict[Tensor, str] = {graph.inputs[0]: "x"}
    weights: dict[str, np.ndarray] = {}
    nodes = []
    for number, node in enumerate(graph.nodes):
        inputs = []
        for tensor in node.inputs:
            if tensor is not None and tensor.parameter is not None and tensor not in names:
                names[tensor] = f"w{len(weights)}"
                weights[names[tensor]] = tensor.parameter.data
            inputs.append(None if tensor is None else names[tensor])
        names[node.output] = "y" if node.output is graph.outputs[0] else f"t{number}"
        attributes = {key: value for key, value in node.attrs.items() if not isinstance(value, np.ndarray)}
        nodes.append({"op": node.op.name, "path": node.path, "inputs": inputs, "output": names[node.output],
                      "shape": list(node.inputs[0].shape), "result": list(node.output.shape),
                      "attributes": attributes})
    return nodes, weights


class Peer:
    """A process of ``fastconv.cli._peer``."""

    def __init__(self, name: str, folder: str, threads: int):
        self.name, self.folder = name, folder
        variables = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        variables["PYTHONWARNINGS"] = "ignore"  # what peers announce about themselves is not the user's affair here
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen([sys.executable, "-m", "fastconv.cli._peer", name, folder, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **variables})
        assert self.process.stdin and self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout
        answer = self._answer()
        self.variants, self.version = answer["variants"], answer["version"]

    def check(self, y: np.ndarray) -> None:
        """Whether it computes what fastconv does, both in float32."""
        for variant in self.variants:
            other = np.load(os.path.join(self.folder, f"{self.name}-{variant}.npy"))
            if other.shape != y.shape or not np.abs(other - y).max() <= CLOSE * np.abs(y).max():
                raise ValueError(f"--against {self.name}: {variant} computes something else than fastconv")

    def ask(self, message: dict) -> dict:
        self._signal("SIGCONT")
        self.input.write(json.dumps(message) + "\n")
        self.input.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.output.readline()
        if not line:
            raise ValueError(f"--against {self.name}: its process ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(f"--against {self.name}: {answer['error']}")
        self._signal("SIGSTOP")
        return answer

    def _signal(self, name: str) -> None:
        """Where there are no such signals it sleeps on its pipe."""
        if hasattr(signal, name):
            self.process.send_signal(getattr(signal, name))

    def close(self) -> None:
        self.process.kill()  # also ends a stopped process
        self.process.wait()
        self.input.close()
        self.output.close()

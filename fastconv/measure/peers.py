"""One process per peer, stopped while another is timed: idle thread pools spin, and a spinning one spoils the others.

The protocol is a line of JSON each way. The parent sends ``prepare`` (module and job), ``time``, ``release``; the child
calls ``prepare_<peer>(job)`` of the module, which returns a list of :class:`fastconv.measure.timing.Variant`. ``compute``
calls ``compute_<peer>(job)``, which returns something that JSON can hold. ``memory`` prepares a job and runs it, in a
process that has done nothing else, and says what memory that took.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import traceback

from fastconv._extra import how
from fastconv.measure import CAPS, memory, timing


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """The same number of threads and the same cap on the instruction set for everyone."""
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    if isa is not None:
        variables |= {"FASTCONV_ISA": isa, **CAPS[isa]}
    return variables


def installed(names: tuple[str, ...] | list[str]) -> tuple[list[str], list[str]]:
    """(those that can be imported, a line about each of the others)."""
    here = [n for n in names if not missing(n)]
    return here, [f"{n}: {' and '.join(missing(n))} not installed: {how(missing(n), 'bench')}"
                  for n in names if n not in here]


def missing(name: str) -> list[str]:
    """The modules that a peer needs and that are not installed: ONNX Runtime and OpenVINO read ONNX models."""
    return [module for module in ([name] if name == "torch" else [name, "onnx"]) if not importlib.util.find_spec(module)]


class PeerError(RuntimeError):
    """What went wrong in the process of a peer, in one line; ``traceback`` is the whole story."""

    def __init__(self, text: str, traceback: str = ""):
        super().__init__(text)
        self.traceback = traceback


class Peer:
    """A child process; a context manager that ends it."""

    def __init__(self, name: str, threads: int, isa: str | None = None):
        self.name, self.environment = name, environment(threads, isa)
        self.start()

    def start(self) -> None:
        variables = {"PYTHONWARNINGS": "ignore",  # what peers announce about themselves is not the user's affair here
                     "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        self.process = subprocess.Popen([sys.executable, "-m", "fastconv.measure.peers", self.name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        start_new_session=True,  # Ctrl-C is the parent's, which ends this process
                                        env={**os.environ, **variables, **self.environment})
        assert self.process.stdin and self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout

    def ask(self, **message) -> dict:
        """Wakes the process, sends a message, waits for the answer, stops the process. One that has died is replaced by a
        new one for the next job.

        Raises
        ------
        PeerError
            When the child has failed; its error is the message, its traceback the attribute ``traceback``.
        """
        if self.process.returncode is not None and message["do"] in ("hello", "prepare", "compute", "memory"):
            self._close()
            self.start()
        self._signal("SIGCONT")
        try:
            self.input.write(json.dumps(message) + "\n")
            self.input.flush()
            line = self.output.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"the process of {self.name} ended with status {self.process.wait()}")
        self._signal("SIGSTOP")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}", answer["traceback"])
        return answer

    def _signal(self, name: str) -> None:
        """Stops or continues all threads of the process; where there are no such signals (Windows) it sleeps on its pipe."""
        if not hasattr(signal, name):
            return
        self.process.send_signal(getattr(signal, name))
        if name == "SIGSTOP":
            os.waitpid(self.process.pid, os.WUNTRACED)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc) -> None:
        self.process.kill()  # also ends a stopped process
        self.process.wait()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may hold what the process did not live to read
            self.input.close()
        self.output.close()


# ---- in the child ---------------------------------------------------------------------------------------------------


def die_with_parent() -> None:
    """A stopped process would otherwise outlive a parent that was killed."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def hello(name: str) -> dict:
    """Versions, and what fastconv found."""
    answer: dict = {"version": importlib.metadata.version(name) if name != "fastconv" else "", "pid": os.getpid()}
    if name == "fastconv":
        import numpy
        import threadpoolctl

        from fastconv._version import __version__
        from fastconv.kernels._runtime import isa_info

        isa = isa_info()
        answer |= {"version": __version__, "isa": isa["isa"], "isa_reason": isa["reason"],
                   "isa_available": isa["available"], "isa_detected": isa["detected"], "numpy": numpy.__version__,
                   "blas": [{k: lib.get(k) for k in ("internal_api", "version", "architecture", "threading_layer")}
                            for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]}
    if name == "torch":
        import torch

        found = re.search(r"(?:MKL-DNN|oneDNN) v([\w.]+)", torch.__config__.show())
        answer["parts"] = {"oneDNN": found[1] if found else "none", "capability": torch.backends.cpu.get_cpu_capability()}
    return answer


def remember(message: dict, name: str) -> dict:
    """What memory a job takes: with the library imported, at most until the first runs are done, and at most in runs."""
    importlib.import_module("fastconv.kernels._runtime" if name == "fastconv" else name)
    imported = memory.resident()["now"]
    (variant,) = getattr(importlib.import_module(message["module"]), f"prepare_{name}")(message["job"])
    with variant.context():
        variant.run()
        whole = memory.resident()["most"]
        gc.collect()
        running = 0
        if memory.forget():
            for _ in range(2):
                variant.run()
            running = memory.resident()["most"]
    return {"imported": imported, "peak": max(whole, running), "running": running, "info": variant.info}


def answer_to(message: dict, name: str, variants: dict[str, timing.Variant]) -> dict:
    if message["do"] == "hello":
        return hello(name)
    if message["do"] == "release":
        variants.clear()
        gc.collect()
        return {}
    if message["do"] == "memory":
        return remember(message, name)
    if message["do"] == "compute":
        return {"result": getattr(importlib.import_module(message["module"]), f"compute_{name}")(message["job"])}
    if message["do"] == "prepare":
        variants.clear()
        gc.collect()
        module = importlib.import_module(message["module"])
        made = getattr(module, f"prepare_{name}")(message["job"])
        variants.update((v.name, v) for v in made)
        gc.collect()
        return {"variants": [{"name": v.name, "info": v.info, "digest": timing.digest(v.output)} for v in made]}
    variant = variants[message["variant"]]
    with variant.context():
        return {"seconds": timing.burst(variant, message["seconds"])}


def serve(name: str) -> None:
    """Answers messages until the pipe closes. What libraries print goes to stderr."""
    die_with_parent()
    gc.disable()  # collected by hand, between measurements
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    variants: dict[str, timing.Variant] = {}
    for line in sys.stdin:
        try:
            answer = answer_to(json.loads(line), name, variants)
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split()), "traceback": traceback.format_exc()}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


if __name__ == "__main__":
    serve(sys.argv[1])

"""One process per peer, stopped while another is timed: idle thread pools spin, and a spinning one spoils the others.

The protocol is a line of JSON each way. The parent sends ``prepare`` (module and job), ``time``, ``release``; the child
calls ``prepare_<peer>(job)`` of the module, which returns a list of :class:`bench.timing.Variant`. ``compute`` calls
``compute_<peer>(job)``, which returns something that JSON can hold.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import traceback

from bench import ROOT, timing

PEERS = ("torch", "onnxruntime", "openvino")
# What each library takes for a cap on its instruction set; ONNX Runtime and OpenVINO know none.
CAPS = {
    "portable": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem",
                 "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell",
             "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
CAPS |= {"avx512_bf16": {**CAPS["avx512"], "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
         "amx": {**CAPS["avx512"], "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}}


def environment(threads: int, isa: str | None) -> dict[str, str]:
    """The same number of threads and the same cap on the instruction set for everyone."""
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    if isa is not None:
        variables |= {"FASTCONV_ISA": isa, **CAPS[isa]}
    return variables


def installed(names: tuple[str, ...] | list[str]) -> tuple[list[str], list[str]]:
    """(those that can be imported, a line about each of the others)."""
    here = [n for n in names if importlib.util.find_spec(n)]
    return here, [f"{n} is not installed and left out (pip install '.[bench]')" for n in names if n not in here]


class Peer:
    """A child process; a context manager that ends it."""

    def __init__(self, name: str, threads: int, isa: str | None = None):
        self.name, self.environment = name, environment(threads, isa)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **self.environment}, cwd=ROOT)
        self.stopped = False

    def ask(self, **message) -> dict:
        """Wakes the process, sends a message, waits for the answer, stops the process.

        Raises
        ------
        RuntimeError
            When the child has failed; its traceback is the message.
        """
        self._signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the process of {self.name} ended with status {self.process.wait()}")
        self._signal("SIGSTOP")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
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
        self.process.stdin.close()
        self.process.stdout.close()


# ---- in the child ---------------------------------------------------------------------------------------------------


def die_with_parent() -> None:
    """A stopped process would otherwise outlive a parent that was killed."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def hello(name: str) -> dict:
    """Versions, and what fastconv found."""
    answer = {"version": importlib.metadata.version(name) if name != "fastconv" else "", "pid": os.getpid()}
    if name == "fastconv":
        import numpy
        import threadpoolctl
        from fastconv.kernels._runtime import isa_info

        import fastconv

        answer |= {"version": fastconv.__version__, "isa": isa_info()["isa"], "isa_reason": isa_info()["reason"],
                   "numpy": numpy.__version__,
                   "blas": [{k: lib.get(k) for k in ("internal_api", "version", "architecture", "threading_layer")}
                            for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]}
    return answer


def answer_to(message: dict, name: str, variants: dict[str, timing.Variant]) -> dict:
    if message["do"] == "hello":
        return hello(name)
    if message["do"] == "release":
        variants.clear()
        gc.collect()
        return {}
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
        except Exception:
            answer = {"error": traceback.format_exc()}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


if __name__ == "__main__":
    serve(sys.argv[1])

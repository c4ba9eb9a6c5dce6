"""Floor 1: the OpenMP loops around the SIMD kernels. Knows nothing of graphs."""

import importlib
import os

from fastconv.kernels.affinity import Unbound


def _load() -> None:
    """Loads the runtime, and with it libgomp where nobody has yet, whose idle threads are then told to spin for about 0.1 ms
    instead of several: between runs they would take processors away from whoever needs them. libgomp reads this once, when
    it is loaded; what the user has set stays, and the environment is left as it was. Where another package's runtime has
    bound this thread to one processor, this one still sees all of them.
    """
    ours = not any(name in os.environ for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"))
    if ours:
        os.environ["GOMP_SPINCOUNT"] = "10000"
    try:
        with Unbound():
            importlib.import_module("fastconv.kernels._runtime")
    finally:
        if ours:
            del os.environ["GOMP_SPINCOUNT"]


_load()

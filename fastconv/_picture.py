"""PNG files drawn with matplotlib, an optional package, written whole or not at all."""

import os

from fastconv._atomic import write_atomic
from fastconv._extra import require


class Picture:
    """A figure of a size in inches, of its own: pyplot would choose a backend for the whole process.

    Raises ValueError where the name does not end in ``.png``, ImportError where matplotlib is not installed.
    """

    def __init__(self, op, path, width, height):
        self.path = os.fsdecode(path)
        if not self.path.lower().endswith(".png"):
            raise ValueError(f"{op}: path={self.path!r} must end in .png")
        backend = require("matplotlib.backends.backend_agg", op)
        self.figure = require("matplotlib.figure", op).Figure(figsize=(width, height), layout="constrained")
        backend.FigureCanvasAgg(self.figure)

    def save(self):
        """Writes the file; an existing one is replaced at once when the new one is complete."""
        with write_atomic(self.path) as file:
            self.figure.savefig(file, format="png", dpi=120)

"""Learning curves as a picture."""

import math
from collections.abc import Iterable, Mapping

from fastconv._picture import Picture


def plot_curve(log, path, title=None):
    """Draw loss and accuracy against epochs as a PNG file.

    Columns with ``loss`` in their name share one diagram, those with ``accuracy`` a second one beside it; either may be
    missing. The values of the column ``epoch`` stand on the horizontal axes, or the numbers of the rows from 1.

    Parameters
    ----------
    log : MetricLog or iterable of dict
        One row per epoch. None and what is not finite leave a gap.
    path : str or os.PathLike
        The file, whose name ends in ``.png``; an existing one is replaced at once when the new one is complete.
    title : str, optional
        What stands above the picture.

    Raises
    ------
    TypeError
        What is not rows of numbers.
    ValueError
        An empty log, no column to draw, or a name that does not end in ``.png``.
    ImportError
        The package matplotlib is not installed.
    OSError
        The file cannot be written.
    """
    if not isinstance(log, Iterable):
        raise TypeError(f"plot_curve: log is a {type(log).__name__}: expected rows, dicts of numbers")
    rows = list(log)
    if not rows:
        raise ValueError("plot_curve: the log is empty")
    if not all(isinstance(row, Mapping) and all(isinstance(column, str) for column in row) for row in rows):
        raise TypeError("plot_curve: log: expected rows, dicts of numbers")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    panels = {word: [column for column in columns if word in column.lower()] for word in ("loss", "accuracy")}
    panels = {word: found for word, found in panels.items() if found}
    if not panels:
        raise ValueError(f"plot_curve: no column of {', '.join(columns)} has loss or accuracy in its name")
    epochs = [row.get("epoch", number) for number, row in enumerate(rows, 1)]

    picture = Picture("plot_curve", path, 5 * len(panels), 3.6)
    axes = picture.figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (word, found) in zip(axes, panels.items(), strict=True):
        for column in found:
            values = [_number(row.get(column)) for row in rows]
            axis.plot(epochs, values, label=column, marker="o" if len(rows) < 30 else None, markersize=3)
        axis.set_xlabel("epoch")
        axis.set_ylabel(word)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    if title:
        picture.figure.suptitle(title)
    picture.save()


def _number(value):
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"plot_curve: log has the value {value!r}: expected numbers") from None

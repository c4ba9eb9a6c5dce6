"""A progress bar on terminals, and nothing elsewhere."""

import sys

from fastconv._text import on_terminal


def progress(iterable=None, desc=None, total=None, leave=True):
    """Show progress with tqdm where it is installed and stderr is a terminal; be silent otherwise.

    Parameters
    ----------
    iterable : iterable or int, optional
        What to iterate over; an int is taken as `total`.
    desc : str, optional
        What stands before the bar.
    total : int, optional
        How many updates to expect; ``len(iterable)`` where there is one.
    leave : bool, default True
        Whether the bar stays when it is full.

    Returns
    -------
    object
        Iterable where `iterable` is, with ``update(n=1)``, ``set_postfix(**values)``, ``close()``, and usable in a
        ``with`` statement: a ``tqdm.tqdm``, or a stand-in that does nothing.

    Examples
    --------
    >>> with progress(loader, "epoch 1") as bar:
    ...     for images, labels in bar:
    ...         bar.set_postfix(loss=0.5)
    """
    if isinstance(iterable, int):
        iterable, total = None, iterable
    if on_terminal(sys.stderr):
        try:
            from tqdm import tqdm
        except ImportError:
            return _Silent(iterable)
        return tqdm(iterable, desc=desc, total=total, leave=leave, dynamic_ncols=True)
    return _Silent(iterable)


def silent(iterable=None, desc=None, total=None, leave=True):
    """What `progress` returns where there is nothing to show."""
    return _Silent(iterable)


class _Silent:
    """The part of tqdm's interface that is promised above, without a bar."""

    def __init__(self, iterable):
        self._iterable = iterable

    def __iter__(self):
        if self._iterable is None:
            raise TypeError("progress: there is nothing to iterate over, only a total was given")
        return iter(self._iterable)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def update(self, n=1):
        pass

    def set_postfix(self, *ordered, **values):
        pass

    def close(self):
        pass


def epoch_line(row: dict, last: int) -> str:
    """What is said of an epoch that is over."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "seconds"))
    return f"epoch {row['epoch']}/{last}  {values}  {row['seconds']:.1f} s"

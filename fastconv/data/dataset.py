"""A dataset in memory."""

import numpy as np

from fastconv._arrays import lent, refuse_masked


class ArrayDataset:
    """Arrays whose rows belong together, such as images and their labels.

    Parameters
    ----------
    *arrays : array_like
        At least one array of one dimension or more; all have the same first dimension, the number of samples.
        Anything with ``__array__``, the buffer protocol or ``__dlpack__`` is taken without a copy where its layout
        allows.

    Attributes
    ----------
    arrays : tuple of numpy.ndarray
        The arrays, in the order given.

    Raises
    ------
    ValueError
        No array, an array without a first dimension, or first dimensions that differ.
    TypeError
        An array of Python objects.

    Examples
    --------
    >>> dataset = ArrayDataset(images, labels)
    >>> image, label = dataset[3]
    >>> few_images, few_labels = dataset[:8]
    """

    def __init__(self, *arrays):
        if not arrays:
            raise ValueError("ArrayDataset: at least one array is needed, got none")
        self.arrays = tuple(_as_array(array, place) for place, array in enumerate(arrays))
        for place, array in enumerate(self.arrays):
            if len(array) != len(self.arrays[0]):
                raise ValueError(
                    f"ArrayDataset: array {place} has {len(array)} rows but array 0 has {len(self.arrays[0])}; "
                    f"the first dimensions must be equal (shapes {[a.shape for a in self.arrays]})"
                )

    def __len__(self):
        """Return the number of samples."""
        return len(self.arrays[0])

    def __getitem__(self, index):
        """Return a tuple with `index` of each array.

        Parameters
        ----------
        index : int, slice or array_like of int or bool
            An int gives single rows, a slice gives views, an array of ints copies those rows in that order
            (C-contiguous arrays), an array of bools of length ``len(self)`` copies the rows that are True.

        Raises
        ------
        IndexError
            A row that is not there, or an index array of another kind.
        """
        if isinstance(index, (int, np.integer, slice)) and not isinstance(index, (bool, np.bool_)):
            return tuple(array[index] for array in self.arrays)
        refuse_masked("ArrayDataset", "index", index)
        rows = np.asarray(index)
        if rows.ndim == 1 and rows.size == 0 and rows.dtype != np.bool_:
            rows = rows.astype(np.intp)  # np.asarray([]) is float64
        if rows.ndim == 1 and rows.dtype == np.bool_:
            if len(rows) != len(self):
                raise IndexError(f"ArrayDataset: a mask of {len(rows)} bools does not fit {len(self)} samples")
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise IndexError(
                f"ArrayDataset: index must be an int, a slice or a 1-D array of ints or bools, "
                f"got {type(index).__name__} of shape {rows.shape} and dtype {rows.dtype}"
            )
        if rows.dtype == np.uint64:
            if rows.size and rows.max() >= len(self):
                raise IndexError(f"ArrayDataset: row {rows.max()} is not in 0..{len(self) - 1}")
            rows = rows.astype(np.intp)  # which take refuses to do: not all of them would fit
        # take and not array[rows]: it gives C order whatever the order of the array is.
        return tuple(array.take(rows, axis=0) for array in self.arrays)

    def __repr__(self):
        parts = ", ".join(f"{array.dtype}{list(array.shape)}" for array in self.arrays)
        return f"ArrayDataset({parts})"


def _as_array(value, place):
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        try:
            value = lent(value)
        except BufferError as error:
            raise TypeError(f"ArrayDataset: array {place} is a {type(value).__name__} that NumPy cannot take "
                            f"({error})") from error
    refuse_masked("ArrayDataset", f"array {place}", value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"ArrayDataset: array {place} holds Python objects (from {type(value).__name__}), not numbers")
    if array.ndim == 0:
        raise ValueError(f"ArrayDataset: array {place} is a single value, it needs a first dimension (samples)")
    return array

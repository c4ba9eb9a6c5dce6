"""Loading of state dicts: all names, shapes and dtypes are checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import is_masked, lent
from fastconv._text import printable
from fastconv.graph.parameter import Parameter

OPTIONAL = "num_batches_tracked"  # files written by PyTorch before 0.4.1 lack it


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find, and what it did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(owner: str, entries: Mapping[str, Any], state_dict: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Checks ``state_dict`` against the entries of a module, then writes it into them; arguments as for :func:`check`."""
    values, incompatible = check(owner, entries, state_dict, strict)
    for name, value in values.items():
        if not value.flags.writeable:
            values[name] = value.copy()  # it may be a parameter's own data, which is about to change
    for name, value in values.items():
        entry = entries[name]
        if isinstance(entry, Parameter):
            entry.data = value
        else:
            entry[...] = value
    return incompatible


def check(owner: str, entries: Mapping[str, Any], state_dict: Mapping[str, Any],
          strict: bool) -> tuple[dict[str, np.ndarray], IncompatibleKeys]:
    """The arrays for the entries of a module; their values are not looked at.

    Parameters
    ----------
    owner : str
        The class of the module, for messages.
    entries : mapping
        Name to Parameter or integer array.
    state_dict, strict
        As for :meth:`Module.load_state_dict`.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{owner}.load_state_dict: state_dict is a {type(state_dict).__name__}: expected a mapping "
                        "from names to arrays")
    missing = [name for name in entries if name not in state_dict and name.rpartition(".")[2] != OPTIONAL]
    unexpected = [str(name) for name in state_dict if name not in entries]
    keys, types = [], []
    if strict and missing:
        keys.append(f"missing: {', '.join(map(printable, missing))}")
    if strict and unexpected:
        keys.append(f"unexpected: {', '.join(map(printable, unexpected))}")
    values = {}
    for name, entry in entries.items():
        if name not in state_dict:
            continue
        try:
            value = values[name] = as_array(state_dict[name])
        except (TypeError, ValueError, BufferError, RuntimeError) as error:
            types.append(f"{name} is a {type(state_dict[name]).__name__}: expected an array ({error})")
            continue
        if value.shape != entry.shape:
            keys.append(f"{name} has shape {value.shape}: expected {entry.shape}")
        if isinstance(entry, Parameter) and value.dtype == np.float16:
            value = values[name] = value.astype(np.float32)  # exact, as bfloat16 is
        if isinstance(entry, Parameter) and value.dtype != np.float32:
            types.append(f"{name} has dtype {value.dtype}: expected float32")
        elif not isinstance(entry, Parameter) and not np.can_cast(value.dtype, entry.dtype, "safe"):
            types.append(f"{name} has dtype {value.dtype}: expected {entry.dtype}")
    if keys or types:
        kind = ValueError if keys else TypeError
        raise kind(f"{owner}.load_state_dict:" + "".join(f"\n  {line}" for line in (*keys, *types)))
    return values, IncompatibleKeys(missing, unexpected)


def as_array(value: Any) -> np.ndarray:
    """A NumPy view or copy of an array-like; a tensor of another library without its history of gradients."""
    if is_masked(value):
        raise TypeError("it is a masked array, and masks are not followed")
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value, np.float32) if value.dtype.name == "bfloat16" else np.asarray(value)
    if hasattr(value, "detach"):
        value = value.detach()
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # NumPy has no such type
        value = value.float()
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return lent(value)
    raise TypeError("it has neither __array__ nor __dlpack__")

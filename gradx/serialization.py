"""Tensors in files: `save` and `load`. Loading executes no code unless asked to."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
from typing import IO, Any

import numpy as np

from gradx import dtypes, variables
from gradx.backends import backend_of
from gradx.modes import no_grad
from gradx.ops.transfer import move
from gradx.placement import resolve
from gradx.variables import Variable

Target = str | os.PathLike[str] | IO[bytes]


def rebuild(data: bytes, shape: tuple[int, ...], dtype: str, device: str, requires_grad: bool) -> Any:
    """A tensor from what `reduce` made of one."""
    array = np.frombuffer(data, dtypes.as_dtype(dtype).dtype).reshape(shape).copy()
    tensor: Any = variables.tensor_type(array)
    with no_grad():
        tensor = move(tensor, resolve(device))
    tensor.needs_grad = requires_grad
    return tensor


def reduce(tensor: Variable) -> tuple[Any, ...]:
    """A tensor for pickle: its elements, dtype, device, and whether it requires grad; no history, no ``.grad``."""
    backend = backend_of(tensor.array)
    array, where = backend.to_host(tensor.array), backend.device_of(tensor.array)
    facts = tuple(array.shape), dtypes.of_numpy(array.dtype).name, str(where), tensor.needs_grad
    return rebuild, (array.tobytes(), *facts)


def save(obj: Any, f: Target) -> None:
    """Write tensors, in dictionaries, lists and tuples as you like, to a file.

    Args:
        f: a path or a file open for writing bytes.
    """
    with _opened(f, "wb") as file:
        pickle.dump(obj, file, protocol=4)


def load(f: Target, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What `save` wrote.

    Args:
        f: a path or a file open for reading bytes.
        map_location: the device to put all tensors on, otherwise those they were on.
        weights_only: accept nothing but tensors, containers and numbers. Set it to False only for files you trust:
            unpickling can execute any code.

    Raises:
        pickle.UnpicklingError: `save` did not write this; or, with `weights_only`, the file holds something else.

    >>> import io, gradx
    >>> file = io.BytesIO()
    >>> gradx.save({"w": gradx.ones(2)}, file)
    >>> _ = file.seek(0)
    >>> gradx.load(file)
    {'w': tensor([1., 1.])}
    """
    with _opened(f, "rb") as file:
        _refuse_what_is_no_pickle(file)
        return (_Restricted if weights_only else _Unrestricted)(file, map_location).load()


def _opened(f: Target, how: str) -> contextlib.AbstractContextManager[Any]:
    return open(f, how) if isinstance(f, (str, os.PathLike)) else contextlib.nullcontext(f)


def _refuse_what_is_no_pickle(file: IO[bytes]) -> None:
    """Pickle would take any bytes for its instructions, and complain of those."""
    start = file.tell()
    first = file.read(1)
    file.seek(start)
    if first not in (b"", pickle.PROTO):
        raise pickle.UnpicklingError(
            "Weights only load failed. The file is not one that gradx.save wrote. If torch.save did, load it with torch, "
            "and take the tensors over with gradx.from_dlpack."
        )


class _Unrestricted(pickle.Unpickler):
    def __init__(self, file: IO[bytes], map_location: Any) -> None:
        super().__init__(file)
        self._where = map_location

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return self._rebuild if found is rebuild else found

    def _rebuild(self, data: bytes, shape: tuple[int, ...], dtype: str, device: str, requires_grad: bool) -> Any:
        return rebuild(data, shape, dtype, device if self._where is None else self._where, requires_grad)


class _Restricted(_Unrestricted):
    allowed = (rebuild, collections.OrderedDict, set, frozenset, complex, dtypes.as_dtype)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in {(thing.__module__, thing.__name__) for thing in self.allowed}:
            raise pickle.UnpicklingError(
                "Weights only load failed. The file refers to "
                f"{module}.{name}, which is neither a tensor nor a container. If you trust whoever made the file, pass "
                "weights_only=False: loading can then execute any code."
            )
        return super().find_class(module, name)

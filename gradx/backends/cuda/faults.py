"""What goes wrong with CUDA's memory, its compiler and its libraries, as one error each, with cause and fix. Imports CuPy.

Nothing is tried again here: when CuPy's pool says that there is no memory, it has given back its free blocks, collected
garbage, and asked the driver once more.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Final

import cupy

from gradx.backends.cuda.status import INSTALL, describe
from gradx.backends.faults import OutOfMemoryError

_NoMemory: Final = cupy.cuda.memory.OutOfMemoryError
_NotCompiled: Final = cupy.cuda.compiler.CompileException

FAULTS: Final = (_NoMemory, _NotCompiled, ImportError)


class Explained:
    """Within it, on `device` if that is given, a lack of memory is raised as gradx's error.

    Args:
        device: CuPy's, to be the current one within; None for the one that is.
        doing: what is done within; of kernels that do not compile and libraries that are missing it is raised too. Left
            out where a kernel is called, which knows its name.
    """

    __slots__ = ("device", "doing")

    def __init__(self, device: Any = None, doing: str = "") -> None:
        self.device, self.doing = device, doing

    def __enter__(self) -> None:
        if self.device is not None:
            self.device.__enter__()

    def __exit__(self, kind: Any, fault: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if isinstance(fault, FAULTS if self.doing else _NoMemory):
                raise explain(fault, self.doing) from None
        finally:
            if self.device is not None:
                self.device.__exit__(kind, fault, trace)


def explain(fault: BaseException, name: str) -> RuntimeError:
    """The error to raise for one of `FAULTS`, on the current device, in the kernel `name`."""
    if isinstance(fault, _NoMemory):
        return _out_of_memory(str(fault))
    if isinstance(fault, _NotCompiled):
        return RuntimeError(
            f"The CUDA kernel of {name} could not be compiled: {_first_error(fault.get_message())}. The compiler, CUDA's "
            f"headers and CuPy do not suit each other: compare what `gradx info` says, then install them anew: {INSTALL}"
        )
    return RuntimeError(
        f"A CUDA library that {name} needs could not be loaded ({describe(fault)}). Install what CuPy needs: {INSTALL}"
    )


def _first_error(log: str) -> str:
    """The compiler's first complaint, without the file's name, which is a temporary one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["no message"]
    first = next((line for line in lines if "error" in line), lines[0])
    return first[max(0, first.find("error")) :].rstrip(".")


def _out_of_memory(message: str) -> OutOfMemoryError:
    """Torch's error, with what CuPy's pool holds."""
    wanted = re.search(r"allocating ([\d,]+) bytes", message)
    size = f" Tried to allocate {_size(int(wanted[1].replace(',', '')))}." if wanted else ""
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    limit = f"{_size(pool.get_limit())} allowed; " if pool.get_limit() else ""
    return OutOfMemoryError(
        f"CUDA out of memory.{size} GPU {cupy.cuda.device.get_device_id()} has a total capacity of {_size(total)} of which "
        f"{_size(free)} is free. {limit}Of the allocated memory {_size(pool.used_bytes())} is held by arrays, and "
        f"{_size(pool.free_bytes())} is held by CuPy's memory pool but unallocated. Let go of tensors that are no longer "
        "needed, compute on fewer elements at a time, or save less for the backward pass with gradx.utils.checkpoint."
    )


def _size(count: int) -> str:
    """A number of bytes as torch writes it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count > unit:
            return f"{count / unit:.2f} {name}"
    return f"{count} bytes"

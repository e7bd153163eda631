"""Memory for large arrays on the CPU, kept when an array dies and handed out again.

Fresh memory is slow: the system clears each page at its first touch, which for large arrays takes longer than computing
what is written there. So a `Pool` keeps freed blocks. It never holds more than was in use at once at the peak, nor caches
more than its limit.

The array that is handed out is an ordinary `numpy.ndarray`, contiguous, writable, aligned to 64 bytes. Its base is a
`Lease`; when that dies, with the last view of the array, the block goes back.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SMALLEST = 1 << 19  # bytes; the C library keeps smaller ones by itself
_ALIGNMENT = 64  # a cache line, and the widest vector register


class _Block(np.ndarray[Any, Any]):
    """Memory of a size class. A class of its own, because NumPy would skip a plain array on the way to the owner."""

    __slots__ = ("offset",)
    offset: int  # of the first aligned byte

    @classmethod
    def new(cls, size: int) -> _Block:
        block: _Block = np.ndarray.__new__(cls, (size + _ALIGNMENT,), np.uint8)
        block.offset = -block.__array_interface__["data"][0] % _ALIGNMENT
        return block


class Lease(np.ndarray[Any, Any]):
    """What an array of the pool has for a base: gives the block back at the end of its life."""

    __slots__ = ("give_back",)
    give_back: Callable[[_Block], None]

    def __del__(self) -> None:
        block: Any = self.base
        if block is not None and hasattr(self, "give_back"):
            self.give_back(block)


class Pool:
    """Freed blocks by size, of which the sizes that lie unused for longest are let go first.

    Safe to use from several threads, and from finalisers at any moment: those only append to a queue.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.allocated = self.cached = self.peak = 0  # bytes
        self._free: dict[int, list[_Block]] = {}
        self._returned: deque[_Block] = deque()
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array whose elements are whatever the memory held; NumPy's own if it is small, or the limit is 0."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < SMALLEST or not self.limit or dtype.hasobject:
            return np.empty(shape, dtype)
        block = self._take(_size_class(nbytes))
        lease = np.ndarray.__new__(Lease, (nbytes,), np.uint8, block, block.offset)
        lease.give_back = self._give_back
        return np.ndarray(shape, dtype, lease)

    def _take(self, size: int) -> _Block:
        with self._lock:
            self._collect()
            blocks = self._free.get(size)
            block = None
            if blocks:
                block = blocks.pop()
                if not blocks:
                    del self._free[size]
                self.cached -= size
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
            self._shrink(min(self.limit, self.peak - self.allocated))
        return self._new(size) if block is None else block

    def _new(self, size: int) -> _Block:
        try:
            return _Block.new(size)
        except MemoryError:
            self.empty_cache()  # sizes that nobody asks for may stand in the way
            try:
                return _Block.new(size)
            except MemoryError:
                self.allocated -= size
                raise

    def _give_back(self, block: _Block) -> None:
        self._returned.append(block)
        if self._lock.acquire(blocking=False):  # else whoever holds it, perhaps this very thread, will see to it
            try:
                self._collect()
                self._shrink(self.limit)
            finally:
                self._lock.release()

    def _collect(self) -> None:
        """Sort what was given back into the cache."""
        while self._returned:
            block = self._returned.popleft()
            size = block.size - _ALIGNMENT
            self._free.setdefault(size, []).append(block)
            self.allocated -= size
            self.cached += size

    def _shrink(self, limit: int) -> None:
        """Let blocks go until no more than `limit` bytes are cached."""
        while self.cached > limit:
            size = next(iter(self._free))  # in the order in which sizes became free
            blocks = self._free[size]
            blocks.pop()
            self.cached -= size
            if not blocks:
                del self._free[size]

    def empty_cache(self) -> None:
        """Let all cached blocks go, and forget the peak."""
        with self._lock:
            self._collect()
            self._shrink(0)
            self.peak = self.allocated

    def set_limit(self, limit: int) -> None:
        """Cache at most `limit` bytes; 0 turns the pool off."""
        with self._lock:
            self.limit = limit
            self._collect()
            self._shrink(limit)

    def stats(self) -> dict[str, int]:
        """Bytes that arrays of the pool occupy, that are cached, that were in use at once at the peak, and the limit."""
        with self._lock:
            self._collect()
            return {"allocated": self.allocated, "cached": self.cached, "peak": self.peak, "limit": self.limit}

    def after_fork(self) -> None:
        """In a new process the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()


def _size_class(nbytes: int) -> int:
    """`nbytes` rounded up to one of eight sizes between two powers of two, so that sizes nearly alike share blocks."""
    step = 1 << (nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


def _quarter_of_memory() -> int:
    """A quarter of the machine's memory in bytes; of 4 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, OSError, ValueError):
        return 1 << 30


pool = Pool(_quarter_of_memory())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)


def owns(array: Array) -> bool:
    """Whether `array` is no view of another: it has its memory from NumPy or from a pool."""
    base = array.base
    return base is None or type(base) is Lease

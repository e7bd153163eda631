"""The CPU's threads and memory. Memory of large arrays is kept when they die, and given to the next ones."""

from __future__ import annotations

from gradx.backends.cpu.memory import pool
from gradx.backends.cpu.threads import get_num_threads, set_num_threads

__all__ = ["empty_cache", "get_num_threads", "memory_stats", "set_memory_limit", "set_num_threads"]


def memory_stats() -> dict[str, int]:
    """Bytes of large arrays: "allocated" by those alive, "cached" for the next, "peak" of allocated, and the "limit" of cached.

    Only results of operations of 1 MiB and more count; smaller ones have NumPy's memory.

    >>> import gradx
    >>> gradx.cpu.empty_cache()
    >>> x = gradx.ones(1024, 512)
    >>> y = x + 1
    >>> before = gradx.cpu.memory_stats()
    >>> del y
    >>> after = gradx.cpu.memory_stats()
    >>> before["allocated"] - after["allocated"], after["cached"] - before["cached"]
    (2097152, 2097152)
    """
    return pool.stats()


def empty_cache() -> None:
    """Give the memory that is cached back to the system, and forget the peak."""
    pool.empty_cache()


def set_memory_limit(nbytes: int) -> None:
    """Cache at most `nbytes` for large arrays: by default a quarter of the machine's memory; 0 caches nothing.

    Whatever the limit, no more is held than large arrays have occupied at once.

    Raises:
        ValueError: `nbytes` is negative.
    """
    if nbytes < 0:
        raise ValueError(f"set_memory_limit(): nbytes must not be negative, but got {nbytes}. 0 turns caching off.")
    pool.set_limit(nbytes)

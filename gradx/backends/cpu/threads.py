"""A few threads that compute blocks of large arrays. NumPy lets go of Python's lock within its loops, so they run at once.

Which thread computes which block is left to chance; what a block is must not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from gradx.backends.cpu.quiet import in_blocks

Work = Callable[[int], object]


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Help:
    """An invitation to take part in a piece of work: accepted by a free thread, or withdrawn by who made it."""

    __slots__ = ("_claim", "_done", "_error", "_turns", "_work")

    def __init__(self, work: Work, turns: Iterator[int]) -> None:
        self._work: Work | None = work
        self._turns = turns
        self._claim, self._done = threading.Lock(), threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def accept(self) -> None:
        if self._claim.acquire(blocking=False):
            try:
                work = self._work
                assert work is not None  # only a withdrawn invitation has none
                for i in self._turns:
                    work(i)
            except BaseException as error:  # raised again where the work was called for
                self._error = error
            finally:
                self._done.release()

    def withdraw(self) -> BaseException | None:
        """Wait, if a thread has accepted; return the error it met."""
        if not self._claim.acquire(blocking=False):
            self._done.acquire()
        self._work = None  # which holds arrays, while this may wait in the queue for some time yet
        return self._error


class Workers:
    """Threads that wait for work. Whoever calls does its share, so that no call ever waits for a thread to be free."""

    def __init__(self, number: int) -> None:
        self.number = number  # of threads at one piece of work, the caller's among them
        self._queue: SimpleQueue[_Help] = SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def run(self, work: Work, count: int) -> None:
        """Call `work` with 0, 1, ..., `count` - 1, in any order, several at once.

        Raises:
            Exception: the first that a call raised; the others may then not have been made.
        """
        turns = iter(range(count))
        helps = [_Help(work, turns) for _ in range(self._ready(min(self.number, count) - 1))]
        for help in helps:
            self._queue.put(help)
        errors: list[BaseException | None] = []
        try:
            for i in turns:
                work(i)
        finally:
            errors = [help.withdraw() for help in helps]
        for error in errors:
            if error is not None:
                raise error

    def _ready(self, wanted: int) -> int:
        """How many threads, `wanted` at most, there are to invite; they are started when first wanted."""
        if self._started < wanted:
            with self._starting, contextlib.suppress(RuntimeError):  # the system, or a Python that shuts down, has none
                for n in range(self._started, wanted):
                    threading.Thread(target=self._serve, name=f"gradx-{n}", daemon=True).start()
                    self._started += 1
        return min(wanted, self._started)

    def _serve(self) -> None:
        in_blocks()
        while True:
            self._queue.get().accept()

    def after_fork(self) -> None:
        """In a new process there are no threads but one."""
        self.__init__(self.number)  # type: ignore[misc]


workers = Workers(cores())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.after_fork)


def get_num_threads() -> int:
    """The number of threads that compute one operation on large arrays of the CPU: by default, the number of cores."""
    return workers.number


def set_num_threads(number: int) -> None:
    """Let `number` threads compute one operation on large arrays of the CPU; 1 for the calling thread alone.

    Results do not depend on it. Products of matrices have threads of their own, those of NumPy's BLAS library, which
    that library's settings govern, `OPENBLAS_NUM_THREADS` in the environment as a rule.

    Raises:
        RuntimeError: `number` is not an int, or less than 1.

    >>> import gradx
    >>> before = gradx.get_num_threads()
    >>> gradx.set_num_threads(1)
    >>> gradx.get_num_threads()
    1
    >>> gradx.set_num_threads(before)
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise RuntimeError(f"set_num_threads expects an int, but got {type(number).__name__}")
    if number < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer. It got {number}; 1 turns threads off.")
    workers.number = number

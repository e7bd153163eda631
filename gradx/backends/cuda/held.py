"""What work given to a stream still uses, and nobody else may: it is held until the stream has done that work.

CuPy's pools give freed memory out again at once, in order with the stream that it came from, but not with other streams,
nor with copies that the host has left to a device. Each thing held goes with an event; it is let go by the first copy or
allocation that finds the event passed. Imports CuPy.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

import cupy

held: Final[deque[tuple[Any, Any]]] = deque()  # events, and what must live until they have passed; the oldest first
_letting_go: Final = threading.Lock()


def hold(event: Any, used: Any) -> None:
    """Keep `used` alive until `event` has passed."""
    let_go()
    held.append((event, used))


def let_go() -> None:
    """Drop what is not needed any more."""
    if not held or cupy.cuda.get_current_stream().is_capturing():  # where no event may be asked
        return
    if _letting_go.acquire(blocking=False):  # what is dropped here may call this again
        try:
            while held and held[0][0].done:
                held.popleft()
        finally:
            _letting_go.release()

"""Which stream each node was recorded on. A backward pass runs a node's rules on that stream, as torch does.

While every operation runs on the default stream, nothing is noted, and nothing looked at but one flag.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradx.tape import Node


class _Seen:
    __slots__ = ("other",)  # looked at by every recorded operation: a class's attribute would take longer

    def __init__(self) -> None:
        self.other = False  # whether a stream other than the default one has been the current one


seen = _Seen()
recorded_on: weakref.WeakKeyDictionary[Node, Any] = weakref.WeakKeyDictionary()  # the default stream is left out

"""A word to the user where the first calls of kernels take long: CUDA compiles them then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

PATIENCE: Final = 1.0  # seconds that all first calls together may take in silence


class _Tally:
    seconds = 0.0
    told = False


def timed(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What `function(*args)` gives. Once per process, if the calls made this way have taken long, a line on stderr says so.

    The environment variable ``GRADX_QUIET=1`` switches the line off.
    """
    start = time.perf_counter()
    try:
        return function(*args)
    finally:
        _Tally.seconds += time.perf_counter() - start
        if _Tally.seconds > PATIENCE and not _Tally.told:
            _Tally.told = True
            if os.environ.get("GRADX_QUIET", "0") in ("", "0"):
                print(
                    f"gradx: the first calls of CUDA kernels took {_Tally.seconds:.1f} s so far: kernels are compiled at first "
                    "use, and kept on disk for later runs. GRADX_QUIET=1 hides this line.",
                    file=sys.stderr,
                )

"""Which kernels give the same bits on every device, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gradx.backends.exact.formats import is_floating
from gradx.backends.kernels import Array
from gradx.dtypes import HALVES

# They move elements, or compute with none: as they are, they give the same bits.
MOVES: Final = frozenset(
    """alias cat clone conj contiguous expand flip gather imag index move new_zeros ones_like permute pin_memory real reshape
    slice slice_backward split stack unbind view view_as_complex view_as_real zeros_like""".split()
)
# `bernoulli` compares random numbers with probabilities that may be subnormal.
MISSING: Final = frozenset("bernoulli complex".split())


def on_doubles(
    kernel: Callable[..., Any], widened: Callable[[Any], Any], narrowed: Callable[[Array, np.dtype[Any]], Array]
) -> Callable[..., Any]:
    """A kernel over arrays of float64 for arrays of any floating-point dtype, which is rounded to once, at the end.

    Of several results, those after the first are not of half precision, as those that other kernels save are not.
    """

    def run(*args: Any) -> Any:
        dtype = next(arg.dtype for arg in args if is_floating(arg))
        out = kernel(*map(widened, args))
        if type(out) is not tuple:
            return finished(out, dtype)
        wide = np.dtype(np.float32) if dtype.char in HALVES else dtype
        return (finished(out[0], dtype), *(finished(part, wide) for part in out[1:]))

    def finished(out: Any, dtype: np.dtype[Any]) -> Any:
        return narrowed(out, dtype) if is_floating(out) else out

    return run

"""The `out=` of functions: a tensor that takes the result. Nothing of it is recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from gradx import dtypes, variables
from gradx.backends import backend_of
from gradx.modes import mode, no_grad, uncast
from gradx.variables import Variable


def into(out: Any, name: str, operands: Iterable[Any], compute: Callable[[], Any]) -> Any:
    """Write what `compute` gives to `out`, and return that.

    Args:
        out: a tensor; of another shape than the result's it takes that shape, with torch's warning.
        name: of the function, for the messages.

    Raises:
        TypeError: `out` is no tensor.
        RuntimeError: it or an operand requires grad, or its dtype cannot take the result.
    """
    if mode.autocast is not None:  # as in torch: the result is to have the dtype of `out`
        return uncast(into, out, name, operands, compute)
    if not isinstance(out, Variable):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if mode.grad and any(isinstance(t, Variable) and variables.requires_grad(t) for t in (out, *operands)):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments "
            "requires grad. Leave out= away, or use gradx.no_grad()."
        )
    with no_grad():
        result = compute()
    dtypes.require_castable(result.array.dtype, out.array.dtype)
    variables.count_change(out)
    if out.array.shape == result.array.shape:
        backend_of(out.array).write(out.array, result.array)
        return out
    if out.array.size:
        warnings.warn(
            f"An output with one or more elements was resized since it had shape {list(out.array.shape)}, which does not match "
            f"the required output shape {list(result.array.shape)}. This behavior is deprecated, and in a future PyTorch "
            "release outputs will not be resized unless they have zero elements.",
            stacklevel=4,
        )
    out.array = result.array.astype(out.array.dtype, copy=False)
    return out

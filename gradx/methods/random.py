"""The methods that draw random numbers: those that overwrite a tensor, and `bernoulli`.

They leave the tensor without the history that it had: its old elements get the gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradx import dtypes
from gradx.backends import Array, backend_of
from gradx.device import device
from gradx.inplace import check_writable, overwrite
from gradx.modes import is_grad_enabled
from gradx.ops import draw
from gradx.ops import random as ops
from gradx.ops.shape import expand
from gradx.random import Generator, source
from gradx.variables import Variable

if TYPE_CHECKING:
    from typing import Self


def bernoulli(input: Any, p: float | None = None, *, generator: Generator | None = None) -> Any:
    """1 with the probability that is at its place in `input`, else 0; with `p`, that of all.

    Raises:
        RuntimeError: a probability is not from 0 to 1. On CUDA those in a tensor are not looked at: the host would have to
            wait.

    >>> import gradx
    >>> gradx.bernoulli(gradx.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    array, where = _form(input)
    if p is not None:
        return type(input)(draw.events(array.shape, p, array.dtype, generator, where))
    if array.dtype.kind not in dtypes.REAL:
        title = dtypes.of_numpy(array.dtype).title
        raise NotImplementedError(
            f"\"bernoulli_tensor_cpu_p_\" not implemented for '{title}'. Probabilities are floating-point numbers."
        )
    return ops.bernoulli(input, source(generator, where).take(draw.words(array.shape, array.dtype)))


class RandomMethods(Variable):
    """What draws random numbers. Methods in place return the tensor itself; all take the generator to draw from."""

    __slots__ = ()

    bernoulli = bernoulli

    def uniform_(self, from_: float = 0, to: float = 1, *, generator: Generator | None = None) -> Self:
        """Draw every element anew, uniform from `from_` to below `to`.

        Raises:
            RuntimeError: the bounds are the wrong way round, or too large for the dtype.
            NotImplementedError: this is no tensor of floating-point numbers.
        """
        _redraw(self, "check_uniform_bounds", draw.uniform, (from_, to), generator, ops.uniform_copy)
        return self

    def normal_(self, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Self:
        """Draw every element anew, normal with that mean and standard deviation.

        Raises:
            RuntimeError: `std` is negative.
            NotImplementedError: this is no tensor of floating-point numbers.
        """
        _redraw(self, "normal_kernel_cpu", draw.normal, (mean, std), generator, ops.normal_copy)
        return self

    def random_(self, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None) -> Self:
        """Draw every element anew, whole numbers, all as likely: from `from_` to below `to`, from 0 to below the only number
        given, or else from 0 to the largest such that the dtype has all below it.

        Raises:
            RuntimeError: there is no number between the bounds, or one that the dtype has no room for.
        """
        if from_ is None:
            _redraw(self, None, draw.any_integers, (), generator, ops.random_copy)
        elif to is None:
            _redraw(self, None, draw.integers, (0, from_), generator, ops.random_to_copy)
        else:
            _redraw(self, None, draw.integers, (from_, to), generator, ops.random_between_copy)
        return self

    def bernoulli_(self, p: Any = 0.5, *, generator: Generator | None = None) -> Self:
        """Draw every element anew: 1 with probability `p`, a number or a tensor that broadcasts to this one, else 0.

        Raises:
            RuntimeError: `p` is not from 0 to 1.
        """
        if isinstance(p, Variable):
            check_writable(self, p)
            drawn = bernoulli(expand(p, self.array.shape), generator=generator)  # type: ignore[arg-type]
            overwrite(self, ops.bernoulli_tensor_copy(self, drawn))
        else:
            _redraw(self, None, draw.events, (p,), generator, ops.bernoulli_copy)
        return self


def _form(input: Variable) -> tuple[Array, device]:
    return input.array, backend_of(input.array).device_of(input.array)


def _redraw(
    tensor: Any,
    kernel: str | None,
    function: Callable[..., Array],
    numbers: tuple[Any, ...],
    generator: Generator | None,
    copy: Callable[..., Any],
) -> None:
    """Overwrite the tensor with what `function` draws by those numbers.

    Args:
        kernel: torch's, as its message names it where the dtype is of whole numbers and must not be.
        copy: the operation that is recorded.
    """
    check_writable(tensor)
    array, where = _form(tensor)
    dtype: np.dtype[Any] = draw.inexact(kernel, dtypes.of_numpy(array.dtype)) if kernel else array.dtype
    drawn = type(tensor)(function(array.shape, *numbers, dtype, generator, where))
    overwrite(tensor, copy(tensor, drawn) if tensor.needs_grad and is_grad_enabled() else drawn)

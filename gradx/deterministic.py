"""Deterministic mode: the same bits on the CPU and on CUDA, see `use_deterministic_algorithms`.

While it is off, operations know nothing of it: turning it on gives each of them another table of kernels.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradx import dtypes
from gradx.backends import BY_TYPE
from gradx.backends.exact.coverage import MISSING, MOVES, NoExactForm
from gradx.dtypes import REAL
from gradx.modes import determinism
from gradx.op import OPS, TWINS, Op

_FIX = (
    "You can turn off determinism just for this operation, or you can use the 'warn_only=True' option, if that's "
    "acceptable for your application. Its results may differ between devices."
)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Compute so that values, gradients and higher gradients are the same bits on the CPU and on CUDA, at each run.

    Args:
        mode: whether to.
        warn_only: warn of operations that cannot, instead of raising.

    The elements are computed in float64, by operations that IEEE 754 prescribes to the last bit, and rounded to their dtype
    once for each operation; sums are trees whose shape depends on their length alone; matrices, and sums into places given
    by integers, are cut into parts that add exactly (Ozaki et al., 2012); NaN is always the same NaN. It costs time, the
    more on GPUs with little float64 hardware. Run both the forward and the backward pass in this mode.

    Covered, for float16, bfloat16, float32 and float64: elementwise operations, reductions, softmax, losses, products of
    matrices, indexing, shapes, `dropout`. Not covered: complex numbers, several values written to the same place,
    `bernoulli`, gradient scaling, matrices of which a row or column has elements that differ by a factor above 2^480. What
    a user's own kernels do is the user's affair.

    On CUDA, products of matrices and sums into places wait for the device. As in torch, the mode is that of all threads.

    Raises:
        RuntimeError: (the operations) they are not covered.

    >>> import gradx
    >>> gradx.use_deterministic_algorithms(True)
    >>> gradx.are_deterministic_algorithms_enabled()
    True
    >>> gradx.use_deterministic_algorithms(False)
    """
    for name, value in (("mode", mode), ("warn_only", warn_only)):
        if not isinstance(value, bool):
            kind = type(value).__name__
            raise TypeError(f"_set_deterministic_algorithms(): argument '{name}' (position 1) must be bool, not {kind}")
    with _lock:
        if mode != determinism.enabled:
            _exchange_kernels()
        determinism.enabled, determinism.warn_only = mode, warn_only


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` is in force."""
    return determinism.enabled


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether operations that are not covered warn, instead of raising."""
    return determinism.warn_only


@contextmanager
def deterministic(*, warn_only: bool = False) -> Generator[None, None, None]:
    """Within it, `use_deterministic_algorithms(True)` is in force.

    >>> import gradx
    >>> with gradx.deterministic():
    ...     gradx.are_deterministic_algorithms_enabled()
    True
    """
    before = determinism.enabled, determinism.warn_only
    use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        use_deterministic_algorithms(before[0], warn_only=before[1])


# ---- kernels ---------------------------------------------------------------------------------------------------------


class _ExactKernels(dict[type, Callable[..., Any]]):
    """The kernel of one operation for each array type, in deterministic mode.

    Args:
        ordinary: those of the other mode.
    """

    def __init__(self, ordinary: Any) -> None:
        super().__init__()
        self.ordinary = ordinary

    def __missing__(self, array_type: type) -> Callable[..., Any]:
        name, ordinary = self.ordinary.name, self.ordinary[array_type]
        if name in MOVES:
            return self.setdefault(array_type, ordinary)
        exact, backend = None, BY_TYPE[array_type]
        if backend is not None and name not in MISSING:
            exact = backend.exact_kernel(name, self.ordinary.expression, self.ordinary.static)
        return self.setdefault(array_type, _choosing(name, ordinary, exact))


def _choosing(name: str, ordinary: Callable[..., Any], exact: Callable[..., Any] | None) -> Callable[..., Any]:
    """The exact kernel where there are floating-point arrays; what integers give is exact anyway."""

    def kernel(*args: Any) -> Any:
        kinds = [arg.dtype.kind for arg in args if hasattr(arg, "dtype")]
        targets = [arg.kind for arg in args if isinstance(arg, np.dtype)]
        if not any(kind in "fVc" for kind in (*kinds, *targets)):
            return ordinary(*args)
        if exact is not None and "c" not in (*kinds, *targets):
            if not any(kind in REAL for kind in kinds):
                return ordinary(*args)
            try:
                return exact(*args)
            except NoExactForm:
                pass
        alert(name)
        return ordinary(*args)

    return kernel


def alert(name: str) -> None:
    """Raise torch's error, or warn, that an operation is not covered."""
    option = ", warn_only=True" if determinism.warn_only else ""
    sentence = (
        f"{name} does not have a deterministic implementation, but you set "
        f"'torch.use_deterministic_algorithms(True{option})'. "
    )
    if not determinism.warn_only:
        raise RuntimeError(sentence + _FIX)
    warnings.warn(sentence + "Its results may differ between devices.", UserWarning, stacklevel=4)


_lock = threading.Lock()


# Of the mode that is not in force: kernels, those for large arrays, and the straight-line code that refers to them.
_others: dict[Op, tuple[Any, Any, dict[Any, Callable[..., Any]]]] = {}


def _exchange_kernels() -> None:
    """Have each operation run the kernels of the other mode."""
    for operation in (*OPS.values(), *TWINS):
        other: Any = _others.get(operation)
        if other is None:
            exact = _ExactKernels(operation.kernels)
            other = exact, exact, {}
        _others[operation] = operation.kernels, operation.large_kernels, dict(operation.variants)
        operation.kernels, operation.large_kernels, variants = other
        operation.variants.clear()  # this very dictionary is what calls look in
        operation.variants.update(variants)


@dtypes.WHEN_BFLOAT16.append
def _look_again() -> None:
    for tables in _others.values():
        for table in tables:
            table.clear()

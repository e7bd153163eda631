"""What gradx asks of an array library: kernels, and devices on which arrays live."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from gradx.backends.dlpack import Source
from gradx.backends.kernels import Array, Dims, Elementwise, Kernels
from gradx.backends.kernels.random import keep_scale
from gradx.device import device
from gradx.dtypes import INEXACT, REAL, bfloat16, uses_bfloat16
from gradx.modes import determinism

LARGE = 1 << 17  # elements from which on an array is large: a backend may treat it differently

Rule = Callable[..., Any]

# Kernels that every array library has, where its name for them differs from torch's.
ALIASES = {
    "sub": "subtract",
    "mul": "multiply",
    "div": "true_divide",
    "pow": "power",
    "neg": "negative",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "bitwise_not": "invert",
    "expand": "broadcast_to",
    "permute": "transpose",
}


# Kernels that array libraries have for dtypes (by kind) for which they make no sense, and torch has none.
REFUSED = {
    **dict.fromkeys(("lt", "le", "gt", "ge", "maximum", "minimum", "amax", "amin", "max_dim", "min_dim"), "c"),
    **dict.fromkeys(("max_all", "min_all"), "c"),
    **dict.fromkeys(("argmax", "argmin", "floor", "ceil", "trunc", "round"), "cb"),
    **dict.fromkeys(("floor_divide", "div_floor", "div_trunc", "remainder"), "cb"),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"), INEXACT),
    **dict.fromkeys(("abs", "relu", "square"), "b"),
    **dict.fromkeys(("softmax", "log_softmax"), "c"),
    "mse_loss": "biu",
    "nll_loss": "biuc",
}


# Kernels that keep or convert the dtype themselves, as those do that move elements and compute nothing.
EXACT = frozenset(
    """alias bernoulli cast cast_discrete cat clone conj contiguous copy cross_entropy cross_entropy_backward dropout
    dropout_backward expand fill flip gather imag index index_put move new_zeros nll_loss nll_loss_backward ones_like permute
    real reshape shifted slice slice_backward soft_cross_entropy soft_cross_entropy_backward soft_target_backward split stack
    std ties unbind var view view_as_complex
    view_as_real zeros_like""".split()
)


def _rounding(kernel: Callable[..., Array], widens: bool) -> Callable[..., Array]:
    """`kernel`, whose results are bfloat16 where the operands are: array libraries give float32 for a product of
    matrices, or where a Python number is among them. With `widens` it is computed in float32, and rounded once."""
    half = bfloat16.dtype

    @functools.wraps(kernel)
    def rounded(*args: Any) -> Array:
        halves = False
        for arg in args:
            kind = arg.dtype.kind if hasattr(arg, "dtype") else ""
            if kind == "f" or kind == "c":
                return kernel(*args)
            halves |= kind == "V"
        if not halves:
            return kernel(*args)
        out = kernel(*map(widened, args) if widens else args)
        return tuple(map(narrowed, out)) if type(out) is tuple else narrowed(out)

    def widened(arg: Any) -> Any:
        return arg.astype(np.float32) if hasattr(arg, "dtype") and arg.dtype.kind == "V" else arg

    def narrowed(out: Array) -> Array:
        return out.astype(half) if out.dtype.kind == "f" else out

    return rounded


def named(kernels: Kernels, name: str) -> Callable[..., Array]:
    """The kernel called `name` among these, else the array library's function of that name."""
    kernel: Callable[..., Array] = getattr(kernels, name, None) or getattr(kernels.xp, ALIASES.get(name, name))
    return kernel


def is_elementwise(name: str) -> bool:
    """Whether the kernel called `name` is elementwise, by being written so or one of NumPy's ufuncs."""
    return name in vars(Elementwise) or isinstance(getattr(np, ALIASES.get(name, name), None), np.ufunc)


def refusing(name: str, kernel: Callable[..., Array]) -> Callable[..., Array]:
    """`kernel`, which raises for arrays of the kinds of dtype that its name refuses."""
    kinds = REFUSED.get(name)
    if kinds is None:
        return kernel

    @functools.wraps(kernel)
    def checked(x: Array, *rest: Any) -> Array:
        array = x if hasattr(x, "dtype") else rest[0]
        if array.dtype.kind in kinds:
            raise NotImplementedError(
                f"\"{name}\" not implemented for '{array.dtype.name}'. Convert the tensor with .to(dtype) first."
            )
        return kernel(x, *rest)

    return checked


class Parts(NamedTuple):
    """What tells how the work of a kernel, or of a gradient rule, on large arrays may be divided."""

    name: str  # of the operation
    arguments: Sequence[str]  # of the kernel or the rule
    static: frozenset[int]  # the places of those on whose values it may branch
    elementwise: bool


class Backend(Kernels):
    """The kernels and devices of one array library, whose namespace is `xp`."""

    device_type: str
    array_types: tuple[type, ...]
    widens = False  # whether elements of bfloat16 are computed as float32
    synchronous = (
        False  # whether a kernel has finished when it returns, so that elements may be looked at without waiting
    )

    def kernel(self, name: str) -> Callable[..., Array]:
        """The kernel called `name`: this backend's own, else the array library's function of that name."""
        kernel = self.function(name)
        return refusing(name, kernel if name in EXACT else self.rounded(kernel))

    def function(self, name: str) -> Callable[..., Array]:
        """The kernel called `name`, for dtypes for which it makes sense, but bfloat16."""
        return named(self, name)

    def exact_kernel(self, name: str, expression: Rule | None, static: frozenset[int]) -> Rule | None:
        """The kernel `name`, or `expression`, for arrays of which some are floating-point, so that it gives the same bits
        on every device: by `gradx.backends.exact`. None if there is none.

        Raises (the kernel):
            NoExactForm: it cannot, for these arguments.
        """
        return None

    def exact_dropout(self) -> Callable[..., Array]:
        """`dropout` that scales by the exact kernel. What it keeps is the same on every device anyway."""
        dropout, scaled = self.kernel("dropout"), self.exact_kernel("dropout_backward", None, frozenset())
        assert scaled is not None

        def exact(x: Array, p: float, state: Any) -> tuple[Array, Array]:
            _, kept = dropout(x, p, state)
            return scaled(x, kept, keep_scale(p)), kept

        return exact

    def fuse(self, function: Callable[..., Array], name: str, static: frozenset[int]) -> Callable[..., Array]:
        """An elementwise function, over arrays by operators and kernels, as one kernel called `name`, where that is better.

        Args:
            static: the places of the arguments on whose values the function may branch, where they are numbers.
        """
        return self.rounded(function)

    def rounded(self, kernel: Callable[..., Array]) -> Callable[..., Array]:
        """`kernel` itself, as long as there is no bfloat16 to round to."""
        return _rounding(kernel, self.widens) if uses_bfloat16() else kernel

    def computed(self, expression: Callable[..., Array], name: str, static: frozenset[int]) -> Callable[..., Array]:
        """The kernel called `name` that computes an elementwise expression; see `fuse`."""
        return self.fuse(expression, name, static)

    def large_kernel(self, name: str, expression: Callable[..., Array] | None, parts: Parts) -> Callable[..., Array]:
        """The kernel called `name`, or of what it computes, where the first array has at least `LARGE` elements."""
        return self.kernel(name) if expression is None else self.fuse(expression, name, parts.static)

    def large_rule(self, rule: Rule, parts: Parts) -> Rule:
        """A gradient rule for raw arrays, where the first array of the operation has at least `LARGE` elements."""
        return self.fuse(rule, f"{parts.name}_backward", parts.static) if parts.elementwise else rule

    # ---- devices and memory -------------------------------------------------------------------------------------

    def device_of(self, array: Array) -> device:
        """Where `array` lives."""
        raise NotImplementedError

    def device_count(self) -> int:
        """How many devices of this type there are."""
        return 1

    def current_device(self) -> int:
        """The index that a device without index means."""
        return 0

    def from_host(self, array: np.ndarray[Any, Any], where: device, non_blocking: bool = False) -> Array:
        """A host array on the device `where`; on the CPU, the very array. `non_blocking` allows a pinned one to be read
        after the return."""
        raise NotImplementedError

    def to_host(self, array: Array, non_blocking: bool = False) -> np.ndarray[Any, Any]:
        """A NumPy array of the same elements; on the CPU, the very array. `non_blocking` allows the elements to arrive
        after the return."""
        raise NotImplementedError

    def send(self, destination: Array, source: Array) -> None:
        """Copy between a host array and one of this backend, contiguous and alike in shape and dtype, without waiting if
        the host's memory is pinned."""
        raise NotImplementedError

    def pinned(self, shape: Dims, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """A host array in memory from and to which this backend's devices copy by themselves."""
        raise NotImplementedError

    def is_pinned(self, array: Array) -> bool:
        """Whether `array` is a host array in such memory."""
        return False

    def from_dlpack(self, source: Source) -> Array:
        """An array over the memory that `source` exports, which is on one of this backend's devices."""
        return self.xp.from_dlpack(source)

    def pointer(self, array: Array) -> int:
        """The address of the first element; 0 where there is none."""
        raise NotImplementedError

    def to_device(self, array: Array, where: device) -> Array:
        """`array`, of this backend, on another of this backend's devices."""
        return array

    def quiet(self) -> AbstractContextManager[Any]:
        """Within it, floating-point conditions (division by zero, overflow) give inf and NaN without warnings."""
        return contextlib.nullcontext()

    def needs_order(self) -> bool:
        """Whether arrays may be on another device than the current one, or work be given to another stream."""
        return False

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """Within it, the device of `array` is the current one."""
        return contextlib.nullcontext()

    def plain(self, array: Array) -> Array:
        """`array`, if it is a scalar or of a subclass, as an array proper, over the same memory."""
        with self.at(array):
            return self.xp.asarray(array)

    def from_interface(self, owner: Any) -> Array:
        """An array over the memory that `owner` describes in its ``__cuda_array_interface__``."""
        raise NotImplementedError

    def owns_memory(self, array: Array) -> bool:
        """Whether `array` is the only view of its memory that can be told from the array itself."""
        return array.base is None

    def write(self, destination: Array, source: Array) -> None:
        """Overwrite the elements of `destination` with those of `source`, broadcast and cast."""
        destination[...] = self._as_written(source, destination.dtype)

    def _as_written(self, source: Array, dtype: np.dtype[Any]) -> Array:
        """`source`; in deterministic mode cast to `dtype` by the kernel for that."""
        if not determinism.enabled or source.dtype == dtype or source.dtype.kind not in REAL or dtype.kind == "c":
            return source
        cast = self.exact_kernel("cast" if dtype.kind in REAL else "cast_discrete", None, frozenset())
        return source if cast is None else cast(source, dtype)

    def add_into(self, destination: Array, source: Array) -> None:
        """Add `source`, of the same shape and dtype, to the elements of `destination`."""
        self.xp.add(destination, source, out=destination)

    # ---- streams, where there is such a thing ----------------------------------------------------------------

    def notice(self) -> None:
        """Set `gradx.streams.seen.other` if a stream other than the default one is the current one."""

    def stream_on(self, where: device) -> Any:
        """The stream that is current on `where`; None for the default one."""
        return None

    def within(self, array: Array, stream: Any) -> AbstractContextManager[Any]:
        """Within it, the device of `array` is the current one, and `stream`, of that device, the current stream."""
        return contextlib.nullcontext()

    def wait_stream(self, where: device, stream: Any, other: Any) -> None:
        """Let `stream` wait until `other` has done what it was given so far; both are of the device `where`."""

    def keep(self, used: Any, where: device) -> None:
        """Keep `used` alive until the current stream of `where` has done what it was given so far."""

    def record_stream(self, array: Array, stream: Any) -> None:
        """Keep the memory of `array`, when nobody uses it any more, until `stream` has done what it was given by then."""
        raise NotImplementedError(
            f"Could not run 'aten::record_stream' with arguments from the '{self.device_type.upper()}' backend. "
            "There are no streams here: leave the call out."
        )

    # ---- creation ------------------------------------------------------------------------------------------------

    def full(self, shape: Dims, value: complex, dtype: np.dtype[Any], where: device) -> Array:
        return self.xp.full(shape, value, dtype)

    def empty(self, shape: Dims, dtype: np.dtype[Any], where: device) -> Array:
        return self.xp.empty(shape, dtype)

    def arange(self, start: float, step: float, count: int, dtype: np.dtype[Any], where: device) -> Array:
        """`start + step * i` for `count` indices i, computed in the target precision's widest form."""
        wide = (
            self.xp.int64 if dtype.kind in "iu" and all(isinstance(v, int) for v in (start, step)) else self.xp.float64
        )
        return (start + self.xp.arange(count, dtype=wide) * step).astype(dtype)

    def move(self, x: Array, source: Place, target: Place, non_blocking: bool) -> Array:
        """`x`, which is on `source`, on `target`: within this backend, or by way of the host."""
        if target.backend is self:
            return self.to_device(x, target.device)
        to_host = non_blocking and target.device.type == "cpu"
        return target.backend.from_host(self.to_host(x, to_host), target.device, non_blocking)

    def pin_memory(self, x: Array, allocator: Backend) -> Array:
        """A copy of `x`, which is on the host, in pinned memory."""
        out = allocator.pinned(x.shape, x.dtype)
        out[...] = x
        return out


class Place(NamedTuple):
    """A device, and the backend that computes there."""

    backend: Backend
    device: device


def misfit(args: Sequence[Any]) -> str:
    """Torch's sentence about the first two arrays among a kernel's arguments whose shapes do not broadcast."""
    shapes = [arg.shape for arg in args if hasattr(arg, "shape")]
    for i, a in enumerate(shapes):
        for b in shapes[i + 1 :]:
            for back in range(1, min(len(a), len(b)) + 1):
                if a[-back] != b[-back] and 1 not in (a[-back], b[-back]):
                    return (
                        f"The size of tensor a ({a[-back]}) must match the size of tensor b ({b[-back]}) at non-singleton "
                        f"dimension {max(len(a), len(b)) - back}. The shapes {list(a)} and {list(b)} do not broadcast."
                    )
    return f"The shapes {', '.join(str(list(shape)) for shape in shapes)} do not fit each other."

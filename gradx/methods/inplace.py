"""The methods that change a tensor in place: for each operation `f` the method `f_`, and assignment to an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradx import dtypes, variables
from gradx.backends import backend_of
from gradx.inplace import check_writable, copied_without_waiting, overwrite, require_castable, require_room
from gradx.modes import mode
from gradx.ops import (
    activation,
    compare,
    complexes,
    constant,
    division,
    elementwise,
    index,
    magnitude,
    matmul,
    reduce,
    select,
    shape,
    transfer,
)
from gradx.variables import Variable

if TYPE_CHECKING:
    from typing import Self


def _inplace(function: Callable[..., Any]) -> Callable[..., Any]:
    """The method that writes what `function` gives over the tensor itself."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if mode.grad:
            check_writable(self, *args, *kwargs.values())
        try:
            result = function(self, *args, **kwargs)
        except NotImplementedError:
            require_castable(self, *args)  # what could not be written is torch's first objection
            raise
        overwrite(self, result)
        return self

    twin = function.__name__.strip("_")
    method.__name__ = f"{twin}_"
    method.__qualname__ = f"Tensor.{method.__name__}"
    method.__doc__ = f"`{twin}`, in place."
    return method


def _twins(*functions: Callable[..., Any]) -> tuple[Any, ...]:
    return tuple(map(_inplace, functions))


def _fill(input: Any, value: Any) -> Any:
    """`value`, a number or a tensor without dimensions, in the shape and dtype of `input`."""
    if isinstance(value, Variable) and value.array.ndim:
        raise RuntimeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value.array.ndim} dimensions."
        )
    return constant.fill(input, value)


def _copy(input: Any, src: Any, non_blocking: bool = False) -> Any:
    """`src`, broadcast to the shape of `input`, cast to its dtype, and moved to its device."""
    if not isinstance(src, Variable):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    target = backend_of(input.array).device_of(input.array)
    # What comes to the host is copied once more, by the host, which has to wait for it.
    src = transfer.move(src, target, non_blocking and target.type != "cpu")  # type: ignore[arg-type]
    return constant.copy(input, shape.expand(src, input.array.shape))


class InplaceMethods(Variable):
    """What changes a tensor in place. Each returns the tensor itself."""

    __slots__ = ()

    add_, sub_, mul_, div_ = _twins(elementwise.add, elementwise.sub, elementwise.mul, division.div)
    pow_, floor_divide_, remainder_ = _twins(elementwise.pow, division._floor_divide_in_place, division.remainder)
    bitwise_and_, bitwise_or_, bitwise_xor_ = _twins(compare.bitwise_and, compare.bitwise_or, compare.bitwise_xor)
    __iadd__, __isub__ = _twins(elementwise._add, elementwise._sub)  # without torch's `alpha`
    __imul__, __itruediv__, __ipow__ = mul_, div_, pow_
    __ifloordiv__, __imod__ = floor_divide_, remainder_
    __iand__, __ior__, __ixor__ = bitwise_and_, bitwise_or_, bitwise_xor_
    subtract_, multiply_, divide_ = sub_, mul_, div_

    neg_, abs_, sign_ = _twins(elementwise.neg, magnitude.abs, magnitude.sign)
    reciprocal_, square_ = _twins(elementwise.reciprocal, elementwise.square)
    floor_, ceil_, round_, trunc_ = _twins(elementwise.floor, elementwise.ceil, elementwise.round, elementwise.trunc)
    exp_, expm1_, erf_ = _twins(elementwise.exp, elementwise.expm1, elementwise.erf)
    sqrt_, rsqrt_ = _twins(elementwise.sqrt, elementwise.rsqrt)
    log_, log2_ = _twins(elementwise.log, elementwise.log2)
    log10_, log1p_ = _twins(elementwise.log10, elementwise.log1p)
    sin_, cos_, tan_ = _twins(elementwise.sin, elementwise.cos, elementwise.tan)
    relu_, tanh_, sigmoid_ = _twins(activation.relu, activation.tanh, activation.sigmoid)
    clamp_, masked_fill_, bitwise_not_ = _twins(select.clamp, select.masked_fill, compare.bitwise_not)
    clip_ = clamp_
    lt_, le_, gt_, ge_ = _twins(compare.lt, compare.le, compare.gt, compare.ge)
    eq_, ne_, logical_not_ = _twins(compare.eq, compare.ne, compare.logical_not)
    logical_and_, logical_or_, logical_xor_ = _twins(compare.logical_and, compare.logical_or, compare.logical_xor)
    true_divide_, negative_, absolute_ = div_, neg_, abs_
    cumsum_, addmm_ = _twins(reduce.cumsum, matmul.addmm)
    sgn_, conj_physical_ = _twins(magnitude.sgn, complexes.conj)

    def copy_(self, src: Any, non_blocking: bool = False) -> Self:
        """Write the elements of another tensor over those of this one, broadcast, cast, and moved to its device.

        Args:
            non_blocking: leave a copy between pinned memory and a CUDA device to the current stream. The elements that
                arrive in pinned memory are there once that is synchronised. The host waits all the same for what has to
                be cast or broadcast on the host.
        """
        check_writable(self, src)
        if isinstance(src, (bool, int, float, complex)):
            return self.fill_(src)
        if non_blocking and copied_without_waiting(self, src):
            return self
        try:
            result = _copy(self, src, non_blocking)
        except RuntimeError:
            require_room(self, src)
            raise
        overwrite(self, result)
        return self

    def fill_(self, value: Any) -> Self:
        """Set every element to `value`, a number or a tensor without dimensions."""
        check_writable(self, value)
        constant_value = not (isinstance(value, Variable) and value.needs_grad)
        overwrite(self, _fill(self, value), one_value=constant_value)
        return self

    def zero_(self) -> Self:
        """Set every element to zero."""
        check_writable(self)
        overwrite(self, constant.zero(self, 0), one_value=True)
        return self

    def __setitem__(self, place: Any, value: Any) -> None:
        """Write `value`, a number, an array or a tensor, at an index, broadcast as need be.

        Raises:
            IndexError: as for reading at that index.
            RuntimeError: `value` does not fit what is there, or the tensor may not be changed in place.
        """
        if place is False:  # nowhere
            return
        tensor: Any = self
        whole = place is Ellipsis or (isinstance(place, slice) and place == slice(None))
        target, advanced = (tensor, None) if whole else index.resolve(tensor, place)
        if isinstance(value, complex) and self.array.dtype.kind != "c":
            name = dtypes.of_numpy(self.array.dtype).type_name
            raise RuntimeError(f"value cannot be converted to type {name} without overflow")
        if isinstance(value, (bool, int, float, complex)):
            source = value
        else:
            source = _slimmed(value if isinstance(value, Variable) else _like(value, self))
        if advanced is None:
            result = _copy(target, source) if isinstance(source, Variable) else constant.assign(target, source)
        check_writable(target, source)
        overwrite(target, result if advanced is None else index.put(target, source, advanced))


def _like(value: Any, like: Variable) -> Variable:
    """Data that are no tensor, as a tensor in the dtype of `like` and on its device."""
    backend = backend_of(like.array)
    kind = dtypes.of_numpy(like.array.dtype)
    try:
        with backend.at(like.array):
            return variables.tensor_type(backend.xp.asarray(value, dtype=like.array.dtype))
    except (TypeError, ValueError):
        raise TypeError(f"can't assign a {type(value).__name__} to a gradx.{kind.title}Tensor") from None


def _slimmed(value: Variable) -> Any:
    """`value` without leading dimensions of length 1: torch lets them pass where they are too many."""
    lengths = value.array.shape
    lead = next((d for d, n in enumerate(lengths) if n != 1), len(lengths))
    return shape.reshape(value, lengths[lead:]) if lead else value  # type: ignore[arg-type]

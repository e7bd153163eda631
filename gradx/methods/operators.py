"""Python's operators on tensors. An operand of a foreign kind may know better: it is asked before an error is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradx.backends import is_array
from gradx.op import variants_of
from gradx.ops import compare, division, elementwise, index, magnitude, matmul
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def _binary(function: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    straight = variants_of(function).get

    def method(self: Any, other: Any) -> Any:
        known = straight((type(self), type(other)))
        if known is not None:
            return known(self, other)
        if other is None:
            return NotImplemented
        try:
            return function(self, other)
        except (TypeError, ValueError, AttributeError):
            if _is_operand(other):
                raise
            return NotImplemented

    return method


def _reflected(function: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    straight = variants_of(function).get
    general = _binary(lambda self, other: function(other, self))

    def method(self: Any, other: Any) -> Any:
        known = straight((type(other), type(self)))
        return general(self, other) if known is None else known(other, self)

    return method


def _is_operand(value: Any) -> bool:
    return isinstance(value, (Variable, bool, int, float, complex)) or is_array(value)


class OperatorMethods(Variable):
    """The operators."""

    __slots__ = ()

    __add__ = __radd__ = _binary(elementwise._add)
    __sub__, __rsub__ = _binary(elementwise._sub), _reflected(elementwise._sub)
    __mul__ = __rmul__ = _binary(elementwise.mul)
    __truediv__ = _binary(division._div)
    __rtruediv__ = _binary(lambda self, other: elementwise.mul(elementwise.reciprocal(self), other))
    __floordiv__, __rfloordiv__ = _binary(division.floor_divide), _reflected(division.floor_divide)
    __mod__, __rmod__ = _binary(division.remainder), _reflected(division.remainder)
    __pow__, __rpow__ = _binary(elementwise.pow), _reflected(elementwise.pow)
    __matmul__, __rmatmul__ = _binary(matmul.matmul), _reflected(matmul.matmul)
    __and__ = __rand__ = _binary(compare.bitwise_and)
    __or__ = __ror__ = _binary(compare.bitwise_or)
    __xor__ = __rxor__ = _binary(compare.bitwise_xor)
    __eq__: Any = _binary(compare.eq)  # not the truth value that type checkers expect
    __ne__: Any = _binary(compare.ne)
    __lt__, __le__ = _binary(compare.lt), _binary(compare.le)
    __gt__, __ge__ = _binary(compare.gt), _binary(compare.ge)
    __hash__ = object.__hash__

    __neg__ = elementwise.neg
    __abs__ = magnitude.abs
    __invert__ = compare.bitwise_not
    __getitem__ = index.getitem

    def __pos__(self) -> Any:
        return self

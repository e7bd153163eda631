"""The operations as methods: `t.exp()` is `gradx.exp(t)`. One line each, so that type checkers and readers see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx.methods.operators import OperatorMethods
from gradx.ops import (
    activation,
    compare,
    complexes,
    division,
    elementwise,
    extrema,
    index,
    join,
    magnitude,
    matmul,
    reduce,
    select,
    shape,
    softmax,
    statistics,
    transfer,
)

if TYPE_CHECKING:
    from gradx.tensor import Tensor


class OperationMethods(OperatorMethods):
    """What a tensor can compute."""

    __slots__ = ()

    # elementwise
    add, sub, mul, div, pow = elementwise.add, elementwise.sub, elementwise.mul, division.div, elementwise.pow
    subtract, multiply, divide, true_divide = sub, mul, div, div
    floor_divide, remainder = division.floor_divide, division.remainder
    neg, negative, reciprocal, square = elementwise.neg, elementwise.neg, elementwise.reciprocal, elementwise.square
    abs, absolute, sign = magnitude.abs, magnitude.abs, magnitude.sign
    floor, ceil, round, trunc = elementwise.floor, elementwise.ceil, elementwise.round, elementwise.trunc
    exp, expm1, sqrt, rsqrt = elementwise.exp, elementwise.expm1, elementwise.sqrt, elementwise.rsqrt
    log, log2, log10, log1p = elementwise.log, elementwise.log2, elementwise.log10, elementwise.log1p
    sin, cos, tan = elementwise.sin, elementwise.cos, elementwise.tan
    erf = elementwise.erf
    relu, tanh, sigmoid = activation.relu, activation.tanh, activation.sigmoid
    maximum, minimum, clamp, clip = select.maximum, select.minimum, select.clamp, select.clamp
    masked_fill = select.masked_fill
    eq, ne, lt, le, gt, ge = compare.eq, compare.ne, compare.lt, compare.le, compare.gt, compare.ge
    logical_and, logical_or = compare.logical_and, compare.logical_or
    logical_xor, logical_not = compare.logical_xor, compare.logical_not
    bitwise_and, bitwise_or = compare.bitwise_and, compare.bitwise_or
    bitwise_xor, bitwise_not = compare.bitwise_xor, compare.bitwise_not
    isnan, isinf, isfinite = compare.isnan, compare.isinf, compare.isfinite

    sgn, angle, conj = magnitude.sgn, magnitude.angle, complexes.conj
    conj_physical = conj
    real = property(complexes.real, doc="The real part.")
    imag = property(complexes.imag, doc="The imaginary part, of complex numbers.")

    # reductions
    sum, mean, prod, cumsum = reduce.sum, reduce.mean, reduce.prod, reduce.cumsum
    amax, amin, max, min = extrema.amax, extrema.amin, extrema.max, extrema.min
    argmax, argmin = extrema.argmax, extrema.argmin
    any, all = reduce.any, reduce.all
    var, std, logsumexp, norm = statistics.var, statistics.std, statistics.logsumexp, statistics.norm
    softmax, log_softmax = softmax.softmax, softmax.log_softmax

    # products
    matmul, mm, bmm, dot, addmm = matmul.matmul, matmul.mm, matmul.bmm, matmul.dot, matmul.addmm

    # shapes
    reshape, view, flatten, expand, expand_as = shape.reshape, shape.view, shape.flatten, shape.expand, shape.expand_as
    permute, transpose, t = shape.permute, shape.transpose, shape.t
    squeeze, unsqueeze, flip, broadcast_to = shape.squeeze, shape.unsqueeze, shape.flip, shape.broadcast_to
    select, narrow, gather, index_select = index.select, index.narrow, index.gather, index.index_select
    split, chunk, unbind = join.split, join.chunk, join.unbind
    clone = transfer.clone

    def where(self: Any, condition: Any, other: Any) -> Tensor:
        """`self` where `condition` holds, `other` elsewhere."""
        return select.where(condition, self, other)

    def contiguous(self: Any) -> Tensor:
        """The tensor itself if contiguous, else a copy that is."""
        return self if self.array.flags.c_contiguous else transfer.contiguous(self)

    @property
    def T(self: Any) -> Tensor:
        """The tensor with its dimensions reversed."""
        return shape.permute(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self: Any) -> Tensor:
        """The tensor with its last two dimensions exchanged."""
        return shape.transpose(self, -2, -1)

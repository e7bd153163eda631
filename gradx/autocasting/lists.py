"""Which operations autocast casts, and to what: one table for each device type.

Source: torch's "Automatic Mixed Precision package" page, "Autocast Op Reference", and the registrations of torch 2.13,
with which the tests compare both tables. An operation in no list runs in the dtype of its inputs, or promotes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

Dtype = np.dtype[Any]
Policy = Callable[[Dtype, Sequence[Dtype]], Dtype]

SINGLE: Final = np.dtype(np.float32)

UNSAFE = (
    "gradx.nn.functional.binary_cross_entropy and gradx.nn.BCELoss are unsafe to autocast.\n"
    "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
    "In this case, combine the two layers using gradx.nn.functional.binary_cross_entropy_with_logits\n"
    "or gradx.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
    "safe to autocast."
)


def lower(target: Dtype, given: Sequence[Dtype]) -> Dtype:
    """To the block's dtype: fast, and exact enough for sums of products that are accumulated in float32."""
    return target


def single(target: Dtype, given: Sequence[Dtype]) -> Dtype:
    """To float32: sums of many terms, and functions that amplify errors or leave the range of half precision."""
    return SINGLE


def widest(target: Dtype, given: Sequence[Dtype]) -> Dtype:
    """To float32 if one of the inputs is float32, else to the block's dtype."""
    if any(dtype not in (SINGLE, target) for dtype in given):
        raise RuntimeError(
            "Unexpected floating ScalarType in at::autocast::prioritize. Operands must be float32 or of the dtype of the "
            f"autocast block, {target.name}; they are {', '.join(dtype.name for dtype in given)}."
        )
    return SINGLE if SINGLE in given else target


def refused(target: Dtype, given: Sequence[Dtype]) -> Dtype:
    """Not at all: the gradient would leave the range of half precision."""
    raise RuntimeError(UNSAFE)


_PRODUCTS = "addmm bmm linear matmul mm mv"
_POWERS = "exp expm1 pow pow_scalar reciprocal rsqrt square"  # of pow, some are operations of their own here
_LOGARITHMS = "log log10 log1p log2 logsumexp"
_SUMS = "cumsum layer_norm log_softmax norm prod softmax sum"
_LOSSES = """binary_cross_entropy_with_logits cross_entropy huber_loss l1_loss mse_loss nll_loss smooth_l1_loss
    squared_difference"""


def _of(policies: dict[Policy, str]) -> dict[str, Policy]:
    """The policy of each operation, given the operations of each policy."""
    return {name: policy for policy, names in policies.items() for name in names.split()}


CUDA: Final = _of(
    {
        lower: _PRODUCTS,
        single: f"{_POWERS} {_LOGARITHMS} {_SUMS} {_LOSSES} softplus tan",
        widest: "dot",
        refused: "binary_cross_entropy",
    }
)

CPU: Final = _of(
    {
        lower: _PRODUCTS,
        single: f"binary_cross_entropy polar prod view_as_complex {_LOSSES}",
        widest: "cat stack",
    }
)

LISTS: Final = {"cuda": CUDA, "cpu": CPU}

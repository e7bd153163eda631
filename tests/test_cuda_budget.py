"""How many kernels an operation launches on CUDA, forward and for each gradient, and that it copies and waits for nothing.

Every operation of the table is held to `BUDGETS`, or to one launch forward and one a gradient. What broadcasting adds, one
sum for an operand that was broadcast, is counted besides: `sum` itself takes two launches for a few long slices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from calls import CASES, arguments, arrays_for, gradx_leaf, leaves, outputs

import gradx
from gradx.samples import TABLE

pytestmark = pytest.mark.cuda


class Budget(NamedTuple):
    """The most launches, forward and for the gradient of one input, and why they are more than one."""

    forward: int = 1
    backward: int = 1
    why: str = ""


BUDGETS = {
    **dict.fromkeys(("var", "std", "logsumexp", "norm", "mean", "sum"), Budget(2, 1)),
    "norm 4": Budget(2, 3, "the largest magnitude: ties are counted"),
    "mse_loss": Budget(2, 1),
    **dict.fromkeys(("cross_entropy", "nll_loss"), Budget(3, 1)),
    **dict.fromkeys(("amax", "amin"), Budget(1, 2, "ties are counted first")),
    **dict.fromkeys(("max", "min"), Budget(2, 2, "the index, then the value; ties are counted first")),
    **dict.fromkeys(("gather", "index_select"), Budget(2, 1, "the index is copied, so that it cannot change")),
    **dict.fromkeys(("cat", "stack"), Budget(3, 1, "one for each tensor")),
    **dict.fromkeys(("split", "chunk", "unbind"), Budget(1, 3, "one for each piece")),
    "prod": Budget(1, 22, "the products of all others, by halves: exact where elements are zero"),
    "cumsum": Budget(2, 4, "a scan is two launches; backward, the order is reversed before and after"),
    "matmul": Budget(6, 8, "stacks of matrices that broadcast"),
    "addmm": Budget(3, 1, "factors other than 1"),
    "softmin": Budget(2, 2, "the softmax of the negative"),
    "l1_loss": Budget(3, 3, "difference, size, mean"),
    **dict.fromkeys(("smooth_l1_loss", "huber_loss"), Budget(2, 2, "the losses, then their mean")),
    "binary_cross_entropy": Budget(3, 2, "the losses, their weights, then their mean"),
    "binary_cross_entropy_with_logits": Budget(3, 3, "the losses, their weights, then their mean"),
    "normalize": Budget(4, 10, "norm, bound and quotient"),
    "layer_norm": Budget(2, 9, "mean and variance, then the rest; backward, each by a way of its own"),
}
WAITS = ("h2d_copies", "d2h_copies", "syncs")


def test_budgets_are_of_operations_that_exist():
    assert {key.split()[0] for key in BUDGETS} <= set(TABLE)


@pytest.mark.parametrize(("name", "i"), CASES)
def test_launches(name, i, cuda_counters):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    tensors, wanted = leaves(sample, arrays_for(name, i, np.float32), gradx_leaf("cuda"))
    budget = BUDGETS.get(f"{name} {i}") or BUDGETS.get(name, Budget())

    def counted(function):
        function()  # compiled at its first use
        cuda_counters.reset()
        result = function()
        counts = cuda_counters.counters()
        assert [kind for kind in WAITS if counts[kind]] == []
        return result, counts["launches"]

    result, launches = counted(lambda: entry.function(*arguments(sample, tensors), **sample.kwargs))
    assert launches <= budget.forward
    outs = [out for out in outputs(result) if out.requires_grad]
    if not (outs and entry.differentiable):
        return
    ones = [gradx.ones_like(out) for out in outs]
    for leaf in wanted:
        _, launches = counted(
            lambda leaf=leaf: gradx.autograd.grad(outs, [leaf], ones, retain_graph=True, allow_unused=True)
        )
        broadcast = all(leaf.numel() < out.numel() for out in outs)
        assert launches <= budget.backward + broadcast

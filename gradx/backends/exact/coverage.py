"""Which kernels give the same bits on every device as they are, and which have no form yet that does."""

from __future__ import annotations

from typing import Final

# They move elements, or compute with none: as they are, they give the same bits.
MOVES: Final = frozenset(
    """alias cat clone conj contiguous expand flip gather imag index move new_zeros ones_like permute pin_memory real reshape
    slice slice_backward split stack unbind view view_as_complex view_as_real zeros_like""".split()
)
# `bernoulli` compares random numbers with probabilities that may be subnormal.
MISSING: Final = frozenset("bernoulli complex".split())


class NoExactForm(AttributeError):
    """What was asked for may give other bits on another device."""

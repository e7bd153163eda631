"""Shapes, printed as torch prints them."""

from __future__ import annotations


class Size(tuple[int, ...]):
    """A shape: a tuple that prints like torch's."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        total = 1
        for n in self:
            total *= n
        return total

    def __repr__(self) -> str:
        return f"gradx.Size({list(self)})"

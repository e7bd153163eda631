"""From an operation's name and the type of its arrays to the kernel that computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradx.backends import BY_TYPE, Backend, Parts


class Kernels(dict[type, Callable[..., Any]]):
    """The kernel of one operation for each array type, found at its first use.

    Args:
        expression: what the kernel computes, if it is not one of the backend's.
    """

    def __init__(self, name: str, expression: Callable[..., Any] | None, static: frozenset[int]) -> None:
        super().__init__()
        self.name, self.expression, self.static = name, expression, static

    def __missing__(self, array_type: type) -> Callable[..., Any]:
        backend = BY_TYPE[array_type]
        if backend is None:
            raise TypeError(f"{self.name}(): expected a Tensor or an array, but got {array_type.__name__}")
        return self.setdefault(array_type, self.made_by(backend))

    def made_by(self, backend: Backend) -> Callable[..., Any]:
        if self.expression is None:
            return backend.kernel(self.name)
        return backend.computed(self.expression, self.name, self.static)


class LargeKernels(Kernels):
    """Those for large arrays, which a backend may take apart as `parts` tells."""

    def __init__(self, name: str, expression: Callable[..., Any] | None, parts: Parts) -> None:
        super().__init__(name, expression, parts.static)
        self.parts = parts

    def made_by(self, backend: Backend) -> Callable[..., Any]:
        return backend.large_kernel(self.name, self.expression, self.parts)

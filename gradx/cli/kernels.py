"""The kernels whose speed gradx answers for, written once for gradx and for torch.

How compulsory bytes are counted: every tensor that a pass cannot do without crosses the memory bus once. A
forward pass reads its inputs and writes its output. A backward pass reads the gradient of the output, `g`,
and whichever of the inputs `a`, `b` and the output `y` its formula names, and writes the gradient of each
input that needs one. Temporaries count for nothing: an implementation that makes some has a lower effective
bandwidth. Where the gradient is `g` itself or a view of it, scaled or not (`add`, `sum`, `mean`), no byte
must move, and there is no bandwidth to give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray[Any, Any], ...]
Sample = Callable[[np.random.Generator, int, int], Arrays]


def one(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """One matrix of standard normal numbers, float32."""
    return (rng.standard_normal((rows, cols), dtype=np.float32),)


def two(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """Two such matrices."""
    return one(rng, rows, cols) + one(rng, rows, cols)


def positive(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """One matrix of numbers in [0.5, 1.5), float32: safe to divide by and to take the logarithm of."""
    return (rng.random((rows, cols), dtype=np.float32) + np.float32(0.5),)


def quotient(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """A dividend and a divisor."""
    return one(rng, rows, cols) + positive(rng, rows, cols)


def classes(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """A matrix of logits and one class index per row, int64."""
    return (*one(rng, rows, cols), rng.integers(0, cols, rows))


def factors(rng: np.random.Generator, rows: int, cols: int) -> Arrays:
    """A rows x cols and a cols x cols matrix."""
    return one(rng, rows, cols) + one(rng, cols, cols)


@dataclass(frozen=True)
class Kernel:
    """A differentiable function, inputs to try it on, and what its backward pass must move."""

    name: str
    function: Callable[..., Any]  # of a namespace, gradx or torch, and the input tensors
    sample: Sample
    backward_moves: str  # the tensors it must read -> those it must write, by the letters explained above
    constants: int = 0  # how many of the last inputs need no gradient

    def tensors(self, namespace: Any, arrays: Arrays, device: str) -> list[Any]:
        """The inputs as tensors of `namespace` on `device`, those that need gradients marked."""
        tensors = [namespace.as_tensor(array, device=device) for array in arrays]
        for tensor in tensors[: len(tensors) - self.constants]:
            tensor.requires_grad_()
        return tensors

    def forward_bytes(self, arrays: Arrays, output: Any) -> int:
        """The compulsory bytes of one forward pass."""
        return sum(array.nbytes for array in arrays) + nbytes(output)

    def backward_bytes(self, arrays: Arrays, output: Any) -> int:
        """The compulsory bytes of one backward pass."""
        sizes = dict(zip("ab", (array.nbytes for array in arrays), strict=False))
        sizes |= {"g": nbytes(output), "y": nbytes(output)}
        return sum(sizes.get(letter, 0) for letter in self.backward_moves)


def nbytes(tensor: Any) -> int:
    """The size of a tensor's elements in bytes."""
    return int(tensor.numel()) * int(tensor.element_size())


KERNELS = {
    kernel.name: kernel
    for kernel in [
        Kernel("add", lambda t, a, b: a + b, two, ""),
        Kernel("mul", lambda t, a, b: a * b, two, "gab -> ab"),
        Kernel("div", lambda t, a, b: a / b, quotient, "gab -> ab"),
        Kernel("exp", lambda t, a: t.exp(a), one, "gy -> a"),
        Kernel("log", lambda t, a: t.log(a), positive, "ga -> a"),
        Kernel("tanh", lambda t, a: t.tanh(a), one, "gy -> a"),
        Kernel("sigmoid", lambda t, a: t.sigmoid(a), one, "gy -> a"),
        Kernel("relu", lambda t, a: t.relu(a), one, "gy -> a"),
        Kernel("sum", lambda t, a: t.sum(a, dim=-1), one, ""),
        Kernel("mean", lambda t, a: t.mean(a, dim=-1), one, ""),
        Kernel("amax", lambda t, a: t.amax(a, dim=-1), one, "gya -> a"),
        Kernel("var", lambda t, a: t.var(a, dim=-1), one, "ga -> a"),
        Kernel("logsumexp", lambda t, a: t.logsumexp(a, dim=-1), one, "gya -> a"),
        Kernel("softmax", lambda t, a: t.nn.functional.softmax(a, dim=-1), one, "gy -> a"),
        Kernel("log_softmax", lambda t, a: t.nn.functional.log_softmax(a, dim=-1), one, "gy -> a"),
        Kernel("mse_loss", lambda t, a, b: t.nn.functional.mse_loss(a, b), two, "gab -> a", constants=1),
        Kernel(
            "cross_entropy",
            lambda t, a, b: t.nn.functional.cross_entropy(a, b),
            classes,
            "gab -> a",
            constants=1,
        ),
        Kernel("matmul", lambda t, a, b: t.matmul(a, b), factors, "gab -> ab"),
    ]
}

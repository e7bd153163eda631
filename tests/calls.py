"""Running one sample call on gradx and on torch."""

from __future__ import annotations

import operator
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import gradx
from gradx.samples import TABLE, Entry, S, T

CASES = [(name, i) for name, entry in TABLE.items() for i in range(len(entry.samples))]
DIFFERENTIABLE = [(name, i) for name, i in CASES if TABLE[name].differentiable]


def arrays_for(name: str, i: int, dtype: Any) -> list[np.ndarray]:
    """The elements of the tensor inputs of a sample call, always the same."""
    random = np.random.default_rng(zlib.crc32(f"{name} {i}".encode()))
    return [t.array(random, dtype) for t in TABLE[name].samples[i].tensors()]


def arguments(sample: S, tensors: list[Any]) -> list[Any]:
    """The positional arguments of a sample call, with `tensors` in the places of its tensor inputs."""
    given = iter(tensors)
    filled = []
    for arg in sample.args:
        items = [next(given) if isinstance(item, T) else item for item in (arg if isinstance(arg, list) else [arg])]
        filled.append(items if isinstance(arg, list) else items[0])
    return filled


def oracle(entry: Entry) -> Callable[..., Any]:
    """Torch's function of the same name."""
    path = entry.oracle if hasattr(torch, entry.oracle.split(".")[0]) else f"Tensor.{entry.oracle}"
    return operator.attrgetter(path)(torch)


def leaves(sample: S, arrays: list[np.ndarray], make: Callable[..., Any]) -> tuple[list[Any], list[Any]]:
    """All tensor inputs, and those of them to differentiate."""
    tensors = [make(a, t.grad and a.dtype.kind in "fV") for a, t in zip(arrays, sample.tensors(), strict=True)]
    return tensors, [x for x in tensors if x.requires_grad]


def gradx_leaf(device: str) -> Callable[..., gradx.Tensor]:
    return lambda a, grad: gradx.tensor(a, device=device, requires_grad=grad)


def torch_leaf(a: np.ndarray, grad: bool) -> torch.Tensor:
    return torch_tensor(a).requires_grad_(grad)


def torch_tensor(a: np.ndarray) -> torch.Tensor:
    """Torch's tensor of an array, also of bfloat16, which torch does not take from NumPy."""
    return torch.tensor(a.astype(np.float32)).bfloat16() if a.dtype.kind == "V" else torch.tensor(a)


def outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def host(t: Any) -> np.ndarray:
    """The elements of a gradx or torch tensor as a NumPy array: float32 for bfloat16, which torch does not give NumPy."""
    t = t.float() if str(t.dtype).endswith("bfloat16") else t
    return t.detach().cpu().numpy(force=True)  # torch's lazy zeros refuse otherwise


def weighted(module: Any, result: Any) -> tuple[list[Any], list[Any]]:
    """The outputs that have gradients, and for each a weight of its shape. The weights make every element count."""
    outs = [out for out in outputs(result) if out.requires_grad]
    weights = [
        module.cos(module.arange(out.numel(), dtype=out.dtype, device=out.device) + i) for i, out in enumerate(outs)
    ]
    return outs, [weight.reshape(out.shape) for weight, out in zip(weights, outs, strict=True)]


def gradients(module: Any, call: Callable[[], Any], wanted: list[Any]) -> list[Any]:
    """First and second gradients: of the weighted outputs, then of a function of those, through every rule once more."""
    outs, weights = weighted(module, call())
    found = module.autograd.grad(outs, wanted, weights, create_graph=True, allow_unused=True)
    total = sum((g * g * 0.5).sum() + (g.sin()).sum() for g in found if g is not None and g.requires_grad)
    if isinstance(total, int):
        return [*found, *[None] * len(wanted)]
    second = module.autograd.grad(total, wanted, allow_unused=True)
    return [*found, *second]

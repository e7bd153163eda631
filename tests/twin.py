"""Running the same program on torch and on gradx, and comparing what comes out: values, dtypes, or the error."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import gradx


class Raised(NamedTuple):
    """How a program ended that raised."""

    error: type[BaseException]
    message: str


def outcome(module: Any, program: Callable[[Any], Any]) -> Any:
    """What `program(module)` returns, as `plain` data, or what it raises."""
    try:
        with warnings.catch_warnings():
            if module is torch:  # torch warns of its own deprecations; gradx must not let a warning of NumPy's escape
                warnings.simplefilter("ignore")
            return plain(program(module))
    except Exception as error:
        return Raised(type(error), str(error))


def plain(result: Any) -> Any:
    """Tensors as (dtype, array), containers as tuples, all else as (type, value)."""
    if isinstance(result, (torch.Tensor, gradx.Tensor)):
        elements = result.float() if name(result.dtype) == "bfloat16" else result  # torch gives NumPy no bfloat16
        return name(result.dtype), elements.detach().numpy(force=True)
    if isinstance(result, (torch.Size, gradx.Size)):
        return "Size", tuple(result)
    if isinstance(result, (tuple, list)):
        return tuple(plain(item) for item in result)
    if isinstance(result, (torch.dtype, gradx.dtype)):
        return "dtype", name(result)
    if isinstance(result, (torch.device, gradx.device)):
        return "device", str(result)
    if isinstance(result, np.ndarray):
        return str(result.dtype), result
    return type(result).__name__, result


def name(dtype: Any) -> str:
    """A dtype's name without the library's."""
    return str(dtype).rpartition(".")[2]


def sentence(message: str) -> str:
    """The first sentence of an error message, in the words that both libraries share."""
    message = message.replace("torch", "gradx")
    return re.split(r"(?<=[^0-9\s])\.(?:\s|$)|\n|!", message)[0].strip()


def same(program: Callable[[Any], Any], *, rtol: float = 0.0, atol: float = 0.0, message: bool = True) -> None:
    """Assert that `program` does on gradx what it does on torch.

    Args:
        program: takes the library as its argument.
        rtol, atol: how far numbers may differ; by default not at all.
        message: compare the first sentence of the error too, where there is one.
    """
    theirs, ours = outcome(torch, program), outcome(gradx, program)
    if isinstance(theirs, Raised) or isinstance(ours, Raised):
        assert isinstance(ours, Raised), f"gradx gives {ours}, torch raises {theirs}"
        assert isinstance(theirs, Raised), f"gradx raises {ours}, torch gives {theirs}"
        assert _kin(ours.error, theirs.error), f"gradx raises {ours}, torch {theirs}"
        if message and theirs.error is not NotImplementedError:  # those name torch's kernels
            assert sentence(ours.message) == sentence(theirs.message)
        return
    _equal(ours, theirs, rtol, atol)


def _kin(ours: type[BaseException], theirs: type[BaseException]) -> bool:
    """Whether our error can be caught as torch's; of an error class of torch's own, ours has the name."""
    return issubclass(ours, theirs) or (theirs.__module__.startswith("torch") and ours.__name__ == theirs.__name__)


def _equal(ours: Any, theirs: Any, rtol: float, atol: float) -> None:
    assert isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs), (ours, theirs)
    if len(ours) != 2 or not isinstance(ours[0], str):
        for mine, other in zip(ours, theirs, strict=True):
            _equal(mine, other, rtol, atol)
        return
    assert ours[0] == theirs[0], (ours, theirs)  # dtype, or type
    if isinstance(theirs[1], np.ndarray):
        assert ours[1].shape == theirs[1].shape, (ours, theirs)
        np.testing.assert_allclose(ours[1], theirs[1], rtol, atol)
    elif isinstance(theirs[1], float):
        np.testing.assert_allclose(ours[1], theirs[1], rtol, atol)
    else:
        assert ours[1] == theirs[1]

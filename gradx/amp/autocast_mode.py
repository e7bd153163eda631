"""Blocks in which operations choose their precision, and the functions behind them. All is per thread."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from gradx import autocasting
from gradx.autocasting import Settings, state
from gradx.backends.cuda.status import diagnose
from gradx.device import device
from gradx.dtypes import bfloat16, float16, float64
from gradx.dtypes import dtype as Dtype
from gradx.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

LOWER = (bfloat16, float16)  # what the CPU casts to


def is_autocast_available(device_type: str) -> bool:
    """Whether there is autocast for a type of device.

    >>> is_autocast_available("cpu")
    True
    """
    return device(device_type).type in state.dtypes


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether operations of this thread are cast on devices of this type."""
    return _type(device_type) in state.enabled


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Cast operations of this thread on devices of this type, or do not. `autocast` does it for a block."""
    kind, now = _type(device_type), autocasting.settings()
    autocasting.apply(now._replace(enabled=now.enabled | {kind} if enabled else now.enabled - {kind}))


def get_autocast_dtype(device_type: str) -> Dtype:
    """The lower dtype that operations are cast to: unless set, float16 on CUDA, and bfloat16 on the CPU.

    >>> get_autocast_dtype("cuda"), get_autocast_dtype("cpu")
    (gradx.float16, gradx.bfloat16)
    """
    return state.dtypes[_type(device_type)]


def set_autocast_dtype(device_type: str, dtype: Dtype) -> None:
    """Set the lower dtype for this thread. `autocast` does it for a block."""
    now = autocasting.settings()
    autocasting.apply(now._replace(dtypes={**now.dtypes, _type(device_type): dtype}))


def is_autocast_cache_enabled() -> bool:
    """Whether casts of leaves are kept until the outermost block ends."""
    return state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Keep casts of leaves until the outermost block ends, or do not."""
    state.cache_enabled = enabled


def clear_autocast_cache() -> None:
    """Drop the casts of leaves that are kept."""
    state.cache.clear()


def _type(device_type: str) -> str:
    """The type of a device.

    Raises:
        RuntimeError: there is no autocast for it.
    """
    if not is_autocast_available(device_type):
        raise RuntimeError(
            f"User specified an unsupported autocast device_type '{device_type}'. gradx has {' and '.join(state.dtypes)}."
        )
    return device(device_type).type


class autocast:
    """Within it, listed operations run in the dtype that suits them: ``with autocast("cuda"):`` or ``@autocast("cuda")``.

    Matrix products run in `dtype`; softmax, losses, sums, exp, pow and their like in float32; others in the dtype of what
    they get. Only float32 and narrower are cast. Run the forward pass and the loss within the block, and `backward`
    outside: gradients have the dtypes of the forward pass, those of leaves the dtypes of the leaves. Source: torch's
    "Automatic Mixed Precision package" page, whose lists these are.

    Args:
        device_type: "cuda" or "cpu". Operations on devices of other types are left alone.
        dtype: the lower dtype; `get_autocast_dtype(device_type)` unless given.
        enabled: False makes a block without casts, also within another.
        cache_enabled: keep the casts of leaves that require grad until the outermost block ends.

    Raises:
        ValueError: `device_type` is no string.
        RuntimeError: there is no autocast for it.

    >>> import gradx
    >>> x = gradx.ones(2, 2)
    >>> with autocast("cpu", gradx.float16):
    ...     (x @ x).dtype, (x @ x + x).dtype
    (gradx.float16, gradx.float32)
    """

    def __init__(
        self, device_type: str, dtype: Dtype | None = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device = _type(device_type)
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        obstacle = _obstacle(self.device, self.fast_dtype) if enabled else None
        if obstacle:
            warnings.warn(obstacle, stacklevel=2)
        self._enabled = enabled and obstacle is None
        self._before: list[Settings] = []

    def __enter__(self) -> autocast:
        now = autocasting.settings()
        self._before.append(now)
        enabled = now.enabled | {self.device} if self._enabled else now.enabled - {self.device}
        autocasting.apply(Settings(enabled, {**now.dtypes, self.device: self.fast_dtype}, self._cache_enabled))
        state.nesting += 1
        return self

    def __exit__(self, *exception: object) -> None:
        state.nesting -= 1
        if not state.nesting:
            clear_autocast_cache()
        autocasting.apply(self._before.pop())

    def __call__(self, func: F) -> F:
        if not callable(func):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(func).__name__}. "
                "Did you mean to use autocast as a context manager? For example:\n"
                "    with gradx.autocast(device_type=...):\n"
                "        output = model(input)"
            )

        @functools.wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return decorated  # type: ignore[return-value]


def _obstacle(device_type: str, dtype: Dtype) -> str | None:
    """Why there can be no casts, if so."""
    if device_type == "cuda":
        found = diagnose()
        return None if found.usable else f"CUDA is not available. Disabling autocast. {found.cause} {found.fix}"
    if dtype in LOWER:
        return None
    return (
        "In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
        f"CPU Autocast only supports dtypes of {', '.join(map(str, LOWER))} currently."
    )


# ---- functions of the user's -----------------------------------------------------------------------------------------


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Dtype | None = None) -> Any:
    """Decorate the ``forward`` of an `autograd.Function`: its `backward` then runs under the same autocast.

    Args:
        device_type: "cuda" or "cpu".
        cast_inputs: under autocast, cast the floating-point inputs to this dtype, and run ``forward`` without autocast.

    Raises:
        ValueError: `device_type` is no string.
    """
    _require_string(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._dtype = get_autocast_dtype(device_type)
        under_autocast = is_autocast_enabled(device_type)
        ctx._fwd_used_autocast = under_autocast and cast_inputs is None
        if not under_autocast or cast_inputs is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorate the ``backward`` of an `autograd.Function`, whose ``forward`` is decorated with `custom_fwd`.

    Raises:
        ValueError: `device_type` is no string.
    """
    _require_string(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, ctx._dtype, ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)

    return decorated


def _require_string(device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")


def _cast(value: Any, device_type: str, dtype: Dtype) -> Any:
    """`value` with the floating-point tensors in it cast, in dictionaries, lists and tuples too; float64 stays."""
    if isinstance(value, Tensor):
        eligible = value.is_floating_point() and value.dtype is not float64 and value.device.type == device_type
        return value.to(dtype) if eligible else value
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, Iterable):
        items = (_cast(item, device_type, dtype) for item in value)
        return type(value)(items) if isinstance(value, (list, tuple)) else items
    return value

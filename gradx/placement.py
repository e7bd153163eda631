"""From the device a user names to the device there is: "auto", defaults, and the fallback from CUDA to the CPU."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, Literal

from gradx.backends import Backend, backend_for
from gradx.backends.cuda.status import diagnose
from gradx.device import device

Policy = Literal["warn", "silent", "error"]


class DeviceFallbackWarning(UserWarning):
    """A CUDA device was asked for, there is none that can be used, and the tensor was put on the CPU."""


class _Settings:
    default = device("cpu")
    policy: str | None = None
    warned = False


def set_device_fallback(policy: Policy) -> None:
    """What happens when CUDA is asked for and cannot be used: "warn" (once, then the CPU), "silent", or "error".

    The environment variable ``GRADX_DEVICE_FALLBACK`` sets the same.

    Raises:
        ValueError: the policy is none of these.
    """
    if policy not in ("warn", "silent", "error"):
        raise ValueError(f"device fallback must be 'warn', 'silent' or 'error', not {policy!r}")
    _Settings.policy = policy
    _Settings.warned = False


def get_device_fallback() -> str:
    """The policy in force: what was set, else ``GRADX_DEVICE_FALLBACK``, else "warn"."""
    policy = _Settings.policy or os.environ.get("GRADX_DEVICE_FALLBACK") or "warn"
    if policy not in ("warn", "silent", "error"):
        raise ValueError(f"GRADX_DEVICE_FALLBACK must be 'warn', 'silent' or 'error', not {policy!r}")
    return policy


def get_default_device() -> device:
    """The device of tensors made without a device."""
    return _Settings.default


def set_default_device(spec: Any) -> None:
    """Put tensors that are made without a device on this one, from now on. None is the CPU."""
    _Settings.default = device("cpu") if spec is None else resolve(spec)


def resolve(spec: Any) -> device:
    """The device meant by a `gradx.device`, a string, an index, "auto", or None (the default device).

    Raises:
        RuntimeError: there is no such device, or CUDA cannot be used and the policy is "error".
    """
    if spec is None:
        return _Settings.default
    if spec == "auto":
        return resolve("cuda") if diagnose().usable else device("cpu")
    where = device(spec)
    if where.type == "cpu":
        return device("cpu")
    if where.type != "cuda":
        backend_for(where)
        return where
    status = diagnose()
    if not status.usable:
        return _fall_back(where, f"{status.cause} {status.fix}")
    backend = backend_for(where)
    if where.index is None:
        return device("cuda", backend.current_device())
    if where.index >= backend.device_count():
        raise RuntimeError(
            f"CUDA error: invalid device ordinal. {where} was asked for, and there are {backend.device_count()} devices."
        )
    return where


def pinning_backend(missing: str) -> Backend:
    """The backend whose devices copy from pinned memory by themselves: CUDA's.

    Raises:
        RuntimeError: CUDA cannot be used. The message starts with the sentence `missing`.
    """
    status = diagnose()
    if not status.usable:
        raise RuntimeError(f"{missing} {status.cause} {status.fix}")
    return backend_for(device("cuda"))


def _fall_back(where: device, why: str) -> device:
    policy = get_device_fallback()
    if policy == "error":
        raise RuntimeError(f"Device {where} is not usable. {why}")
    if policy == "warn" and not _Settings.warned:
        _Settings.warned = True
        warnings.warn(
            f"Device {where} is not usable, so the CPU is used instead. {why}",
            DeviceFallbackWarning,
            stacklevel=_level_outside(),
        )
    return device("cpu")


def _level_outside() -> int:
    """The `stacklevel` by which a warning of the caller's names the first line that is not gradx's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("gradx."):
        level, frame = level + 1, frame.f_back
    return level

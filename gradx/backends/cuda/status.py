"""Why CUDA is usable here, or why it is not and what to do about it. Importing this never imports CuPy."""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from typing import Any, Final

_CUPY_PACKAGE: Final = re.compile(r"cupy(-cuda\d+x?|-rocm[-\d]+)?")
_INSUFFICIENT_DRIVER: Final = 35  # cudaErrorInsufficientDriver
_NO_DEVICE: Final = 100  # cudaErrorNoDevice
INSTALL: Final = "pip install 'gradx[cuda13]', or 'gradx[cuda12]' for a driver older than 580."


@dataclass(frozen=True)
class Diagnosis:
    """Whether CUDA is usable and, where it is not, the cause and the fix: a sentence each, else empty."""

    usable: bool
    cause: str
    fix: str


class _Unusable(Exception):
    """Raised by a check that fails, with the cause and the fix."""


@functools.cache
def diagnose() -> Diagnosis:
    """Find out, once per process, whether arrays can live on a CUDA device. Imports CuPy if it can."""
    try:
        _check_packages()
        cuda = _import_cupy().cuda
        _check_driver(cuda.runtime)
        _check_compiler(cuda.nvrtc)
    except _Unusable as reason:
        cause, fix = reason.args
        return Diagnosis(False, cause, fix)
    return Diagnosis(True, "", "")


def _check_packages() -> None:
    """At most one distribution may provide the package ``cupy``. CuPy itself only warns, once imported."""
    import importlib.metadata  # slow to import, and needed only where CUDA is asked for

    names = (distribution.metadata["Name"] or "" for distribution in importlib.metadata.distributions())
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    packages = sorted(name for name in normal if _CUPY_PACKAGE.fullmatch(name))
    if len(packages) > 1:
        raise _Unusable(
            f"{len(packages)} CuPy packages are installed, which overwrite each other: {', '.join(packages)}.",
            f"Remove them all (pip uninstall {' '.join(packages)}), then {INSTALL}",
        )


def _import_cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except Exception as error:  # whatever goes wrong where CuPy loads its libraries, CUDA is not usable
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise _Unusable("CuPy is not installed.", f"Install it: {INSTALL}") from None
        raise _Unusable(
            f"CuPy is installed but cannot be imported ({describe(error)}).",
            f"Remove that CuPy package (pip uninstall), then {INSTALL}",
        ) from None


def _check_driver(runtime: Any) -> None:
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        status = 0 if runtime.getDeviceCount() else _NO_DEVICE
    except Exception as error:
        status = getattr(error, "status", -1)
        if status not in (_INSUFFICIENT_DRIVER, _NO_DEVICE):
            fix = "Check the driver with nvidia-smi."
            raise _Unusable(f"The CUDA driver fails ({describe(error)}).", fix) from None
    if driver == 0:
        raise _Unusable("There is no NVIDIA driver.", "Install the driver of the GPU, then check it with nvidia-smi.")
    # Within a major version of CUDA, older drivers serve newer libraries.
    if status == _INSUFFICIENT_DRIVER or driver // 1000 < needed // 1000:
        raise _Unusable(
            f"The NVIDIA driver is too old: it is for CUDA {_version(driver)}, CuPy for {_version(needed)}.",
            "Update the driver, or replace the CuPy package by the driver's: "
            f"pip install 'gradx[cuda{driver // 1000}]'.",
        )
    if status == _NO_DEVICE:
        fix = "Check that nvidia-smi lists a GPU, and that CUDA_VISIBLE_DEVICES does not hide it."
        raise _Unusable("The NVIDIA driver shows no CUDA device.", fix)


def _check_compiler(nvrtc: Any) -> None:
    """CuPy's wheels come without NVRTC, which compiles every kernel; the extras of gradx bring it along."""
    try:
        nvrtc.getVersion()
    except Exception as error:
        raise _Unusable(
            f"CuPy finds no NVRTC, CUDA's compiler ({describe(error)}).", f"Install it: {INSTALL}"
        ) from None


def _version(number: int) -> str:
    """CUDA's way to write a version: 13020 is 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def describe(error: BaseException) -> str:
    """The type of an error and its message's first line of words; CuPy's messages may open with a rule."""
    lines = (line.strip() for line in str(error).splitlines())
    message = next((line for line in lines if line.strip("= ")), "")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__

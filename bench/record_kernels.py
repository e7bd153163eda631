"""Run pytest, and keep the source of every CUDA kernel that gradx has compiled meanwhile.

    python bench/record_kernels.py DIRECTORY -m cuda

writes one JSON file a program: its CUDA source, the instances of templates, the compiler's options, the folders of
CuPy's headers, and whether it is one of gradx's or one of CuPy's that gradx calls. `compile_kernels.py` compiles them
for devices that are not there. The tests need a CUDA device, a GPU or an emulated one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import cupy
import pytest
from cupy.cuda import compiler

import gradx

GRADX, CUPY = (Path(module.__file__).parent for module in (gradx, cupy))
OF_CUPY = re.compile(r'extern "C" __global__ void (cupy|_tensordot_core)_')


def caller(frame: FrameType | None) -> Path:
    """The file of the innermost function outside CuPy."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(CUPY):
            return path
        frame = frame.f_back
    return Path()


def entry(source: str, options: tuple[str, ...], names: Sequence[str] | None) -> dict[str, Any]:
    """What the file of a kernel says. Headers of the device's own toolkit are left out: the compiler brings others."""
    included = [option.removeprefix("-I") for option in options if option.startswith("-I")]
    return {
        "owner": "CuPy" if OF_CUPY.search(source) else "gradx",
        "names": sorted(names or ()),
        "options": [option for option in options if not option.startswith("-I")],
        "include": [path for path in included if Path(path).is_relative_to(CUPY)],
        "source": source,
    }


def recorder(compile_module: Callable[..., Any], directory: Path) -> Callable[..., Any]:
    """`compile_module`, which writes what gradx has compiled into `directory`, too."""
    signature = inspect.signature(compile_module)

    def recording(*args: Any, **kwargs: Any) -> Any:
        compiled = compile_module(*args, **kwargs)  # what the tests of faults have does not compile, and is not kept
        if caller(sys._getframe(1)).is_relative_to(GRADX):
            given = signature.bind(*args, **kwargs).arguments
            text = json.dumps(entry(given["source"], given["options"], given.get("name_expressions")), indent=1)
            directory.joinpath(hashlib.sha256(text.encode()).hexdigest()[:16] + ".json").write_text(text)
        return compiled

    return recording


def main(directory: str, *arguments: str) -> int:
    """Record the kernels that pytest with `arguments` has compiled; pytest's exit code."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        stale.unlink()
    # CuPy keeps compiled kernels on disk and in memory. This is what it asks first, before it looks on the disk.
    compiler._compile_with_cache_cuda = recorder(compiler._compile_with_cache_cuda, folder)
    return pytest.main(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Compile recorded CUDA kernels by NVIDIA's NVRTC for several generations of GPU, and see what they need. No GPU needed.

    python bench/compile_kernels.py DIRECTORY [--arch 75,80,90,100] [--all]

DIRECTORY is what `record_kernels.py` has written. NVRTC and CUDA's headers are those of the packages nvidia-cuda-nvrtc
and nvidia-cuda-runtime of the Python that runs this; nothing else is needed, CuPy neither, but CuPy's headers.

A kernel of gradx's that does not compile, or that spills more registers to memory than ALLOWED says, is a failure.
With ``--all``, the kernels of CuPy's that gradx calls are compiled too; they are shown, and not judged.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ARCHITECTURES = (75, 80, 90, 100)  # Turing, Ampere, Hopper, Blackwell


@dataclass(frozen=True)
class Allowance:
    """A spill that is known: of which kernels, "sm_90 name MACRO=value ...", up to how many bytes, and why."""

    kernels: str
    bytes: int
    reason: str


ALLOWED: tuple[Allowance, ...] = (  # the first that fits
    Allowance(
        r"sm_(75|80|90) softmax_backward ELEMENT=(__half|__nv_bfloat16) \w+=float COLUMNS=1 ",
        132,
        "Long columns of halves: 1024 threads hold two operands. To be mended by fewer elements a thread.",
    ),
    Allowance(
        r"sm_\d+ (softmax|softmax_backward|reduce|(soft_)?cross_entropy|weighted) ",
        96,
        "Elements fill half of a thread's registers, and the compiler prefers more threads to a few words more.",
    ),
)

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for"
    r".*?(?P<spilled>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers of a thread; bytes of a thread's that it spills, and shared ones of a block."""

    name: str
    registers: int
    spilled: int
    shared: int


def parse(log: str) -> Iterator[Usage]:
    """The kernels in NVRTC's log, by the lines that ptxas writes when asked with ``-v``."""
    for found in ENTRY.finditer(log):
        shared = SHARED.search(found["rest"])
        yield Usage(found["name"], int(found["registers"]), int(found["spilled"]), int(shared[1]) if shared else 0)


@dataclass(frozen=True)
class Program:
    """A CUDA source and how to compile it, as `record_kernels.py` found it."""

    owner: str
    names: list[str]
    options: list[str]
    include: list[str]
    source: str

    def kernel(self) -> str:
        """The kernel's name. A source of several is compiled for the one whose name is a macro, in capitals."""
        names = KERNEL.findall(self.source)
        return next((name for name in names if f"-D{name.upper()}" in self.options), names[0] if names else "?")

    def title(self, kernel: str) -> str:
        """A kernel's name and the macros it was compiled with."""
        return " ".join([kernel, *(option[2:] for option in self.options if option.startswith("-D"))])


@dataclass(frozen=True)
class Outcome:
    """A program compiled for one architecture: what its kernels take, or the compiler's complaint."""

    program: Program
    arch: int
    usages: list[Usage]
    complaint: str

    def faults(self) -> Iterator[str]:
        """What there is to say against it, a text each."""
        if self.complaint:
            yield f"sm_{self.arch} {self.program.title(self.program.kernel())}\n{self.complaint}"
        for usage in self.usages:
            title = f"sm_{self.arch} {self.program.title(usage.name)}"
            if usage.spilled > allowed(title):
                yield f"{title}\n    spills {usage.spilled} bytes, with {usage.registers} registers"


def allowed(title: str) -> int:
    """How many bytes a kernel may spill."""
    return next((allowance.bytes for allowance in ALLOWED if re.match(allowance.kernels, title)), 0)


class Nvrtc:
    """NVIDIA's compiler, and CUDA's headers, as Python packages bring them.

    Raises:
        FileNotFoundError: they are not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("nvidia")
        places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
        libraries = [path for place in places for path in place.glob("*/lib/libnvrtc.so.*")]
        headers = [path for place in places for path in place.glob("*/include/cuda_fp16.h")]
        if not libraries or not headers:
            raise FileNotFoundError("There is no NVRTC: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")
        for builtins in libraries[0].parent.glob(
            "libnvrtc-builtins.so.*"
        ):  # which some versions do not find themselves
            ctypes.CDLL(str(builtins))
        self._library = ctypes.CDLL(str(libraries[0]))
        self._include = headers[0].parent

    def version(self) -> str:
        """Such as "13.1"."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compile(self, program: Program, arch: int) -> Outcome:
        """Compile to machine code, with the options that CuPy gives. Threads may do so at the same time."""
        options = [*program.options, *(f"-I{path}" for path in (*program.include, self._include)), f"-arch=sm_{arch}"]
        options += ["-ftz=true", "--device-as-default-execution-space", "--ptxas-options=-v"]
        handle, size = ctypes.c_void_p(), ctypes.c_size_t()
        library = self._library
        library.nvrtcCreateProgram(ctypes.byref(handle), program.source.encode(), b"kernel.cu", 0, None, None)
        for name in program.names:
            library.nvrtcAddNameExpression(handle, name.encode())
        texts = (ctypes.c_char_p * len(options))(*map(str.encode, options))
        status = library.nvrtcCompileProgram(handle, len(options), texts)
        library.nvrtcGetProgramLogSize(handle, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(handle, log)
        library.nvrtcDestroyProgram(ctypes.byref(handle))
        return outcome(program, arch, status, log.value.decode())


def outcome(program: Program, arch: int, status: int, log: str) -> Outcome:
    """Judge NVRTC's status and log. A log without any kernel is a failure: what then was compiled?"""
    usages = list(parse(log)) if status == 0 else []
    return Outcome(program, arch, usages, "" if usages else f"    NVRTC's status is {status}, and its log:\n{log}")


def read(directory: Path, everyone: bool) -> list[Program]:
    """The programs recorded in `directory`, those of CuPy's only if `everyone`."""
    paths = {path.name: path for path in sorted(directory.rglob("*.json"))}  # names tell the programs apart
    programs = [Program(**json.loads(path.read_text())) for path in paths.values()]
    return [program for program in programs if everyone or program.owner == "gradx"]


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each name: programs, shared memory, and by architecture registers and spilled bytes, the most of any."""
    groups: dict[str, dict[int, list[Usage]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for usage in outcome.usages:
            groups[usage.name if outcome.program.owner == "gradx" else "(CuPy's)"][outcome.arch].append(usage)
    architectures = sorted({outcome.arch for outcome in outcomes})
    yield f"{'registers + bytes spilled':<40}{'programs':>9}{'shared':>8}" + "".join(
        f"{f'sm_{arch}':>12}" for arch in architectures
    )
    for name, by_arch in sorted(groups.items()):
        everything = [usage for usages in by_arch.values() for usage in usages]
        programs, shared = max(map(len, by_arch.values())), max(usage.shared for usage in everything)
        cells = (f"{most(by_arch[arch]):>12}" for arch in architectures)
        yield f"{name:<40}{programs:>9}{shared:>8}" + "".join(cells)


def most(usages: Sequence[Usage]) -> str:
    """The most registers and the most spilled bytes of any, such as "64 + 16"."""
    registers = max((usage.registers for usage in usages), default=0)
    spilled = max((usage.spilled for usage in usages), default=0)
    return f"{registers} + {spilled}" if spilled else str(registers)


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, print the table and the faults, and return 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="what record_kernels.py wrote")
    parser.add_argument("--arch", default=",".join(map(str, ARCHITECTURES)), help="compute capabilities (%(default)s)")
    parser.add_argument("--all", action="store_true", help="CuPy's kernels, too")
    arguments = parser.parse_args(argv)
    programs = read(arguments.directory, arguments.all)
    if not programs:
        print(f"There are no kernels in {arguments.directory}; record_kernels.py writes them.", file=sys.stderr)
        return 1
    nvrtc, start = Nvrtc(), time.perf_counter()
    work = product(programs, map(int, arguments.arch.split(",")))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda pair: nvrtc.compile(*pair), work))
    print(f"{len(programs)} programs by NVRTC {nvrtc.version()} in {time.perf_counter() - start:.0f} s")
    print("\n".join(table(outcomes)))
    faults = [fault for outcome in outcomes if outcome.program.owner == "gradx" for fault in outcome.faults()]
    print("\n".join(faults) or "Every kernel compiles, and none spills more than is allowed.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

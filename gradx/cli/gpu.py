"""The facts about CUDA on this machine: versions of driver and libraries, properties and clocks of each GPU."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from gradx.cli.info import cupy_packages

# What nvidia-smi is asked for, the place in the machine first: by it a GPU is found, and it is not reported.
_QUERIES = {
    "place": "pci.bus_id",
    "driver": "driver_version",
    "clock at the end": "clocks.sm",
    "highest clock": "clocks.max.sm",
    "memory clock at the end": "clocks.mem",
    "temperature at the end, °C": "temperature.gpu",
    "power at the end": "power.draw",
    "power limit": "power.limit",
}

# By the name of a device attribute: how it is called here, what to divide it by, and how to write it.
_ATTRIBUTES = {
    "MultiProcessorCount": ("multiprocessors", 1, "{:.0f}"),
    "ClockRate": ("clock", 1e3, "{:.0f} MHz"),
    "MemoryClockRate": ("memory clock", 1e3, "{:.0f} MHz"),
    "GlobalMemoryBusWidth": ("memory bus", 1, "{:.0f} bits"),
    "L2CacheSize": ("L2 cache", 2**20, "{:.1f} MiB"),
    "MaxRegistersPerMultiprocessor": ("registers per multiprocessor", 1, "{:.0f}"),
    "MaxSharedMemoryPerMultiprocessor": ("shared memory per multiprocessor", 2**10, "{:.0f} KiB"),
    "MaxThreadsPerMultiProcessor": ("threads per multiprocessor", 1, "{:.0f}"),
    "SingleToDoublePrecisionPerfRatio": ("float32 over float64 throughput", 1, "{:.0f}"),
    "EccEnabled": ("ECC", 1, "{:.0f}"),
}


def cuda_facts() -> dict[str, str]:
    """Versions: what the driver serves, what CuPy was built for, the compiler of its kernels."""
    import cupy

    runtime = cupy.cuda.runtime
    return {
        "CuPy": ", ".join(cupy_packages()) or cupy.__version__,
        "driver serves CUDA": _version(runtime.driverGetVersion()),
        "runtime": _version(runtime.runtimeGetVersion()),
        "NVRTC": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
    }


def _version(number: int) -> str:
    """CUDA's way to write a version: 13020 is 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def gpu_facts() -> list[dict[str, str]]:
    """The properties of each visible GPU, and its state as nvidia-smi tells it where there is one."""
    import cupy

    states = smi_states()
    devices = [cupy.cuda.Device(i) for i in range(cupy.cuda.runtime.getDeviceCount())]
    return [_properties(device) | states.get(_place(device.pci_bus_id), {}) for device in devices]


def _place(bus_id: str) -> str:
    """CUDA writes 0000:01:00.0, and nvidia-smi 00000000:01:00.0."""
    return bus_id.lower()[-12:]


def _properties(device: Any) -> dict[str, str]:
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    free, total = device.mem_info
    facts = {
        "name": name,
        "compute capability": ".".join((device.compute_capability[:-1], device.compute_capability[-1])),
        "memory": f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} of it free",
    }
    attributes = device.attributes
    for attribute, (title, unit, form) in _ATTRIBUTES.items():
        if attributes.get(attribute):  # 0 where the driver does not say
            facts[title] = form.format(attributes[attribute] / unit)
    return facts


def smi_states() -> dict[str, dict[str, str]]:
    """What nvidia-smi says of each GPU now, by its place; nothing where it is not installed or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(_QUERIES.values())}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_smi(done.stdout) if done.returncode == 0 else {}


def read_smi(text: str) -> dict[str, dict[str, str]]:
    """The lines of nvidia-smi, one a GPU, by its place and with our names; what it does not know is left out."""
    states = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        known = {title: cell for title, cell in zip(_QUERIES, cells, strict=False) if cell and cell[0] != "["}
        if place := known.pop("place", None):
            states[_place(place)] = known
    return states

"""The house's rules: imports run one way, importing is cheap and pulls in nothing, every op is complete."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradx
from gradx.op import OPS

ROOT = Path(gradx.__file__).parent

# From the ground up. A module may import from its own floor and those below.
FLOORS = [
    {"dtypes", "device", "modes", "printing", "size", "streams"},
    {"backends"},
    {"variables", "placement", "random", "samples"},
    {"hooks", "anomaly"},
    {"tape"},
    {"saved"},
    {"specialise", "out"},
    {"node", "dispatch"},
    {"op"},
    {"autocasting", "deterministic"},
    {"ops"},
    {"order"},
    {"engine"},
    {"differentiate", "inplace", "serialization"},
    {"methods"},
    {"tensor"},
    {"exchange"},
    {"creation"},
    {"sampling"},
    {"amp", "autograd", "nn", "cpu", "cuda"},
    {"utils"},
    {""},  # gradx/__init__.py
    {"cli", "__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    """The part of the house that a file belongs to."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(tree: ast.AST):
    """The module of each import that runs, within functions too; those for type checkers do not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "gradx imports by full names"
            if node.module == "gradx":
                yield from (f"gradx.{alias.name}" if alias.name in FLOOR_OF else "gradx" for alias in node.names)
            else:
                yield node.module
        else:
            yield from imports(node)


FILES = sorted(path for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    here = room(path)
    for module in imports(ast.parse(path.read_text())):
        if module.split(".")[0] != "gradx":
            continue
        there = [*module.split("."), ""][1]
        assert FLOOR_OF[there] <= FLOOR_OF[here], (
            f"{here or '__init__'} imports {there or 'gradx'}, which stands above it"
        )


def test_every_file_has_its_floor():
    assert {room(path) for path in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_rooms_not_halls(path):
    limit = 400 if path.name != "__init__.py" else 500
    assert len(path.read_text().splitlines()) <= limit


def test_only_backends_import_cupy():
    for path in FILES:
        modules = {module.split(".")[0] for module in imports(ast.parse(path.read_text()))}
        assert "torch" not in modules or room(path) == "cli"
        assert not modules & {"cupy", "cupyx"} or room(path) in ("backends", "cli"), path


def python(program: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = [sys.executable, "-c", program]
    return subprocess.run(run, capture_output=True, text=True, check=True, env=kept | environment).stdout


def test_importing_gradx_imports_neither_cupy_nor_torch():
    program = "import sys, gradx; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(python(program).split())
    assert "gradx" in loaded and "numpy" in loaded
    assert not loaded & {"cupy", "cupyx", "torch", "rich", "matplotlib", "sklearn", "scipy"}


def test_importing_gradx_takes_at_most_40_ms_more_than_numpy(tmp_path):
    program = "import time, numpy; start = time.thread_time(); import gradx; print(time.thread_time() - start)"
    # Compiled once, as installed packages are.
    best = min(float(python(program, PYTHONPYCACHEPREFIX=str(tmp_path))) for _ in range(8))
    assert best < 0.040


@pytest.mark.parametrize("name", OPS)
def test_operations_have_a_kernel(name):
    assert callable(OPS[name].kernels[np.ndarray])


def test_operations_have_docstrings():
    """Every function under an `@op` says what it computes."""
    for path in (ROOT / "ops").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any("op(" in ast.unparse(d) for d in node.decorator_list):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_public_names_are_described():
    for name in gradx.__all__:
        value = getattr(gradx, name)
        if callable(value) and not isinstance(value, gradx.dtype):
            assert value.__doc__, name

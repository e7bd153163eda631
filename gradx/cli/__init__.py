"""The command line: ``gradx demo``, ``gradx bench``, ``gradx info``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import Protocol

import gradx
from gradx.cli import bench, demo, info

__all__ = ["main"]


class Command(Protocol):
    """What the module of a command offers. The first line of its docstring is the command's summary."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def packages(self, arguments: argparse.Namespace) -> dict[str, str]:
        """The optional packages that a run with these options imports, and what to install to have them."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        ...


COMMANDS: dict[str, Command] = {"demo": demo, "bench": bench, "info": info}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments after the program's name; by default the process's own.

    Returns:
        0 if the command did what it says, 1 if it could not, with one plain sentence on standard error.

    Raises:
        SystemExit: from `argparse`, with code 2 for arguments that make no sense, 0 after ``--help``.
    """
    parser = argparse.ArgumentParser(prog="gradx", description="torch's autograd on NumPy and CuPy arrays")
    parser.add_argument("--version", action="version", version=f"gradx {gradx.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    arguments = parser.parse_args(argv)

    command = COMMANDS[arguments.command]
    needed = command.packages(arguments)
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        fix = " ".join(dict.fromkeys(f"'{needed[package]}'" for package in missing))
        print(f"gradx {arguments.command} needs {', '.join(missing)}: pip install {fix}", file=sys.stderr)
        return 1
    return command.run(arguments)

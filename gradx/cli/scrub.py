"""Take out of a text what tells of a person or their machine: absolute paths, the names of host and user."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradx

ROOT = Path(gradx.__file__).parent.parent

# What many machines call their user or themselves says nothing of anyone, and may be a word of the report's own.
_ANONYMOUS = frozenset("root user users ubuntu admin runner jovyan docker localhost host linux gpu cuda test".split())
# An absolute path: the start of a word, or of what follows a compiler's option such as -I; no part of an address.
_PATH = re.compile(r"(?:(?<![\w/.~>+-])|(?<=[\s'\"]-[A-Z]))/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_HOME = re.compile(r"/(?:home|Users)/[^/\s'\":]+")  # anyone's, wherever it stands
_SYSTEM = re.compile(r"/(?:usr|lib|lib64|bin|etc|proc|sys|dev)/")


@dataclass(frozen=True)
class Scrubber:
    """Replaces known folders by their roles, shortens every other absolute path to its end, and hides names.

    >>> scrub = Scrubber({"/home/ada/gradx": ".", "/home/ada": "~"}, {"ada": "<user>"})
    >>> scrub("/home/ada/gradx/tests/test_ops.py:12: by ada, see /data/lab/ada/run/log.txt")
    './tests/test_ops.py:12: by <user>, see .../run/log.txt'
    """

    folders: Mapping[str, str]
    names: Mapping[str, str]

    @classmethod
    def of_this_machine(cls) -> Scrubber:
        """The one that knows the folders, the host and the user of this process."""
        folders = {
            os.path.expanduser("~"): "~",
            tempfile.gettempdir(): "<tmp>",
            sys.base_prefix: "<python>",
            sys.prefix: "<env>",
            str(ROOT): ".",
        }
        names = {platform.node(): "<host>", platform.node().partition(".")[0]: "<host>", _user(): "<user>"}
        return cls(
            {folder: role for folder, role in folders.items() if folder.count("/") > 1 or folder == "/root"},
            {name: role for name, role in names.items() if len(name) > 1 and name.lower() not in _ANONYMOUS},
        )

    def __call__(self, text: str) -> str:
        """`text` without them."""
        for folder in sorted(self.folders, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(folder)}(?![\w])", self.folders[folder], text)
        text = _PATH.sub(_end, _HOME.sub("~", text))
        for name, role in self.names.items():
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", role, text)
        return text

    def all(self, value: Any) -> Any:
        """`value`, of JSON's types, with every text in it scrubbed; the keys of dictionaries are ours and stay."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {key: self.all(item) for key, item in value.items()}
        return [self.all(item) for item in value] if isinstance(value, list | tuple) else value


def _end(path: re.Match[str]) -> str:
    """The last two parts of an absolute path; all of one that is the same on every Linux."""
    if _SYSTEM.match(path[0]):
        return path[0]
    return ".../" + "/".join(path[0].rstrip("/").split("/")[-2:])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process of a user that has no name, as in some containers
        return ""

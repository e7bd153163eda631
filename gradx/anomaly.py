"""Anomaly detection: which line of the forward pass led to an error, or a NaN, in the backward pass."""

from __future__ import annotations

import traceback
import warnings
from typing import TYPE_CHECKING, Any

from gradx.modes import mode

if TYPE_CHECKING:
    from gradx.tape import Node


class _State:
    enabled = False
    check_nan = True


state = _State()


class set_detect_anomaly:
    """Switch anomaly detection on or off: at once, or within a `with` block.

    Args:
        mode: whether nodes note the line that made them, which takes time.
        check_nan: whether a NaN in a gradient is an error.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = state.enabled, state.check_nan
        state.enabled, state.check_nan = mode, check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        state.enabled, state.check_nan = self._before


class detect_anomaly:
    """Within it, an error in a backward pass names the forward operation and shows the line that ran it, and a NaN in a
    gradient is an error. For debugging: it takes time.

    >>> import gradx, warnings
    >>> warnings.simplefilter("ignore")
    >>> x = gradx.tensor(-1.0, requires_grad=True)
    >>> with detect_anomaly():
    ...     gradx.sqrt(x).backward()
    Traceback (most recent call last):
    RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output...
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = check_nan
        self._before: list[set_detect_anomaly] = []
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before.append(set_detect_anomaly(True, self._check_nan))

    def __exit__(self, *exception: object) -> None:
        self._before.pop().__exit__()


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return state.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether a NaN in a gradient is an error under anomaly detection."""
    return state.check_nan


def notes() -> dict[str, Any]:
    """What a node that is being made notes of its origin: the line of the program, and in whose backward pass."""
    return {"traceback_": traceback.format_stack(), "parent_": mode.evaluating}


def origin(node: Node) -> str:
    """Where a node was made."""
    text = f"Error detected in {node.name()}. "
    link: Node | None = node
    while link is not None:
        if link is not node:
            text += f"\n\nPrevious calculation was induced by {link.name()}. "
        noted = link.notes or {}
        if "traceback_" not in noted:
            text += (
                "No forward pass information available. Enable detect anomaly during forward pass for more information."
            )
            break
        text += "Traceback of forward call that caused the error:\n" + "".join(noted["traceback_"])
        link = noted["parent_"]
    return text

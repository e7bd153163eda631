"""Arrays as text, in torch's layout. Imports nothing else of gradx.

Every element is written in one format, chosen from the elements that are shown, so that columns line up:

=====================  =============  =======================================================================
elements               example        when
=====================  =============  =======================================================================
integers and booleans  ``7``          always
floats, positional     ``2.5000``     at least one shown value has a fraction
floats, integral       ``2.``         no shown value has a fraction
floats, scientific     ``2.5000e+09`` a magnitude exceeds 1e8 or is below 1e-4, or the largest is over 1000
                                      times the smallest; zeros, infinities and NaNs do not count
complex                ``1.-2.j``     the rules for floats, for the real and the imaginary parts separately
=====================  =============  =======================================================================

Source: torch's documentation of ``torch.set_printoptions``, and the text of torch's own ``repr``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np


class PrintOptions(NamedTuple):
    """What `set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES: Final = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}

_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed, for the whole process; an option left at None keeps its value.

    Args:
        precision: digits after the decimal point (initially 4).
        threshold: the number of elements above which only the edges are shown (initially 1000).
        edgeitems: how many elements are shown at each end of a dimension then (initially 3).
        linewidth: characters per line (initially 80); a line holds at least one element even so.
        profile: "default", "short" or "full": values for the four options above, which those given override.
        sci_mode: True for scientific notation, False for none. As in torch, None does not keep the value: it
            goes back to choosing by magnitude.

    Raises:
        ValueError: on a negative precision or number of edge items, with which torch's ``repr`` would fail
            later, and on an unknown profile, which torch ignores. No option is changed then.

    >>> set_printoptions(precision=2)
    >>> format_array(np.array([1.12345]))
    '[1.12]'
    >>> set_printoptions(profile="default")
    """
    global _options
    if profile is not None and profile not in _PROFILES:
        raise ValueError(f"unknown profile {profile!r}: expected one of {', '.join(map(repr, _PROFILES))}")
    for name, count in (("precision", precision), ("edgeitems", edgeitems)):
        if count is not None and count < 0:
            raise ValueError(f"{name} must not be negative, but is {count}")
    base = _options if profile is None else _PROFILES[profile]
    _options = PrintOptions(
        precision=base.precision if precision is None else precision,
        threshold=base.threshold if threshold is None else threshold,
        edgeitems=base.edgeitems if edgeitems is None else edgeitems,
        linewidth=base.linewidth if linewidth is None else linewidth,
        sci_mode=sci_mode,
    )


class _Style(NamedTuple):
    """How each element of an array is written, and the width to which it is padded on the left."""

    write: Callable[[Any], str]
    width: int


def _style(shown: np.ndarray[Any, Any], options: PrintOptions) -> _Style:
    """The style for booleans, integers or floats, given those that will be shown."""
    if shown.dtype.kind == "f":
        # As in torch, zeros, infinities and NaNs do not count, not even for the width: `[-0., 1.]`.
        measured = shown[np.isfinite(shown) & (shown != 0)]
        bare = _float_writer(measured, options)
    else:
        measured = shown
        bare = str
    width = max((len(bare(value)) for value in measured.ravel().tolist()), default=1)
    return _Style(lambda value: bare(value).rjust(width), width)


def _integral(value: float) -> str:
    """A float without a fraction: the point alone says that it is one, and inf and nan need no such sign."""
    return f"{value:.0f}." if math.isfinite(value) else str(value)


def _float_writer(measured: np.ndarray[Any, Any], options: PrintOptions) -> Callable[[float], str]:
    """How to write a float, given the finite non-zero ones, of any shape, that will be shown."""
    if measured.size == 0:
        return _integral
    if options.sci_mode or (options.sci_mode is None and _spans_widely(measured)):
        return f"{{:.{options.precision}e}}".format
    if np.array_equal(measured, np.ceil(measured)):
        return _integral
    return f"{{:.{options.precision}f}}".format


def _spans_widely(measured: np.ndarray[Any, Any]) -> bool:
    """Whether finite non-zero floats are too large, too small or too far apart for positional notation."""
    magnitude = np.abs(measured)
    # Python's floats: the quotient neither overflows in half precision nor warns where it is infinite.
    smallest, largest = float(magnitude.min()), float(magnitude.max())
    return largest / smallest > 1e3 or largest > 1e8 or smallest < 1e-4


def _complex_style(shown: np.ndarray[Any, Any], options: PrintOptions) -> _Style:
    """The style for complex numbers, given those that will be shown; only the real part is padded."""
    real, imag = _style(shown.real, options), _style(shown.imag, options)

    def write(value: complex) -> str:
        imaginary = imag.write(value.imag).lstrip()
        return real.write(value.real) + ("" if imaginary.startswith("-") else "+") + imaginary + "j"

    return _Style(write, width=real.width + imag.width + len("j"))


def _edges(array: np.ndarray[Any, Any], edgeitems: int) -> np.ndarray[Any, Any]:
    """The array without the middle of each dimension that is longer than its two edges."""
    kept = [
        [*range(edgeitems), *range(length - edgeitems, length)] if length > 2 * edgeitems else range(length)
        for length in array.shape
    ]
    return array[(..., *np.ix_(*kept))]  # one copy, of what is kept; the ellipsis keeps 0-d an array


class _Layout(NamedTuple):
    """Where the brackets, line breaks and ellipses go between written elements."""

    style: _Style
    elided: tuple[bool, ...]  # per dimension: is its middle left out?
    options: PrintOptions

    def text(self, values: Any, indent: int, axis: int = 0) -> str:
        """The text of nested lists, ``values``, that begin at dimension ``axis`` and column ``indent``."""
        dims_left = len(self.elided) - axis
        if dims_left == 0:
            return self.style.write(values)
        if dims_left == 1:
            return self._vector(values, indent)
        blocks = [self.text(value, indent + 1, axis + 1) for value in values]
        if self.elided[axis]:
            blocks.insert(self.options.edgeitems, "...")
        return "[" + ("," + "\n" * (dims_left - 1) + " " * (indent + 1)).join(blocks) + "]"

    def _vector(self, values: list[Any], indent: int) -> str:
        items = [self.style.write(value) for value in values]
        if self.elided[-1]:
            items.insert(self.options.edgeitems, " ..." if items else "...")
        per_line = max(1, (self.options.linewidth - indent) // (self.style.width + len(", ")))
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def format_array(array: np.ndarray[Any, Any], indent: int = len("tensor(")) -> str:
    """The elements of an array as torch prints them between ``tensor(`` and ``)``.

    Args:
        array: of any shape, and of booleans, integers, floats or complex numbers.
        indent: the column at which the text begins, in characters; later lines are indented to match.

    >>> format_array(np.array([1.0, 2.5]))
    '[1.0000, 2.5000]'
    >>> print(format_array(np.arange(6000).reshape(2, 3000), indent=0))
    [[   0,    1,    2,  ..., 2997, 2998, 2999],
     [3000, 3001, 3002,  ..., 5997, 5998, 5999]]
    """
    if array.size == 0:
        return "[]"
    options = _options
    if array.dtype.kind == "V":  # bfloat16
        array = array.astype(np.float32)
    shown = _edges(array, options.edgeitems) if array.size > options.threshold else array
    style = (_complex_style if array.dtype.kind == "c" else _style)(shown, options)
    elided = tuple(kept < length for kept, length in zip(shown.shape, array.shape, strict=True))
    return _Layout(style, elided, options).text(shown.tolist(), indent)


def tensor_repr(
    array: np.ndarray[Any, Any],
    *,
    dtype_name: str,
    default_dtype_name: str,
    device: str | None,
    requires_grad: bool,
    grad_fn: str | None,
    prefix: str = "tensor",
) -> str:
    """The ``repr`` of a tensor, as torch writes it.

    Args:
        array: the tensor's elements, on the host.
        dtype_name: the tensor's dtype, such as "float32"; shown where the elements alone do not tell it.
        default_dtype_name: the dtype of new floating-point tensors, such as "float32".
        device: the tensor's device, such as "cuda:0"; None, for the default one, is not shown.
        requires_grad: whether the tensor requires a gradient; shown for leaves.
        grad_fn: the name of the node that made the tensor, such as "ExpBackward0"; None for a leaf.
        prefix: the name before the parenthesis: that of the class, for a subclass.

    >>> plain = {"default_dtype_name": "float32", "device": None, "requires_grad": False, "grad_fn": None}
    >>> tensor_repr(np.array([1.0, 2.0]), dtype_name="float64", **plain)
    'tensor([1., 2.], dtype=gradx.float64)'
    """
    suffixes = []
    if device is not None:
        suffixes.append(f"device='{device}'")
    shape_is_hidden = array.ndim != 1 if array.size == 0 else _options.edgeitems == 0
    if shape_is_hidden:
        suffixes.append(f"size={array.shape}")
    if dtype_name not in _implied_dtypes(array.size, default_dtype_name):
        suffixes.append(f"dtype=gradx.{dtype_name}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    indent = len(prefix) + 1
    return _append(f"{prefix}({format_array(array, indent)}", suffixes, indent) + ")"


def _implied_dtypes(size: int, default: str) -> tuple[str, ...]:
    """The dtypes which ``size`` printed elements suffice to tell: those that ``gradx.tensor`` would infer."""
    if size == 0:
        return (default,)
    return (default, "complex128" if default == "float64" else "complex64", "int64", "bool")


def _append(text: str, suffixes: list[str], indent: int) -> str:
    """``text`` and the suffixes, each on a new line where it would exceed the line width."""
    # torch counts two characters more than the first line has, which decides where some lines break.
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(", ") + len(suffix) > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(", ") + len(suffix)
    return text

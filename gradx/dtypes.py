"""Element types and torch's type promotion. Imports nothing else of gradx.

Source: torch's "Tensor Attributes" page (``torch.dtype``, "type promotion"). NumPy's own promotion differs: there
``int64 + float32`` is float64, and arrays without dimensions count as much as any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

# Kinds of NumPy's dtypes, as in `array.dtype.kind in INEXACT`. "V" is bfloat16, which NumPy does not know by itself.
REAL: Final = "fV"
INEXACT: Final = "fVc"
HALVES: Final = "eE"  # float16 and bfloat16, by dtype.char: what is accumulated in float32


class dtype:
    """An element type, such as ``gradx.float32``.

    NumPy and CuPy accept it wherever they take a dtype: ``np.zeros(3, dtype=gradx.float32)``.
    """

    __slots__ = ("dtype", "is_complex", "is_floating_point", "itemsize", "name", "title", "type_name")

    def __init__(self, name: str, title: str, type_name: str) -> None:
        self.name: Final = name
        self.title: Final = title  # what torch's messages call it, some of them
        self.type_name: Final = type_name  # and the others: by its C++ type
        like = np.dtype("float16" if name == "bfloat16" else name)
        if name != "bfloat16":  # NumPy's comes with its first use
            self.dtype: np.dtype[Any] = like  # the attribute by which NumPy recognises a dtype
        self.itemsize: Final = like.itemsize
        self.is_floating_point: Final = like.kind == "f"
        self.is_complex: Final = like.kind == "c"

    def __getattr__(self, name: str) -> Any:
        if name == "dtype":  # not there yet: bfloat16's
            return _resolve()
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"gradx.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


bool_ = dtype("bool", "Bool", "bool")
uint8 = dtype("uint8", "Byte", "unsigned char")
int8 = dtype("int8", "Char", "signed char")
int16 = dtype("int16", "Short", "short int")
int32 = dtype("int32", "Int", "int")
int64 = dtype("int64", "Long", "long int")
float16 = dtype("float16", "Half", "c10::Half")
bfloat16 = dtype("bfloat16", "BFloat16", "c10::BFloat16")
float32 = dtype("float32", "Float", "float")
float64 = dtype("float64", "Double", "double")
complex64 = dtype("complex64", "ComplexFloat", "c10::complex<float>")
complex128 = dtype("complex128", "ComplexDouble", "c10::complex<double>")

# In promotion order within each category; uint8 with a signed integer, and the two halves, leave the ladder (see `_wider`).
ALL: Final = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
CATEGORY: Final = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}
_COMPLEX_OF: Final = {float16: complex64, bfloat16: complex64, float32: complex64, float64: complex128}


class _OfNumpy(dict[np.dtype[Any], dtype]):
    """The dtype for each of NumPy's; bfloat16 is found when its first array turns up."""

    def __missing__(self, d: np.dtype[Any]) -> dtype:
        if d.name == "bfloat16" and d == bfloat16.dtype:
            return bfloat16
        raise KeyError(d)


_BY_NAME: Final = {d.name: d for d in ALL}
_OF_NUMPY: Final = _OfNumpy({d.dtype: d for d in ALL if d is not bfloat16})
WHEN_BFLOAT16: Final[list[Callable[[], None]]] = []  # called once, at the first use of bfloat16


def uses_bfloat16() -> bool:
    """Whether bfloat16 has been used in this process: until then, nothing needs to look out for it."""
    return bfloat16 in _OF_NUMPY.values()


def _ml_dtypes() -> Any:
    """The package that gives NumPy bfloat16. It is optional, and imported at the first use only."""
    try:
        return importlib.import_module("ml_dtypes")
    except ImportError:
        raise ImportError(
            "gradx.bfloat16 needs the package ml_dtypes, which gives NumPy this dtype. Install it with `pip install "
            "ml_dtypes`, or with gradx: `pip install 'gradx[bfloat16]'`."
        ) from None


def _resolve() -> np.dtype[Any]:
    """NumPy's bfloat16, from now on known."""
    found: np.dtype[Any] = np.dtype(_ml_dtypes().bfloat16)
    bfloat16.dtype, _OF_NUMPY[found] = found, bfloat16
    for notify in WHEN_BFLOAT16:
        notify()
    return found


_default = float32


def get_default_dtype() -> dtype:
    """The dtype of new floating-point tensors, ``gradx.float32`` unless changed."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the dtype of new floating-point tensors made from Python numbers.

    Raises:
        TypeError: ``d`` is not a floating-point dtype.
    """
    global _default
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = d


def default_complex() -> dtype:
    """The complex dtype whose parts have the default dtype.

    Raises:
        RuntimeError: there is none, as the default dtype is bfloat16.
    """
    if _default is bfloat16:
        raise RuntimeError("invalid default scalar type for complex. Name a dtype, such as gradx.complex64.")
    return _COMPLEX_OF[_default]


def as_dtype(spec: Any) -> dtype:
    """The gradx dtype that ``spec`` means: one of ours, NumPy's, a name, or a Python number type.

    Raises:
        TypeError: there is no such dtype here.
    """
    if isinstance(spec, dtype):
        return spec
    if spec is float:
        return float64
    if isinstance(spec, str) and spec in _BY_NAME:
        return _BY_NAME[spec]
    try:
        return _OF_NUMPY[np.dtype(spec)]
    except (KeyError, TypeError):
        raise TypeError(f"unsupported dtype: {spec!r}. gradx has {', '.join(d.name for d in ALL)}.") from None


def of_numpy(d: np.dtype[Any]) -> dtype:
    """The gradx dtype of an array's dtype.

    Raises:
        TypeError: arrays of this dtype cannot be tensors (strings, objects, unsigned types above uint8, ...).
    """
    try:
        return _OF_NUMPY[d]
    except KeyError:
        raise TypeError(
            f"can't convert np.ndarray of type {d}. The only supported types are: {', '.join(t.name for t in ALL)}."
        ) from None


def scalar_dtype(value: complex) -> dtype:
    """The dtype of a tensor made from one Python number."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    return _default if isinstance(value, float) else _COMPLEX_OF[_default]


def _wider(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Torch's promotion of two dtypes of equal standing."""
    if CATEGORY[a.kind] != CATEGORY[b.kind]:
        low, high = (a, b) if CATEGORY[a.kind] < CATEGORY[b.kind] else (b, a)
        if high.kind == "c" and low.kind == "f":
            return np.promote_types(low, high) if low.itemsize == 8 else high
        return high
    if a != b and "V" in (a.kind, b.kind):  # NumPy knows nothing wider than bfloat16
        return max(a, b, float32.dtype, key=lambda d: d.itemsize)
    return np.promote_types(a, b)


class Operand(NamedTuple):
    """What promotion looks at: an operand's dtype and its standing (0 Python number, 1 no dimensions, 2 array)."""

    dtype: np.dtype[Any]
    standing: int


def operands(values: Iterable[Any]) -> list[Operand]:
    """What promotion looks at, of tensors and numbers; None is left out."""
    found = []
    for value in values:
        array = getattr(value, "array", None)
        if array is not None:
            found.append(Operand(array.dtype, 2 if array.ndim else 1))
        elif value is not None:
            found.append(Operand(scalar_dtype(value).dtype, 0))
    return found


def result_dtype(operands: Sequence[Operand]) -> np.dtype[Any]:
    """The common dtype of several operands, by torch's rules.

    Operands with dimensions decide. Those without, and below them Python numbers, count only where their category
    (bool, integer, float, complex) is higher, and then a Python number brings the default dtype of its category.
    """
    result: np.dtype[Any] | None = None
    for standing in (2, 1, 0):
        common: np.dtype[Any] | None = None
        for operand in operands:
            if operand.standing == standing:
                common = operand.dtype if common is None else _wider(common, operand.dtype)
        if common is None:
            continue
        if result is None or CATEGORY[common.kind] > CATEGORY[result.kind]:
            if result is not None and result.kind in REAL:  # a complex number of lower standing: precision stays
                common = _COMPLEX_OF[_OF_NUMPY[result]].dtype
            result = common
    assert result is not None
    return result


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that holds both, by torch's rules.

    >>> promote_types(int64, float16)
    gradx.float16
    """
    return _OF_NUMPY[_wider(type1.dtype, type2.dtype)]


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether torch's rules allow the cast: not to a lower category (bool, integer, float, complex).

    >>> can_cast(float64, float32), can_cast(float32, int64)
    (True, False)
    """
    return CATEGORY[from_.dtype.kind] <= CATEGORY[to.dtype.kind]


def require_castable(given: np.dtype[Any], own: np.dtype[Any]) -> None:
    """Raise RuntimeError, in torch's words, if a result of one dtype must not be written to a tensor of another."""
    if CATEGORY[given.kind] > CATEGORY[own.kind]:
        new, kept = of_numpy(given).title, of_numpy(own).title
        raise RuntimeError(f"result type {new} can't be cast to the desired output type {kept}")


class finfo:
    """The limits of a floating-point dtype, as ``torch.finfo``: bits, eps, max, min, tiny, smallest_normal, resolution.

    >>> finfo(float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, d: dtype | None = None) -> None:
        d = d or _default
        info: Any = _ml_dtypes().finfo(d.dtype) if d is bfloat16 else np.finfo(d.dtype)
        self.dtype = d.name
        self.bits = int(info.bits)
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = 10.0**-info.precision

    def __repr__(self) -> str:
        return f"finfo({_facts(self, 'resolution min max eps smallest_normal tiny')}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype, as ``torch.iinfo``: bits, max, min.

    >>> iinfo(int8).max
    127
    """

    def __init__(self, d: dtype) -> None:
        info = np.iinfo(d.dtype)
        self.dtype = d.name
        self.bits, self.max, self.min = int(info.bits), int(info.max), int(info.min)

    def __repr__(self) -> str:
        return f"iinfo({_facts(self, 'min max')}, dtype={self.dtype})"


def _facts(limits: finfo | iinfo, names: str) -> str:
    return ", ".join(f"{name}={getattr(limits, name):g}" for name in names.split())

"""Random numbers on CUDA: the same bits as `gradx.backends.kernels.random`, in one launch each.

A thread computes a block of Philox and all elements that it gives. Products are not fused with sums (``--fmad=false``),
which would round them otherwise than on the host. As in all that CuPy compiles, float32 numbers that are subnormal (below
1.2e-38) count as 0: tiny probabilities, and what dropout is given. Imported by the CuPy backend only, since it imports CuPy.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import cupy
import numpy as np

from gradx.backends.kernels.common import Dims
from gradx.backends.kernels.philox import INCREMENTS, MULTIPLIERS, ROUNDS, WORDS, State
from gradx.backends.kernels.quantile import CENTRE, CENTRE_SQUARED, FAR, ROOT, TABLES, TAIL, Coefficients
from gradx.backends.kernels.random import DIGITS, keep_scale, precision, threshold

_OPTIONS: Final = ("--fmad=false",)
_PHILOX: Final = f"""
__device__ inline void philox(unsigned long long block, unsigned long long seed, unsigned int* w) {{
    unsigned int left = seed, right = seed >> 32;
    w[0] = block, w[1] = block >> 32, w[2] = w[3] = 0;
    for (int i = 0; i < {ROUNDS}; ++i) {{
        const unsigned long long p = (unsigned long long)w[0] * {MULTIPLIERS[0]}u;
        const unsigned long long q = (unsigned long long)w[2] * {MULTIPLIERS[1]}u;
        w[0] = (unsigned int)(q >> 32) ^ w[1] ^ left, w[1] = q;
        w[2] = (unsigned int)(p >> 32) ^ w[3] ^ right, w[3] = p;
        left += {INCREMENTS[0]}u, right += {INCREMENTS[1]}u;
    }}
}}
"""
_NARROW: Final = "typedef unsigned int Word; __device__ inline Word word(const unsigned int* w, int j) { return w[j]; }"
_WIDE: Final = """
typedef unsigned long long Word;
__device__ inline Word word(const unsigned int* w, int j) { return w[2 * j] | (Word)w[2 * j + 1] << 32; }
"""
_LOOP: Final = """
unsigned int w[4];
philox((first + i) & 0x3fffffffffffffffull, seed, w);
for (int j = 0; j < {elements}; ++j) {{
    const ptrdiff_t at = {elements} * i + j;
    if (at >= n) break;
    const Word drawn = word(w, j);
    {body}
}}
"""


def _kernel(name: str, inputs: str, outputs: str, body: str, wide: bool, preamble: str = "") -> Any:
    """A kernel over blocks: `body` makes element `at` of the word `drawn`.

    Args:
        wide: an element takes 64 bits.
    """
    loop = _LOOP.format(elements=WORDS // 2 if wide else WORDS, body=body)
    known = "uint64 seed, uint64 first, int64 n"
    parameters = f"{known}, {inputs}" if inputs else known
    whole = _PHILOX + (_WIDE if wide else _NARROW) + preamble
    return cupy.ElementwiseKernel(parameters, outputs, loop, f"gradx_{name}", preamble=whole, options=_OPTIONS)


def _run(kernel: Any, state: State, size: int, wide: bool, *arguments: Any) -> None:
    if size:
        blocks = -(-size // (WORDS // 2 if wide else WORDS))
        kernel(np.uint64(state.seed), np.uint64(state.block), size, *arguments, size=blocks)


def _real(dtype: np.dtype[Any]) -> str:
    return "double" if dtype.char == "d" else "float"


def _literal(value: float, real: str) -> str:
    """A number, rounded as NumPy does it, as CUDA C++ of that type."""
    return repr(value) if real == "double" else f"{float(np.float32(value))!r}f"


def _polynomial(coefficients: Coefficients, x: str, real: str) -> str:
    """A polynomial, the highest power first, as a C++ expression."""
    constants = [_literal(c, real) for c in reversed(coefficients)]
    expression = f"{x} * {constants[0]}"
    for constant in constants[1:-1]:
        expression = f"({expression} + {constant}) * {x}"
    return f"({expression} + {constants[-1]})"


def _unit(dtype: np.dtype[Any]) -> str:
    """The word as a uniform number, as a C++ expression."""
    bits, real, digits = 64 if dtype.char == "d" else 32, _real(precision(dtype)), DIGITS[dtype.char]
    return f"({real})(drawn >> {bits - digits}) * {_literal(2.0**-digits, real)}"


@functools.cache
def _quantile_source(char: str) -> str:
    """`gradx.backends.kernels.quantile.quantile`, and the normal number that a word gives, as CUDA C++."""
    table, real = TABLES[char], "double" if char == "d" else "float"

    def ratio(pair: tuple[Coefficients, Coefficients], x: str) -> str:
        return " / ".join(_polynomial(coefficients, x, real) for coefficients in pair)

    def literal(value: float) -> str:
        return _literal(value, real)

    bits = 64 if char == "d" else 32
    largest, step = 2 ** (bits - 1) - 1, literal(2.0**-bits)
    return f"""
__device__ inline {real} gradx_log({real} x) {{
    int exponent;
    {real} fraction = frexp(x, &exponent);
    if (fraction < {literal(ROOT)}) fraction *= 2, --exponent;
    const {real} k = exponent, f = fraction - 1, s = f / (2 + f), half = {literal(0.5)} * f * f, square = s * s;
    const {real} series = square * {_polynomial(table.logarithm, "square", real)};
    return k * {literal(table.ln2[0])} - ((half - (s * (half + series) + k * {literal(table.ln2[1])})) - f);
}}
__device__ inline {real} quantile({real} centred, {real} complement) {{
    if (centred <= {literal(CENTRE)}) {{
        const {real} x = {literal(CENTRE_SQUARED)} - centred * centred;
        return {ratio(table.centre, "x")} * centred;
    }}
    const {real} root = sqrt(-gradx_log(complement));
    if (root <= {literal(FAR)}) {{
        const {real} x = root - {literal(TAIL)};
        return {ratio(table.tail, "x")};
    }}
    const {real} x = root - {literal(FAR)};
    return {ratio(table.far, "x")};
}}
__device__ inline {real} normal(Word drawn) {{
    const Word size = drawn & {largest}ull, other = {largest}ull - size;
    const {real} centred = (({real})size + {literal(0.5)}) * {step};
    const {real} complement = (({real})other + {literal(0.5)}) * {step};
    const {real} z = quantile(centred, complement);
    return drawn >> {bits - 1} ? -z : z;
}}
"""


# ---- the kernels -------------------------------------------------------------------------------------------


@functools.cache
def _uniform_kernel(dtype: np.dtype[Any]) -> Any:
    real = _real(dtype)
    body = f"const T value = ({real})({_unit(dtype)} * width + low); out[at] = ({real})value == ({real})(T)high ? (T)low : value;"
    inputs = ", ".join(f"{precision(dtype).name} {name}" for name in ("low", "width", "high"))
    return _kernel("uniform", inputs, "raw T out", body, dtype.char == "d")


def uniform(shape: Dims, low: float, high: float, dtype: np.dtype[Any], state: State) -> cupy.ndarray:
    """Numbers from `low` to below `high`."""
    out = cupy.empty(shape, dtype)
    _run(_uniform_kernel(dtype), state, out.size, dtype.char == "d", low, high - low, high, out.reshape(-1))
    return out


@functools.cache
def _normal_kernel(dtype: np.dtype[Any]) -> Any:
    kind = precision(dtype)
    body = f"out[at] = (T)({_real(dtype)})(normal(drawn) * std + mean);"
    inputs = f"{kind.name} mean, {kind.name} std"
    return _kernel("normal", inputs, "raw T out", body, dtype.char == "d", _quantile_source(kind.char))


def normal(shape: Dims, mean: float, std: float, dtype: np.dtype[Any], state: State) -> cupy.ndarray:
    """Normal numbers."""
    out = cupy.empty(shape, dtype)
    _run(_normal_kernel(dtype), state, out.size, dtype.char == "d", mean, std, out.reshape(-1))
    return out


@functools.cache
def _integers_kernel(half: bool) -> Any:
    value = "low + (long long)__umul64hi(drawn, count)"
    body = f"out[at] = (T)(float)({value});" if half else f"out[at] = (T)({value});"
    return _kernel("integers", "int64 low, uint64 count", "raw T out", body, True)


def integers(shape: Dims, low: int, count: int, dtype: np.dtype[Any], state: State) -> cupy.ndarray:
    """Whole numbers from `low` on, `count` of them."""
    out = cupy.empty(shape, dtype)
    kernel = _integers_kernel(dtype.itemsize == 2 and dtype.kind in "fV")
    _run(kernel, state, out.size, True, low, np.uint64(count), out.reshape(-1))
    return out


@functools.cache
def _events_kernel() -> Any:
    return _kernel("events", "uint64 bound", "raw T out", "out[at] = (T)(drawn < bound ? 1.0f : 0.0f);", False)


def events(shape: Dims, p: float, dtype: np.dtype[Any], state: State) -> cupy.ndarray:
    """1 with probability `p`, else 0."""
    out = cupy.empty(shape, dtype)
    _run(_events_kernel(), state, out.size, False, np.uint64(threshold(p)), out.reshape(-1))
    return out


@functools.cache
def _bernoulli_kernel(dtype: np.dtype[Any]) -> Any:
    real = _real(dtype)
    body = f"out[at] = (T)({_unit(precision(dtype))} < ({real})p[at] ? 1.0f : 0.0f);"
    return _kernel("bernoulli", "raw T p", "raw T out", body, dtype.char == "d")


def bernoulli(p: cupy.ndarray, state: State) -> cupy.ndarray:
    """1 with the probability that is at its place in `p`, else 0. That they are probabilities is not checked: the host
    would have to wait for the device."""
    out = cupy.empty(p.shape, p.dtype)
    _run(_bernoulli_kernel(p.dtype), state, out.size, p.dtype.char == "d", _row(p), out.reshape(-1))
    return out


@functools.cache
def _dropout_kernel(dtype: np.dtype[Any]) -> Any:
    value = f"stays ? (T)(({_real(dtype)})x[at] * scale) : T(0.0f)"
    body = f"const bool stays = drawn >= bound; kept[at] = stays; out[at] = {value};"
    inputs = f"raw T x, {precision(dtype).name} scale, uint64 bound"
    return _kernel("dropout", inputs, "raw T out, raw bool kept", body, False)


def dropout(x: cupy.ndarray, p: float, state: State) -> tuple[cupy.ndarray, cupy.ndarray]:
    """`x` over `1 - p`, or 0 with probability `p`; and where it is kept."""
    out, kept = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, bool)
    arguments = (_row(x), keep_scale(p), np.uint64(threshold(p)), out.reshape(-1), kept.reshape(-1))
    _run(_dropout_kernel(x.dtype), state, x.size, False, *arguments)
    return out, kept


@functools.cache
def _dropout_backward_kernel(dtype: np.dtype[Any]) -> Any:
    body = f"out = kept ? (T)(({_real(dtype)})g * scale) : T(0.0f)"
    return cupy.ElementwiseKernel(
        f"T g, bool kept, {precision(dtype).name} scale", "T out", body, "gradx_dropout_backward"
    )


def dropout_backward(g: cupy.ndarray, kept: cupy.ndarray, scale: float) -> cupy.ndarray:
    """`g` times `scale` where `kept`, else 0."""
    return _dropout_backward_kernel(g.dtype)(g, kept, scale)


def _row(x: cupy.ndarray) -> cupy.ndarray:
    """`x` in one dimension where that takes no copy, else as it is: its elements are found by their flat index."""
    return x.reshape(-1) if x.flags.c_contiguous else x

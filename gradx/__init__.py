"""gradx: torch's autograd semantics on the arrays you already own, NumPy's on the CPU and CuPy's on CUDA.

>>> import gradx
>>> x = gradx.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> gradx.autograd.grad((x**2).sum(), x)
(tensor([2., 4., 6.]),)
"""

from gradx import autograd, cuda, nn, utils
from gradx.anomaly import is_anomaly_enabled
from gradx.backends.faults import OutOfMemoryError
from gradx.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    result_type,
    tensor,
    zeros,
    zeros_like,
)
from gradx.device import device
from gradx.dtypes import (
    bool_,
    can_cast,
    complex64,
    complex128,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from gradx.exchange import from_dlpack, to_dlpack
from gradx.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from gradx.ops.activation import relu, sigmoid, tanh
from gradx.ops.compare import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
)
from gradx.ops.complexes import complex, conj, imag, real, view_as_complex, view_as_real
from gradx.ops.division import div, floor_divide, remainder
from gradx.ops.elementwise import (
    add,
    ceil,
    cos,
    exp,
    expm1,
    floor,
    log,
    log1p,
    log2,
    log10,
    mul,
    neg,
    pow,
    reciprocal,
    round,
    rsqrt,
    sin,
    sqrt,
    square,
    sub,
    tan,
    trunc,
)
from gradx.ops.extrema import amax, amin, argmax, argmin, max, min
from gradx.ops.index import gather, index_select, narrow, select
from gradx.ops.join import cat, chunk, split, stack, unbind
from gradx.ops.magnitude import abs, angle, polar, sgn, sign
from gradx.ops.matmul import addmm, bmm, dot, matmul, mm
from gradx.ops.reduce import all, any, cumsum, mean, prod, sum
from gradx.ops.select import clamp, masked_fill, maximum, minimum, where
from gradx.ops.shape import broadcast_to, flatten, flip, permute, reshape, squeeze, t, transpose, unsqueeze
from gradx.ops.softmax import log_softmax, softmax
from gradx.ops.statistics import logsumexp, norm, std, var
from gradx.ops.transfer import clone
from gradx.placement import (
    DeviceFallbackWarning,
    get_default_device,
    get_device_fallback,
    set_default_device,
    set_device_fallback,
)
from gradx.printing import set_printoptions
from gradx.random import manual_seed
from gradx.sampling import rand, rand_like, randint, randn, randn_like, randperm
from gradx.serialization import load, save
from gradx.size import Size
from gradx.tensor import Tensor

__all__ = [
    "DeviceFallbackWarning",
    "OutOfMemoryError",
    "Size",
    "Tensor",
    "__version__",
    "abs",
    "absolute",
    "add",
    "addmm",
    "all",
    "amax",
    "amin",
    "angle",
    "any",
    "arange",
    "argmax",
    "argmin",
    "as_tensor",
    "autograd",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "bmm",
    "bool",
    "bool_",
    "broadcast_to",
    "can_cast",
    "cat",
    "cdouble",
    "ceil",
    "cfloat",
    "chunk",
    "clamp",
    "clip",
    "clone",
    "complex",
    "complex64",
    "complex128",
    "concat",
    "concatenate",
    "conj",
    "cos",
    "cuda",
    "cumsum",
    "device",
    "div",
    "divide",
    "dot",
    "double",
    "dtype",
    "empty",
    "empty_like",
    "enable_grad",
    "eq",
    "exp",
    "expm1",
    "eye",
    "finfo",
    "flatten",
    "flip",
    "float",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "gather",
    "ge",
    "get_default_device",
    "get_default_dtype",
    "get_device_fallback",
    "gt",
    "half",
    "iinfo",
    "imag",
    "index_select",
    "inference_mode",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "is_tensor",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "linspace",
    "load",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "long",
    "lt",
    "manual_seed",
    "masked_fill",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "mul",
    "multiply",
    "narrow",
    "ne",
    "neg",
    "negative",
    "nn",
    "no_grad",
    "norm",
    "numel",
    "ones",
    "ones_like",
    "permute",
    "polar",
    "pow",
    "prod",
    "promote_types",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "real",
    "reciprocal",
    "relu",
    "remainder",
    "reshape",
    "result_type",
    "round",
    "rsqrt",
    "save",
    "select",
    "set_default_device",
    "set_default_dtype",
    "set_device_fallback",
    "set_grad_enabled",
    "set_printoptions",
    "sgn",
    "short",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "subtract",
    "sum",
    "t",
    "tan",
    "tanh",
    "tensor",
    "to_dlpack",
    "transpose",
    "true_divide",
    "trunc",
    "uint8",
    "unbind",
    "unsqueeze",
    "utils",
    "var",
    "view_as_complex",
    "view_as_real",
    "where",
    "zeros",
    "zeros_like",
]

__version__ = "0.1.0"

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
cfloat, cdouble = complex64, complex128
bool = bool_
concat = concatenate = cat
clip, negative, absolute, multiply, subtract, divide, true_divide = clamp, neg, abs, mul, sub, div, div


def is_tensor(obj: object) -> object:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> object:
    """The number of elements."""
    return input.numel()

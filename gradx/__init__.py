"""gradx: torch's autograd semantics on the arrays you already own, NumPy's on the CPU and CuPy's on CUDA.

>>> import gradx
>>> x = gradx.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> gradx.autograd.grad((x**2).sum(), x)
(tensor([2., 4., 6.]),)
"""

from gradx import autograd, cuda, nn
from gradx.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
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
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from gradx.device import device
from gradx.dtypes import (
    bool_,
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
    set_default_dtype,
    uint8,
)
from gradx.ops.activation import relu, sigmoid, tanh
from gradx.ops.compare import (
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
    lt,
    ne,
)
from gradx.ops.elementwise import (
    abs,
    add,
    ceil,
    cos,
    div,
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
    sign,
    sin,
    sqrt,
    square,
    sub,
    tan,
    trunc,
)
from gradx.ops.index import gather, index_select, narrow, select
from gradx.ops.join import cat, chunk, split, stack, unbind
from gradx.ops.matmul import addmm, bmm, dot, matmul, mm
from gradx.ops.reduce import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    std,
    sum,
    var,
)
from gradx.ops.select import clamp, maximum, minimum, where
from gradx.ops.shape import broadcast_to, flatten, flip, permute, reshape, squeeze, t, transpose, unsqueeze
from gradx.ops.softmax import log_softmax, softmax
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
from gradx.tensor import Size, Tensor

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

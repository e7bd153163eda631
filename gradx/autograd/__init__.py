"""torch.autograd's face.

What is the difference between `grad()` and `backward()`? Both carry gradients back over the tape. `backward` adds them to
the ``.grad`` of every leaf that was used, and returns nothing; `grad` returns those you ask for, also for tensors that are
no leaves, and touches no ``.grad``.
"""

from __future__ import annotations

from gradx.anomaly import detect_anomaly, set_detect_anomaly
from gradx.autograd import function, functional, graph
from gradx.autograd.function import Function
from gradx.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from gradx.differentiate import backward, grad
from gradx.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

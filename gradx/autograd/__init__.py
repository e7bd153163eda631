"""torch.autograd's face: `grad`, `backward` and the grad modes.

What is the difference between `grad()` and `backward()`? Both carry gradients back over the tape. `backward` adds them to
the ``.grad`` of every leaf that was used, and returns nothing; `grad` returns those you ask for, also for tensors that are
no leaves, and touches no ``.grad``.
"""

from __future__ import annotations

from gradx.autograd import function
from gradx.autograd.function import Function
from gradx.differentiate import backward, grad
from gradx.tape import enable_grad, is_grad_enabled, no_grad, set_grad_enabled

__all__ = ["Function", "backward", "enable_grad", "function", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]

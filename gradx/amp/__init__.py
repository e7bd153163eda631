"""`torch.amp`'s face: mixed precision, by `autocast` and `GradScaler`.

>>> import gradx
>>> weight = gradx.ones(2, 2, requires_grad=True)
>>> with gradx.autocast("cpu", gradx.float16):
...     product = gradx.ones(1, 2) @ weight
>>> product.dtype
gradx.float16
>>> product.sum().backward()
>>> weight.grad.dtype
gradx.float32
"""

from gradx.amp.autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from gradx.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

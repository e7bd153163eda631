"""torch.utils' face."""

from gradx.utils import checkpoint, dlpack

__all__ = ["checkpoint", "dlpack"]

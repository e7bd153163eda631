"""torch.utils' face."""

from gradx.utils import checkpoint

__all__ = ["checkpoint"]

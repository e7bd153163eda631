"""torch.nn's face: so far its functional part."""

from gradx.nn import functional

__all__ = ["functional"]

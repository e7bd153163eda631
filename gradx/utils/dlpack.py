"""torch.utils.dlpack's face."""

from gradx.backends.dlpack import DLDeviceType
from gradx.exchange import from_dlpack, to_dlpack

__all__ = ["DLDeviceType", "from_dlpack", "to_dlpack"]

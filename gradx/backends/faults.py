"""Errors that are gradx's own and need no CUDA to be caught."""

from __future__ import annotations


class OutOfMemoryError(RuntimeError):
    """A CUDA device has no memory left for an array. What was computed before is as it was, the tape too."""

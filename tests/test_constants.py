"""Numbers with names: the constants of torch, and the limits of dtypes."""

from __future__ import annotations

import pytest
from twin import same

import gradx


def test_constants():
    same(lambda m: (m.pi, m.e, m.inf, m.nan, m.newaxis))
    same(lambda m: m.arange(3)[:, m.newaxis])


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_limits_of_floating_point_are_printed_as_in_torch(name):
    same(lambda m: repr(m.finfo(getattr(m, name))))


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_limits_of_integers_are_printed_as_in_torch(name):
    same(lambda m: repr(m.iinfo(getattr(m, name))))


def test_default_dtype_has_limits():
    assert repr(gradx.finfo()) == repr(gradx.finfo(gradx.float32))

"""Kernels that give the same bits on every device: made of operations that IEEE 754 defines exactly, and of nothing else.

Addition, subtraction, multiplication, division, square root, rounding to whole numbers, scaling by powers of two and integer
arithmetic have one result each. What is written in them, in float64 and in a fixed order, has one result too. `namespace`
gives NumPy's names such forms, `kernels` the kernels that are more than one name.
"""

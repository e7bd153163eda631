"""What the NumPy backend is made of: kernels for few elements and for many, memory, threads."""

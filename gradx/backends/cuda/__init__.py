"""What the CuPy backend is made of. Importing this imports no CuPy; most of the rooms do."""

"""Takes more memory than a small worker has when it is imported."""
KEPT = bytearray(b"x") * (64 << 20)

"""Fine itself, but imports what cannot be compiled."""
import broken  # type: ignore[import]  # noqa: F401

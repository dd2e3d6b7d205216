"""Needs a module that nobody has."""
import a_module_that_does_not_exist  # type: ignore[import]  # noqa: F401

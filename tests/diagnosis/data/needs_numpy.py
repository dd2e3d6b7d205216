"""Needs a package that must be installed for the pool's interpreter."""
import numpy  # noqa: F401

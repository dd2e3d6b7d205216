"""Calls sys.exit() while it is imported, as scripts do that were never meant to be modules."""
import sys

print("usage: exits_in_import FILE")
sys.exit(3)

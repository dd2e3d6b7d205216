"""All tests; a regular package, so that no other `tests` on the path hides it."""

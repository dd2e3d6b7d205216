"""The daemons of these tests are those of the integration tests, with all that is checked when they stop."""

from tests.integration.conftest import built, pytest_runtest_makereport, start_daemon  # noqa: F401

__all__ = ["built", "pytest_runtest_makereport", "start_daemon"]

"""pypool_worker: what an application imports to be called through pypoold. See docs/worker.md.

    from pypool_worker import expose

    @expose
    def add(a, b):
        return a + b
"""
from pypool_worker.context import Context, current
from pypool_worker.errors import CallCancelled, DeadlineExceeded
from pypool_worker.registry import after_fork, expose, on_session_close, on_start, on_stop
from pypool_worker.session import Session

__all__ = ["CallCancelled", "Context", "DeadlineExceeded", "Session", "after_fork", "current", "expose",
           "on_session_close", "on_start", "on_stop"]

"""warm_app in a template that must fork twice, as where a library wants to be told of forks."""

from pypool_worker import forking

forking.make_clone = lambda native: None

import warm_app  # type: ignore[import]  # noqa: E402, F401  its handlers

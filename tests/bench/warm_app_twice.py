"""warm_app in a template that must fork twice, as where a library wants to be told of forks."""

import importlib

from pypool_worker import forking

forking.make_clone = lambda native: None
importlib.import_module("warm_app")  # for its handlers

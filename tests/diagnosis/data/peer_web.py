"""The handlers of `shop` behind HTTP, for gunicorn and uWSGI: /NAME?ARGUMENTS, the arguments as a JSON array."""
from __future__ import annotations

import importlib
import json
import os
import urllib.parse
from typing import Any, Callable, Dict, List

app = importlib.import_module(os.environ.get("PEER_APP", "shop"))


def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> List[bytes]:
    args = json.loads(urllib.parse.unquote(environ.get("QUERY_STRING") or "") or "[]")
    value = getattr(app, environ["PATH_INFO"].strip("/"))(*args)
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

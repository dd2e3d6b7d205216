"""A recording: one failed call as pypoold kept it, with what its worker was given. docs/replay.md has the format."""
from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional

from pypool_worker.codec import Codec
from pypool_worker.control import Init
from pypool_worker.request import Request

FORMAT = 1
ARGS_SHOWN = 2000  # characters


class BadRecording(Exception):
    """The file is not a recording that this version can read."""


class Recording:
    """What is in a file. The values are as they came: nothing in here has been run."""

    def __init__(self, fields: Dict[str, Any]) -> None:
        """Raises BadRecording."""
        if fields.get("format") != FORMAT:
            raise BadRecording(f"its format is {fields.get('format')!r}, and this version reads {FORMAT}")
        self.fields = fields
        try:
            self.init = Init(fields)
            self.request = Request(fields["call"], {key: fields.get(key) for key in ("target", "args", "traceparent")})
            self.python: str = fields["python"]
            self.environment = dict(entry.split("=", 1) for entry in fields["environment"])
            self.code: str = fields["code"]
            self.message: str = fields["message"]
        except Exception as exc:
            raise BadRecording(f"it is incomplete: {type(exc).__name__}: {exc}") from None

    def when(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(self.fields["time_ms"]) // 1000))

    def summary(self) -> str:
        """One line."""
        return f"{self.when()}  {self.code:<17} {self.request.target}: {self.message.splitlines()[0][:200]}"

    def describe(self) -> List[str]:
        """For people. Of the environment only the names: values may be secrets."""
        known = self.fields
        lines = [f"{name:<12} {text}" for name, text in [
            ("time", self.when()), ("pool", self.init.pool), ("target", self.request.target),
            ("args", self._shown_args()), ("error", f"{self.code}: {self.message}"),
            ("executed", str(known.get("executed"))), ("ran for", f"{known.get('run_ms')} ms"),
            ("call, worker", f"{known.get('call')}, {known.get('worker')}"), ("app", self.init.app),
            ("modules", ", ".join(self.init.modules)), ("path", os.pathsep.join(self.init.path)),
            ("warmup", self.init.warmup or ""), ("python", self.python),
            ("environment", " ".join(sorted(self.environment))), ("traceparent", self.request.traceparent or ""),
        ] if text]
        return [line for text in lines for line in text.splitlines()] + self._cause()

    def _shown_args(self) -> str:
        request = self.request
        shown = [repr(arg) for arg in request.args] + [f"{key}={value!r}" for key, value in request.kwargs.items()]
        text = ", ".join(shown)
        return text if len(text) <= ARGS_SHOWN else f"{text[:ARGS_SHOWN]}... ({len(text)} characters)"

    def _cause(self) -> List[str]:
        cause = self.fields.get("cause")
        told = cause.get("traceback") or cause.get("stack") if isinstance(cause, dict) else None
        return ["", *str(told).splitlines()] if told else []


def read_recording(path: str, codec: Codec) -> Recording:
    """Raises OSError, BadRecording."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        fields = codec.unpack(data)
    except Exception as exc:
        raise BadRecording(f"it is not one MessagePack value: {type(exc).__name__}: {exc}") from None
    if type(fields) is not dict:
        raise BadRecording("it is no map")
    return Recording(fields)


def list_recordings(path: str) -> List[str]:
    """The files of a directory that are recordings by their names, the eldest first; or `path` itself. OSError."""
    if not os.path.isdir(path):
        return [path]
    names = [name for name in os.listdir(path) if name.endswith(".call")]
    return [os.path.join(path, name) for name in sorted(names, key=_moment)]


def _moment(name: str) -> str:
    parts = name.rsplit("-", 2)
    return parts[1] if len(parts) == 3 else name


def is_same_python(one: str, other: str) -> bool:
    """The same program in the same virtual environment."""
    return os.path.realpath(one) == os.path.realpath(other) and _venv(one) == _venv(other)


def _venv(python: str) -> Optional[str]:
    where = os.path.dirname(os.path.abspath(python))
    for place in (where, os.path.dirname(where)):
        if os.path.exists(os.path.join(place, "pyvenv.cfg")):
            return os.path.realpath(place)
    return None

"""pypoolctl metrics --http, as a socket unit starts it: one connection, one request, one answer."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.daemon import BUILD, DEMO, SLOW, Daemon
from tests.support.exposition import read

LIMIT = 8192
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# what Prometheus 2.53 sends
ACCEPT = (
    b"Accept: application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    b"text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n"
)
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"


class Served:
    """A pypoolctl whose stdin and stdout are one end of a socket pair; `peer` is the other."""

    def __init__(self, daemon_socket: Path) -> None:
        self.peer, own = socket.socketpair()
        self.peer.settimeout(20 * SLOW)
        self.process = subprocess.Popen(
            [str(BUILD / "pypoolctl"), "metrics", "--http"],
            env={**os.environ, "PYPOOL_SOCKET": str(daemon_socket)},
            stdin=own.fileno(),
            stdout=own.fileno(),
            stderr=subprocess.PIPE,
        )
        own.close()

    def finish(self) -> tuple[bytes, str]:
        """All that it answers, until it is gone with status 0, and what it says on stderr."""
        answer = b""
        while data := self.peer.recv(65536):
            answer += data
        self.peer.close()
        _, errors = self.process.communicate(timeout=20 * SLOW)
        assert self.process.returncode == 0
        return answer, errors.decode()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


def parse(raw: bytes) -> Answer:
    """Strictly: each line ends with CR LF, the length is right."""
    head, found, body = raw.partition(b"\r\n\r\n")
    assert found
    first, *lines = head.decode().split("\r\n")
    version, status, reason = first.split(" ", 2)
    assert version == "HTTP/1.1" and reason and "\n" not in head.decode().replace("\r\n", "")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert headers["Content-Length"] == str(len(body)) and headers["Connection"] == "close"
    return Answer(int(status), headers, body.decode())


def ask(daemon_socket: Path, request: bytes) -> Answer:
    served = Served(daemon_socket)
    served.peer.sendall(request)
    raw, errors = served.finish()
    assert errors == ""
    return parse(raw)


@pytest.mark.parametrize("request_head", [GET, GET.replace(b"1.1", b"1.0"), b"GET /metrics?name=x HTTP/1.1\r\n"])
def test_the_metrics_are_answered(start_daemon: Callable[..., Daemon], request_head: bytes) -> None:
    daemon = start_daemon({"default": DEMO})
    answer = ask(daemon.socket, request_head + b"\r\n")
    assert (answer.status, answer.headers["Content-Type"]) == (200, TEXT)
    assert read(answer.body)["pypool_workers_minimum"].value(pool="default") == 2


def test_the_header_accept_chooses_openmetrics(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    for header in (ACCEPT, b"aCCept:application/OpenMetrics-Text\r\n"):
        answer = ask(daemon.socket, GET + header + b"\r\n")
        assert (answer.status, answer.headers["Content-Type"]) == (200, OPEN)
        assert read(answer.body, openmetrics=True)["pypool_workers_minimum"].value(pool="default") == 2
    for header in (b"Accept: text/plain\r\n", b"X-Accept: application/openmetrics-text\r\n"):
        assert ask(daemon.socket, GET + header + b"\r\n").headers["Content-Type"] == TEXT


def test_a_request_may_come_byte_by_byte(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    served = Served(daemon.socket)
    for byte in GET + b"\r\n":
        served.peer.sendall(bytes([byte]))
    raw, _ = served.finish()
    assert parse(raw).status == 200


def test_a_request_of_the_largest_size_is_answered(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    filler = b"X: " + b"x" * (LIMIT - len(GET) - 7) + b"\r\n\r\n"
    assert len(GET + filler) == LIMIT
    assert ask(daemon.socket, GET + filler).status == 200


@pytest.mark.parametrize(
    "request_bytes,status",
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1 more\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: \0\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),  # TLS
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * LIMIT, 431),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 5 * LIMIT, 431),
    ],
    ids=lambda value: str(value)[:40],
)
def test_everything_else_is_refused_without_the_daemon(tmp_path: Path, request_bytes: bytes, status: int) -> None:
    answer = ask(tmp_path / "none", request_bytes)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert answer.body.startswith(f"{status} ") and answer.body.endswith("\n")
    assert answer.headers.get("Allow") == ("GET" if status == 405 else None)


def test_half_a_request_is_refused_and_none_at_all_is_no_failure(tmp_path: Path) -> None:
    for request, expected in ((GET, 400), (b"", None)):
        served = Served(tmp_path / "none")
        served.peer.sendall(request)
        served.peer.shutdown(socket.SHUT_WR)
        raw, errors = served.finish()
        assert (parse(raw).status if raw else None, errors) == (expected, "")


def test_who_says_nothing_is_sent_away_after_five_seconds(tmp_path: Path) -> None:
    begin = time.monotonic()
    answer = ask(tmp_path / "none", GET)
    assert answer.status == 408
    assert 4.9 < time.monotonic() - begin < 5 + 5 * SLOW


def test_without_the_daemon_it_is_unavailable_and_the_log_says_why(tmp_path: Path) -> None:
    served = Served(tmp_path / "none")
    served.peer.sendall(GET + b"\r\n")
    raw, errors = served.finish()
    assert parse(raw).status == 503 and "pypool_" not in parse(raw).body
    assert str(tmp_path / "none") in errors

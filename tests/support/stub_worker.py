#!/usr/bin/python3
"""A worker that follows a script instead of docs/worker-protocol.md.

A pool whose `python` is this file runs it in the place of an interpreter. STUB names the script: words, done one after
the other. STUB_LEDGER is a file for what it sees. A script of the form `first|then` is `first` for the first worker that
comes and `then` for all later ones.
"""
from __future__ import annotations

import os
import select
import sys
import time
from typing import Any, Callable, Dict

import msgpack

CALLS, CONTROL = 3, 4
WATCH_SECONDS = 1.0


def note(text: str) -> None:
    fd = os.open(os.environ["STUB_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def tell(name: str, **fields: Any) -> None:
    os.write(CONTROL, msgpack.packb([2, name, [fields]]))


def hello(protocol: int = 1) -> None:
    tell("hello", protocol=protocol, pid=os.getpid(), python="3.0.0", codec="c", t_ns=time.monotonic_ns())


def ready() -> None:
    tell("ready", targets=["echo"], t_ns=time.monotonic_ns())


def frame(message: Any) -> bytes:
    body: bytes = msgpack.packb(message)
    return len(body).to_bytes(4, "big") + body


def read_exactly(size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = os.read(CALLS, size - len(got))
        if not piece:
            sys.exit(0)
        got += piece
    return got


def take_call() -> int:
    message = msgpack.unpackb(read_exactly(int.from_bytes(read_exactly(4), "big")), strict_map_key=False)
    note(f"call {message[3][0]['target']}")
    number: int = message[1]
    return number


def reply(call: int) -> bytes:
    return frame([1, call, None, "from the stub", {"run_us": 1}])


def watch() -> None:
    """Says whether a call came although nobody was ready for it."""
    readable, _, _ = select.select([CALLS], [], [], WATCH_SECONDS)
    note("a call came early" if readable else "no call came early")


def serve() -> None:
    """Answers every call, and leaves when it is told to."""
    while True:
        readable, _, _ = select.select([CALLS, CONTROL], [], [])
        if CONTROL in readable and b"stop" in os.read(CONTROL, 65536)[:10]:
            sys.exit(0)
        if CALLS in readable:
            os.write(CALLS, reply(take_call()))


def until_killed() -> None:
    while True:
        time.sleep(3600)


WORDS: Dict[str, Callable[[], Any]] = {
    "hello": hello,
    "hello_of_protocol_9": lambda: hello(9),
    "ready": ready,
    "watch": watch,
    "serve": serve,
    "until_killed": until_killed,
    "exit_3": lambda: os._exit(3),
    "complain": lambda: print("the stub complains", file=sys.stderr, flush=True),
    "garbage_on_control": lambda: os.write(CONTROL, b"\xc1\xc1"),
    "too_much_on_control": lambda: os.write(CONTROL, b"\xc0" * 65537),
    "close_control": lambda: os.close(CONTROL),
    "close_calls": lambda: os.close(CALLS),
    "unasked_reply": lambda: os.write(CALLS, reply(1)),
    "reply_to_another": lambda: os.write(CALLS, reply(take_call() + 1000)),
    "reply_twice": lambda: os.write(CALLS, reply(take_call()) * 2),
    "reply_and_die": lambda: (os.write(CALLS, reply(take_call())), os._exit(1)),
    "reply_cut_short": lambda: (os.write(CALLS, reply(take_call())[:-3]), os._exit(0)),
    "reply_too_long": lambda: os.write(CALLS, b"\x7f" + reply(take_call())),
    "reply_garbage": lambda: (take_call(), os.write(CALLS, b"\x00\x00\x00\x02\xc1\xc1")),
    "send_a_request": lambda: os.write(CALLS, frame([0, take_call(), "execute", [{}]])),
}


def main() -> None:
    first, _, then = os.environ["STUB"].partition("|")
    script = first
    if then:
        try:
            os.close(os.open(os.environ["STUB_LEDGER"] + ".first", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            script = then
    for word in script.split():
        WORDS[word]()


main()

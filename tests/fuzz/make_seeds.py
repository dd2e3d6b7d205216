"""Writes seeds for the fuzz targets, from tests/vectors/ and docs/configuration.md, into a directory: one folder each.

make fuzz-corpus merges them with what the targets found; see tests/fuzz/README.md.
"""

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Places in the step tables of fuzz_connection.c and fuzz_worker.c.
C_SEND, C_REQUEST, C_HALF, C_LEAVE, C_LAZY, C_SETTLE, C_PASS, C_FREEZE, C_DRAIN = 1, 2, 3, 4, 5, 6, 7, 8, 9
C_READY, C_REPLY, C_ERROR, C_PRINT, C_STACK, C_EXIT = 11, 12, 13, 14, 15, 16
W_READY, W_REPLY, W_ERROR, W_RAW, W_WRITE, W_FRAME, W_CONTROL, W_TELL, W_PRINT, W_STACK = range(10)
W_CLOSE, W_EXIT, W_SETTLE, W_PASS, W_FREEZE, W_REQUEST, W_LEAVE, W_WRONG = range(10, 18)
HELLO, EXECUTE, CHECKOUT, CHECKIN, CANCEL = 0, 2, 3, 4, 5
WORKER_STACK, METHODS = 13, 14


def vectors() -> list[bytes]:
    """The bytes of all lines of all vector files."""
    found = []
    for file in sorted((ROOT / "tests/vectors").glob("*.hex")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                found.append(bytes.fromhex(line.rpartition(": ")[2]))
    return found


def is_prefixed(message: bytes) -> bool:
    return len(message) > 4 and int.from_bytes(message[:4], "big") == len(message) - 4


def body(message: bytes) -> bytes:
    return message[4:] if is_prefixed(message) else message


def step(number: int, *rest: int) -> bytes:
    return bytes([number, *rest])


def chunk(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def request(method: int, ident: int, mask: int, *values: int) -> bytes:
    return bytes([method, ident, mask, *values])


def connection_seeds(messages: list[bytes]) -> list[bytes]:
    ready = step(C_SETTLE) + step(C_READY, 0)
    seeds = [
        b"\0" + ready + step(C_SEND, 0) + chunk(m) + step(C_SETTLE) + step(C_REPLY, 0) + step(C_SETTLE)
        for m in messages
        if len(m) < 256
    ]
    execute = step(C_REQUEST, 0) + request(EXECUTE, 1, 1, 0)
    checkout = step(C_REQUEST, 0) + request(CHECKOUT, 2, 8, 1)  # with type
    direct = step(C_REQUEST, 0) + request(CHECKOUT, 2, 40, 1, 1)  # and direct
    leased = step(C_REQUEST, 0) + request(EXECUTE, 3, 9, 0, 1)
    checkin = step(C_REQUEST, 0) + request(CHECKIN, 4, 1, 1)
    cancel = step(C_REQUEST, 0) + request(CANCEL, 5, 1, 1)
    peek = step(C_REQUEST, 0) + request(WORKER_STACK, 1, 1, 1)
    settle, one_second = step(C_SETTLE), step(C_PASS, 20)
    stories = [
        ready + execute + settle + step(C_REPLY, 0) + settle,
        ready + execute + execute + settle + cancel + settle,
        ready + execute + settle + cancel + settle + step(C_REPLY, 0),
        ready + execute + settle + step(C_PASS, 23) + step(C_STACK, 0) + chunk(b"stack\n") + one_second,
        ready + execute + settle + step(C_EXIT, 0, 200) + settle,
        ready + execute + step(C_HALF, 0) + settle + step(C_REPLY, 0) + settle,
        ready + execute + settle + step(C_LEAVE, 0) + settle + step(C_PASS, 21),
        ready + checkout + settle + leased + leased + settle + step(C_REPLY, 0) + checkin + settle,
        ready + checkout + settle + leased + step(C_PASS, 24) + settle,
        ready + checkout + settle + leased + settle + step(C_EXIT, 0, 3) + settle,
        ready + direct + settle + leased + checkin + settle + step(C_REPLY, 0) + execute + settle,
        ready + direct + settle + step(C_REPLY, 0) + settle + checkin,
        ready + direct + settle + step(C_LEAVE, 0) + settle + step(C_PASS, 21),
        ready + direct + settle + step(C_EXIT, 0, 200) + settle,
        ready + direct + settle + step(C_DRAIN, 0) + settle + step(C_REPLY, 0) + settle,
        ready + step(C_LAZY, 0) + (execute + settle + step(C_REPLY, 0)) * 9 + step(C_LAZY, 0) + settle,
        ready + execute + step(C_DRAIN, 0) + settle + step(C_REPLY, 0) + settle,
        ready + execute + settle + step(C_FREEZE, 24) + step(C_REPLY, 0) + settle,
        ready + step(C_PRINT, 0, 1) + chunk(b"out\n") + execute + settle + step(C_ERROR, 0, 28) + chunk(b"no") + settle,
        settle + step(C_EXIT, 0, 1) + settle + execute + settle + one_second,
        ready + peek + peek + settle + step(C_STACK, 0) + chunk(b"stack\n") + step(C_PASS, 20) + settle,
        ready + execute + settle + peek + step(C_HALF, 0) + step(C_REPLY, 0) + settle + one_second,
        ready + execute + settle + peek + settle + step(C_EXIT, 0, 200) + settle,
        ready + peek + settle + step(C_LEAVE, 0) + settle + one_second,
    ]
    stories += [ready + step(C_REQUEST, 0) + request(m, 6, 255, *range(1, 9)) + settle for m in range(METHODS)]
    return seeds + [bytes([size]) + story for story in stories for size in (0, 3)]


def worker_seeds() -> list[bytes]:
    ready = step(W_SETTLE) + step(W_READY, 0) + step(W_SETTLE)
    value = b"\xc0\xa2ok"
    error = b"\x83\xa4code\xa9app_error\xa7message\xa2no\xa5cause\x81\xa4type\xa1E\xc0"
    hello = b"\x85\xa8protocol\x01\xa3pid\x01\xa6python\xa63.11.2\xa5codec\xa1c\xa4t_ns\x01"
    phase = b"\x83\xa4name\xa7imports\xa6module\xa3app\xa4t_ns\x02"
    failed = b"\x86\xa5phase\xa7imports\xa4type\xa1E\xa7message\xa2no\xa4file\xa1f\xa4line\x05\xa9traceback\xa1t"
    told = b"\x82\xa7targets\x92\xa1x\xa1y\xa4t_ns\x03"
    return [
        ready + step(W_REPLY, 0) + step(W_SETTLE),
        ready + step(W_RAW, 0, 0) + chunk(value) + step(W_SETTLE),
        ready + step(W_RAW, 0, 1) + chunk(value + b"\x81\xa6run_us\x07") + step(W_SETTLE),
        ready + step(W_RAW, 0, 0) + chunk(error) + step(W_SETTLE),
        ready + step(W_WRONG, 0, 1) + step(W_SETTLE),
        ready + step(W_PASS, 24) + step(W_WRONG, 0, 200) + step(W_SETTLE),
        ready + step(W_ERROR, 0, 28) + chunk(b"no") + step(W_SETTLE),
        ready + step(W_FRAME, 0) + chunk(b"\x94\x01\x01\xc0\x05") + step(W_SETTLE),
        ready + step(W_WRITE, 0) + chunk(b"\x00\x00\x00\x05\x94\x01\x01\xc0") + step(W_PASS, 24),
        ready + step(W_CLOSE, 0) + step(W_PASS, 20),
        ready + step(W_PRINT, 0, 1) + chunk(b"last words\n") + step(W_EXIT, 0, 139) + step(W_SETTLE),
        ready + step(W_PASS, 23) + step(W_STACK, 0) + chunk(b'  File "a.py", line 5 in f\n') + step(W_PASS, 21),
        step(W_SETTLE) + step(W_TELL, 0, 0) + chunk(hello) + step(W_TELL, 0, 1) + chunk(phase)
        + step(W_TELL, 0, 2) + chunk(told) + step(W_SETTLE),
        step(W_SETTLE) + step(W_TELL, 0, 0) + chunk(hello) + step(W_TELL, 0, 3) + chunk(failed) + step(W_EXIT, 0, 1)
        + step(W_SETTLE),
        step(W_SETTLE) + step(W_CONTROL, 0) + chunk(b"\x93\x02\xa5hello\x91" + hello) + step(W_SETTLE),
        step(W_SETTLE) + step(W_PASS, 22) + step(W_STACK, 0) + chunk(b"stack\n") + step(W_PASS, 22),
        b"\x93\x02\xa5hello\x91" + hello,
        b"\x93\x02\xa6failed\x91" + failed,
        ready + step(W_REQUEST, 0) + request(CANCEL, 5, 1, 1) + step(W_SETTLE) + step(W_PASS, 21),
        ready + step(W_FREEZE, 24) + step(W_REPLY, 0) + step(W_LEAVE, 0) + step(W_SETTLE),
    ]


def config_seeds() -> list[bytes]:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    found = [m.group(1).encode() for m in re.finditer(r"```[a-z]*\n(.*?)```", text, re.S)]
    found += [file.read_bytes() for file in sorted((ROOT / "systemd").glob("*.conf"))]
    pool = b'pool "x" {\n  app = "a"\n'
    options = sorted(set(re.findall(r"^\| `([a-z_]+)`", text, re.M)))
    values = (b'"10k5"', b"-1", b'"1.5 s"', b'{"a", "b"}', b"99999999999999999999", b"${HOME}", b"true")
    for i, option in enumerate(options):
        line = option.encode() + b" = " + values[i % len(values)] + b"\n"
        found += [line + pool + b"}\n", pool + line + b"}\n"]
    found += [b"\xef\xbb\xbf" + pool + b"}", pool, b"include(\"x\")\n", b"/* open", b"a = 'b\nc'", pool + b"}\0}"]
    return found


def write(place: Path, seeds: list[bytes]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (place / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def main() -> None:
    place = Path(sys.argv[1])
    messages = vectors()
    bodies = [body(m) for m in messages]
    write(place / "frame", [bytes([i % 4]) + m for i, m in enumerate(messages)])
    write(place / "params", bodies + [b.partition(b"\x91")[2] for b in bodies if b"\x91" in b])
    write(place / "connection", connection_seeds(messages))
    write(place / "worker", worker_seeds())
    write(place / "config", config_seeds())


if __name__ == "__main__":
    main()

"""Libraries that notice a fork by a handler of the C library, which a bare clone() does not run."""
from __future__ import annotations

import os
import struct
from typing import Dict, Iterator, List, Tuple

SYMBOL = b"__register_atfork"  # what pthread_atfork() becomes in whatever calls it
ELF64_LITTLE = b"\x7fELF\x02\x01"
PT_LOAD, PT_DYNAMIC, DT_STRTAB, DT_STRSZ = 1, 2, 5, 10
# the C library itself; and what only wants to end its threads before a fork, as it has done when the template made one
HARMLESS = ("libc.so", "libc-", "ld-linux", "libpthread", "libopenblas", "libscipy_openblas")


def atfork_users() -> List[str]:
    """Their names; OSError when it cannot be known what is loaded."""
    return sorted({os.path.basename(path) for path in _loaded() if _mentions(path)})


def _loaded() -> Iterator[str]:
    """What is mapped to be run, each once."""
    seen = set()
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            fields = line.split(None, 5)
            if len(fields) == 6 and b"x" in fields[1] and fields[5].startswith(b"/"):
                path = os.fsdecode(fields[5].rstrip(b"\n"))
                if path not in seen and not os.path.basename(path).startswith(HARMLESS):
                    seen.add(path)
                    yield path


def _mentions(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # removed, or not to be read: it may do anything
    try:
        return SYMBOL in _read_names(fd)
    except (OSError, struct.error, ValueError):
        return True
    finally:
        os.close(fd)


def _read_names(fd: int) -> bytes:
    """The names of the symbols of an ELF file of 64 bits, its .dynstr: far less than all of it. ValueError: it is none."""
    head = os.pread(fd, 64, 0)
    if head[:6] != ELF64_LITTLE:
        raise ValueError("not an ELF file of 64 bits")
    at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    segments = [struct.unpack_from("<IIQQQQ", os.pread(fd, size, at + n * size)) for n in range(count)]
    for kind, _, offset, _, _, length in segments:
        if kind == PT_DYNAMIC:
            entries = os.pread(fd, length // 16 * 16, offset)
            table: Dict[int, int] = {tag: value for tag, value in struct.iter_unpack("<QQ", entries)}
            return os.pread(fd, table.get(DT_STRSZ, 0), _offset_of(table.get(DT_STRTAB, 0), segments))
    return b""  # linked statically


def _offset_of(address: int, segments: List[Tuple[int, ...]]) -> int:
    for kind, _, offset, start, _, length in segments:
        if kind == PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("its symbols are not in the file")

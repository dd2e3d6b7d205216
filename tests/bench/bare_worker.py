"""The floor of a Python worker: reads length-prefixed requests on fd 3, answers each with its first argument.

No registry, no interrupt, no context: only what MessagePack and two system calls cost.
"""

from __future__ import annotations

import os
import socket
import struct

import msgpack


def serve(fd: int) -> None:
    packer = msgpack.Packer(autoreset=True)
    pack = packer.pack
    unpack = msgpack.unpackb
    sock = socket.socket(fileno=fd)
    buffer = bytearray(65536)
    have = 0
    while True:
        got = sock.recv_into(memoryview(buffer)[have:])
        if not got:
            return
        have += got
        start = 0
        while have - start >= 4:
            (size,) = struct.unpack_from(">I", buffer, start)
            end = start + 4 + size
            if end > have:
                break
            _, call, _, params = unpack(memoryview(buffer)[start + 4:end])
            body = pack([1, call, None, params[0]["args"][0], {"run_us": 0}])
            start = end
            if len(body) < 65536:
                sock.sendall(struct.pack(">I", len(body)) + body)
            else:
                sent = os.writev(fd, [struct.pack(">I", len(body)), body])
                if sent < 4 + len(body):
                    sock.sendall(memoryview(body)[sent - 4:])
        have -= start
        if start and have:
            buffer[:have] = buffer[start:start + have]
        elif have >= 4:
            buffer = grown(buffer, 4 + struct.unpack_from(">I", buffer)[0])


def grown(buffer: bytearray, need: int) -> bytearray:
    """With room for a frame of that size."""
    return buffer if need <= len(buffer) else buffer + bytearray(need - len(buffer))


if __name__ == "__main__":
    serve(3)

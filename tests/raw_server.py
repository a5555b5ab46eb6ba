"""A server that answers with bytes as they are given, however wrong, slow or endless."""

import itertools
import re
import socket
import struct
import threading
import time
from contextlib import suppress

RESET = object()  # a piece after which the connection is reset


def answer(body=b"", status="200 OK", **headers):
    """An answer with its length, or with such headers; of one that is None nothing is said."""
    headers = {"Content_Length": len(body), "Connection": "close"} | headers
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in headers.items() if v is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


def chunked(body, size=50_000):
    """A body in chunks."""
    cut = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*cut, b""])


def slowly(content, pause=0.05):
    """Byte after byte, over and over."""
    for i in itertools.count():
        yield content[i % len(content) : i % len(content) + 1]
        time.sleep(pause)


def for_ever(start, piece):
    """A beginning, then the same again and again as fast as it is taken."""
    return itertools.chain([start], itertools.repeat(piece))


def ranged(content, request, **headers):
    """What an honest server with ranges answers."""
    asked = re.search(r"Range: bytes=(\d*)-(\d*)", request)
    if not asked:
        return answer(content, **headers)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = int(last) + 1 if first and last else len(content)
    said = f"bytes {start}-{stop - 1}/{len(content)}"
    return answer(content[start:stop], "206 Partial", **{"Content_Range": said, **headers})


class RawServer:
    """Answers each request with what ``reply(request, number)`` gives: bytes, or pieces of them."""

    def __init__(self, host="127.0.0.1"):
        self.reply, self.requests, self.connections = None, [], 0
        self.socket = socket.create_server((host, 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://{host}:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.reply = None
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # else the thread that accepts goes on
        self.socket.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection):
        with connection, suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += (more := connection.recv(1 << 16))
                if not more:
                    return
            request = asked.decode("latin-1")
            self.requests.append(request)
            if (answered := self.reply) is None:
                return
            reply = answered(request, len(self.requests) - 1)
            for piece in [reply] if isinstance(reply, bytes) else reply:
                if self.reply is None:
                    return
                if piece is RESET:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                connection.sendall(piece)

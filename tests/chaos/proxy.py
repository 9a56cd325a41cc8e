"""An HTTP proxy in front of an object store that makes it fail, by a schedule that a seed decides.

In every block of requests one is due for a fault, and the kinds take turns, so every kind happens once there
have been enough requests. A fault of a put waits for the next put.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import Counter, deque
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Literal

import numpy as np

Fault = Literal["cut", "lost", "truncated", "500", "503", "late"]
PUT_FAULTS: tuple[Fault, ...] = ("cut", "lost", "truncated")
"""A put whose connection breaks in mid-body; one that is done and never answered; one of which half arrives
and is answered as done."""
FAULTS: tuple[Fault, ...] = ("cut", "500", "lost", "503", "truncated", "late")
UPSTREAM_TIMEOUT_S = 60
_NO_HEADERS = {"connection", "content-length", "date", "expect", "keep-alive", "server", "transfer-encoding"}
# Of the whole body; AWS would compare them, moto does not, and a proxy that truncates leaves no wrong ones.
_CHECKSUMS = ("content-md5", "x-amz-checksum-", "x-amz-sdk-checksum-algorithm", "x-amz-trailer")


class Schedule:
    """Which request fails, and how.

    Args:
        period: Requests per fault; 0: none fails.
        seed: Which one of each period.
    """

    def __init__(self, period: int, seed: int = 0) -> None:
        self.period = period
        self._random = np.random.default_rng(seed)
        self._kinds = cycle(FAULTS)
        self._puts: deque[Fault] = deque()
        self._num_requests = self._due = 0
        self._lock = Lock()

    def next(self, method: str) -> Fault | None:
        """What is to happen to the next request."""
        if not self.period:
            return None
        with self._lock:
            position = self._num_requests % self.period
            if position == 0:
                self._due = int(self._random.integers(self.period))
            self._num_requests += 1
            if position == self._due:
                kind = next(self._kinds)
                if kind not in PUT_FAULTS:
                    return kind
                self._puts.append(kind)
            return self._puts.popleft() if method == "PUT" and self._puts else None


class Proxy:
    """A server on 127.0.0.1 that passes requests on to another one there, or does not.

    Args:
        port: Of the store.
        period: Requests per fault; 0: none fails.
        seed: Of the schedule.
        late_s: How much later than it could an answer of kind ``late`` comes.

    Attributes:
        faults: What has happened, by kind.
        num_requests: Requests that came.
        is_down: Whether every connection is cut at once.
        hold: Puts of names that end like this wait for ``released``; empty: none does.
        held: Set while a put waits, or has waited.
        released: To be set for the held puts to go on.
    """

    def __init__(self, port: int, *, period: int = 0, seed: int = 0, late_s: float = 0.5) -> None:
        self.upstream, self.schedule, self.late_s = port, Schedule(period, seed), late_s
        self.faults: Counter[Fault] = Counter()
        self.num_requests = 0
        self.is_down = False
        self.hold = ""
        self.held, self.released = Event(), Event()
        self.lock = Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, fault: Fault) -> None:
        """Take note of a fault."""
        with self.lock:
            self.faults[fault] += 1


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        proxy = self.proxy
        if proxy.is_down:
            self._hang_up()
            return
        with proxy.lock:
            proxy.num_requests += 1
        assert "transfer-encoding" not in self.headers, "send AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.command == "PUT" and proxy.hold and self.path.partition("?")[0].endswith(proxy.hold):
            proxy.held.set()
            proxy.released.wait(UPSTREAM_TIMEOUT_S)
        fault = proxy.schedule.next(self.command)
        if fault is not None:
            proxy.count(fault)
        if fault == "500" or fault == "503":
            code, words = ("InternalError", "oops") if fault == "500" else ("SlowDown", "reduce your rate")
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
            self._answer(int(fault), {"Content-Type": "application/xml"}, text.encode())
        elif fault == "cut":
            self._cut(body)
            self._hang_up()
        else:
            sent = body[: len(body) // 2] if fault == "truncated" else body
            try:
                status, headers, content = self._pass_on(sent)
            except (OSError, HTTPException):
                self._hang_up()
                return
            if fault == "lost":
                self._hang_up()
                return
            if fault == "late":
                time.sleep(proxy.late_s)
            self._answer(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 (http.server's names)

    def _headers_on(self) -> dict[str, str]:
        """The headers that the store is to see, less the length."""
        return {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _NO_HEADERS and not name.lower().startswith(_CHECKSUMS)
        }

    def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The store's answer to a request with this body."""
        connection = HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.request(self.command, self.path, body, self._headers_on() | _length(body))
            answer = connection.getresponse()
            content = answer.read()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _NO_HEADERS}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length", "0")
            return answer.status, headers, content
        finally:
            connection.close()

    def _cut(self, body: bytes) -> None:
        """Announce the whole body to the store, send half of it, and break the connection."""
        connection = HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in (self._headers_on() | _length(body)).items():
                connection.putheader(name, value)
            connection.endheaders(body[: len(body) // 2])
            if connection.sock is not None:
                _reset(connection.sock)
        except OSError:
            pass  # it is cut in any case
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers and status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except OSError:
            self.close_connection = True  # nobody listens any more

    def _hang_up(self) -> None:
        _reset(self.connection)
        self.close_connection = True


def _length(body: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(body))}


def _reset(connection: socket.socket) -> None:
    """End a connection with an error for the other side, not with an end of file."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):  # it is gone already
        connection.shutdown(socket.SHUT_RDWR)

"""Answers of servers that nobody vouches for: from where, and how long, large and deep they may be.

Both environments of the acquisition use it: it imports requests and the standard library alone.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import math
import os
import random
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

TRUSTED = "BRAINVAE_TRUSTED_HOSTS"  # names or addresses that may be private, between commas
REDIRECTS = 5
LONGEST_WAIT = 600  # s; a server that asks for more is left for another run
LONGEST_ANSWER = 4 * 3600  # s of waiting for one body
LONGEST_JSON = 300  # s, likewise
SLOWEST = 1024  # bytes/s; less over a whole timeout is a stall
LARGEST_JSON = 1 << 26  # bytes
DEEPEST_JSON = 20  # lists and objects in each other
LONGEST_TEXT = 2000  # characters of a name or an address
TRIES_DAMAGED = 3  # of what comes damaged
CHUNK = 1 << 18  # bytes read at once


class FetchError(Exception):
    """The server does not give the file: one line with the URL and what to do next."""


class UnansweredError(FetchError):
    """It may give it later: all tries failed, or it asks to wait for long."""


class AgainError(Exception):
    """This try failed; the next may not."""

    def __init__(self, reason, after=None, is_damaged=False):
        super().__init__(reason)
        self.after, self.is_damaged = after, is_damaged


class StoppedError(Exception):
    """Another fetch, or the user, met what ends them all."""


class Meter:
    """What all fetches of a run share: bytes that came, how fast they may come, when to stop."""

    def __init__(self, bytes_per_second: float | None = None, sleep=None):
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.bytes_per_second, self.wait = bytes_per_second or math.inf, sleep or self.stop.wait
        self.n, self.paid_until = 0, 0.0

    def count(self, n: int):
        """Note that n bytes came, and wait as long as they should have taken."""
        with self.lock:
            self.n += n
            now = time.monotonic()
            self.paid_until = max(now, self.paid_until) + n / self.bytes_per_second
            wait = self.paid_until - now
        self.sleep(wait)

    def sleep(self, seconds: float):
        """Wait, unless all is to stop."""
        if seconds > 0:
            self.wait(seconds)
        if self.stop.is_set():
            raise StoppedError


def persevere(attempt, url: str, meter: Meter, retries: int = 5):
    """What ``attempt()`` gives, tried anew after a failure that may pass, with growing waits."""
    later = "run the same command later"
    for n in itertools.count(1):
        try:
            return attempt()
        except AgainError as error:
            if error.is_damaged and n >= min(TRIES_DAMAGED, retries + 1):
                raise FetchError(f"{error}, {n} times, from {url}; {later}") from None
            if n > retries:
                raise UnansweredError(f"{error} at {url}, {n} times in a row; {later}") from None
            wait = error.after
            if wait is None:
                wait = min(60, 2**n) * random.uniform(0.5, 1)
            if wait > LONGEST_WAIT:
                line = f"{error} at {url}, which asks to wait {wait:.0f} s"
                raise UnansweredError(f"{line}; {later}") from None
        meter.sleep(wait)


# ---- from where ----


def is_trusted(host: str) -> bool:
    """Whether the user named this host as one that may be private, or lead away from https."""
    return host.lower().rstrip(".") in os.environ.get(TRUSTED, "").lower().replace(",", " ").split()


def check_public(host: str, addresses) -> None:
    """Refuse a host whose addresses are not all public, unless it is trusted by name."""
    for address in () if is_trusted(host) else addresses:
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
        odd = ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False)
        if odd or not ip.is_global:
            raise FetchError(
                f"{host} is at {address}, which is no public address; if it is meant, set "
                f"{TRUSTED}={host}"
            )


class _Guarded:
    """A connection to public addresses alone, which can be hung up from another thread."""

    def _new_conn(self):
        direct = self.proxy is None  # a proxy is the user's, and resolves names itself
        if direct:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
            check_public(self._dns_host, [address[0] for *_, address in found])
        connected = super()._new_conn()
        self.lines.append(connected.dup())  # TLS takes the socket itself over
        if direct:  # the name may have been looked up anew
            check_public(self._dns_host, [connected.getpeername()[0]])
        return connected


class _Adapter(HTTPAdapter):
    def __init__(self, lines):
        self.pools = {}
        for pool in (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool):
            guarded = type("Guarded", (_Guarded, pool.ConnectionCls), {"lines": lines})
            self.pools[pool.scheme] = type("Pool", (pool,), {"ConnectionCls": guarded})
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self.pools

    def proxy_manager_for(self, *arguments, **options):
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self.pools
        return manager


class Session(requests.Session):
    """Follows few redirects, none from https to another scheme, and to public addresses alone."""

    def __init__(self):
        super().__init__()
        self.headers.update({"User-Agent": "brainvae", "Accept-Encoding": "identity"})
        self.lines, self.deadline, self.closed = [], math.inf, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self.lines))

    def get_redirect_target(self, response):
        """None: requests would read a redirect's body, however long, before it follows it."""

    def get(self, url, timeout, **options):
        """The answer whose headers came in time, at the end of all redirects."""
        given = url
        for _ in range(REDIRECTS + 1):
            host = urlsplit(url).hostname or ""
            with suppress(ValueError):  # a name is looked up when it is connected to
                check_public(host, [str(ipaddress.ip_address(host))])
            with self.within(2 * timeout):
                response = super().get(
                    url, timeout=timeout, stream=True, allow_redirects=False, **options
                )
            if not response.is_redirect:
                return response
            response.close()
            before, url = url, urljoin(url, super().get_redirect_target(response))
            scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
            if scheme not in ("https", urlsplit(before).scheme) and not is_trusted(host):
                line = f"{before[:LONGEST_TEXT]} leads to {scheme}, at {host[:100]}"
                raise FetchError(f"{line}; if that is meant, set {TRUSTED}={host[:100]}")
        raise FetchError(f"more than {REDIRECTS} redirects at {given}; check the address")

    @contextmanager
    def within(self, seconds):
        """Hang up where what is done inside takes longer: a timeout is of one byte alone."""
        self.is_late, self.deadline = False, time.monotonic() + seconds
        try:
            yield
        finally:
            self.deadline = math.inf
            if self.is_late:
                raise AgainError(f"no answer came within {seconds:g} s") from None

    def _watch(self):
        while not self.closed.wait(0.2):
            if time.monotonic() > self.deadline:
                self.is_late, self.deadline = True, math.inf
                for line in self.lines:
                    with suppress(OSError):
                        line.shutdown(socket.SHUT_RDWR)

    def close(self):
        super().close()
        self.closed.set()
        for line in self.lines:
            line.close()


# ---- what comes ----


@contextmanager
def translate_errors(url):
    """Errors of the network as those of this module."""
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        cause = getattr(error.args[0] if error.args else None, "reason", None) or error
        raise AgainError(f"connection failed ({type(cause).__name__})") from None
    except (requests.RequestException, ValueError) as error:
        raise FetchError(f"{type(error).__name__} at {url}; check the address") from None


def check_status(response, url, advice="; open the address in a browser", good=(200,)):
    """Raise for an answer that is none."""
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise AgainError(f"HTTP {status}", retry_after(response.headers.get("Retry-After", "")))
    if status not in good:
        raise FetchError(f"HTTP {status} at {url}{advice}")


def too_large(size, most: int, url: str) -> FetchError:
    """The error that more bytes are there than any file of this kind has."""
    return FetchError(f"{size} bytes would come from {url}, more than {most}; check it there")


def announced(response, most: int, url: str) -> int | None:
    """The bytes that a whole body says it has; None where it says nothing that counts."""
    size = response.headers.get("Content-Length", "").strip()
    is_number = size.isdecimal() and "chunked" not in response.headers.get("Transfer-Encoding", "")
    if is_number and (len(size) > 18 or int(size) > most):
        raise too_large(size[:30], most, url)
    return int(size) if is_number else None


def content_range(response) -> tuple[int, int, int] | None:
    """Start, stop and size of a part, or None where it is not said."""
    span = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"\s*bytes[ :=]+(\d{1,18})-(\d{1,18})/(\d{1,18})\s*", span, re.I)
    return (int(found[1]), int(found[2]) + 1, int(found[3])) if found else None


def pieces(session, response, timeout, most, longest=None):
    """The body as it comes; a drip is a stall like silence, and none goes on for ever."""
    waited = received = in_all = seconds = 0
    longest = longest or LONGEST_ANSWER
    while True:
        before = time.monotonic()
        with session.within(2 * timeout):
            piece = response.raw.read1(CHUNK, decode_content=False)
        waited += time.monotonic() - before
        if not piece:
            return
        received += len(piece)
        if in_all + received > most:
            raise too_large(f"{in_all + received} or more", most, response.url)
        yield piece
        if seconds + waited > longest:
            raise AgainError(f"no end came in {seconds + waited:.0f} s")
        if waited > timeout:
            if received < SLOWEST * waited:
                raise AgainError(f"only {received} bytes came in {waited:.0f} s")
            in_all, seconds, waited, received = in_all + received, seconds + waited, 0, 0


def retry_after(value: str) -> float | None:
    """Seconds from a Retry-After of seconds or of HTTP's date, in GMT; None where it is neither."""
    if re.fullmatch(r"\s*\d{1,9}\s*", value):
        return int(value)
    try:
        when = parsedate_to_datetime(value)
        if not re.search(r"(GMT|UTC|[+-]0000)\s*$", value):
            return None
        return max(0, (when.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def read(url: str, most: int, timeout: float = 30, longest: float | None = None) -> bytes:
    """All of a body of at most so many bytes."""
    with translate_errors(url), Session() as session, session.get(url, timeout) as response:
        check_status(response, url)
        announced(response, most, url)
        return b"".join(pieces(session, response, timeout, most, longest))


def read_json(url: str, timeout: float = 30) -> dict:
    """A query's answer, in which nothing is deeper or longer than the limits."""
    content = read(url, LARGEST_JSON, timeout, LONGEST_JSON)
    try:
        answer = json.loads(content.decode())
        _check_json(answer, 1)
        if answer.get("success") is not True:
            raise ValueError(f"the service says {str(answer.get('msg'))[:200]!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        line = str(error).partition("\n")[0]
        raise AgainError(f"an answer that is no JSON of the service came ({line})") from None
    return answer


def _check_json(value, depth):
    if depth > DEEPEST_JSON:
        raise ValueError(f"deeper than {DEEPEST_JSON}")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"a text of {len(value)} characters; {LONGEST_TEXT} are read")
        value.encode()  # a lone surrogate cannot be written down
    elif isinstance(value, dict | list):
        items = itertools.chain(value, value.values()) if isinstance(value, dict) else value
        for item in items:
            _check_json(item, depth + 1)

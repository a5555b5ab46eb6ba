"""No answer, however slow, large, deep or wrong, holds a worker, fills memory or is believed."""

import gzip
import io
import json
import time
import zipfile

import numpy as np
import pytest
from raw_server import RawServer, answer, chunked, for_ever, ranged, slowly
from test_fetch import RED, noise

from brainvae_core.cohorts import authors, fetch, web
from brainvae_core.cohorts.authors import fetch_file
from brainvae_core.cohorts.fetch import fetch_volume
from brainvae_core.cohorts.web import (
    AgainError,
    FetchError,
    Meter,
    Session,
    read_json,
)

pytestmark = pytest.mark.server

TIMEOUT, ENDS = 0.3, 120  # s; of what has to end: not how soon, as other load decides that
PATIENT = 30  # s, of what is answered at once, however late under load
LONG = "9" * 5000


@pytest.fixture
def server():
    with RawServer() as running:
        yield running


@pytest.fixture(scope="module")
def content():
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in ("a.bin", RED, "c.bin"):
            archive.writestr(name, noise(200_000, len(name)))
    return body.getvalue()


def fetched(server, retries=0, timeout=TIMEOUT):
    with Session() as session:
        meter = Meter(sleep=lambda seconds: None)
        return fetch_volume(session, f"{server.url}/1", "red", meter, timeout, retries)


# ---- answers that are refused, in time ----

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PARTIAL = "206 Partial Content"
HOSTILE = {
    "silence": lambda c: (time.sleep(2) or b"" for _ in range(1)),
    "status line in drips": lambda c: slowly(b"HTTP/1.1 200 OK"),
    "a header in drips": lambda c: for_ever_slowly(OK + b"X: ", b"y"),
    "headers without end": lambda c: for_ever(OK, b"X: y\r\n"),
    "a header without end": lambda c: for_ever(OK + b"X: ", b"y" * 1000),
    "continue for ever": lambda c: for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints for ever": lambda c: for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body in drips": lambda c: for_ever_slowly(answer(Content_Length=10**6), b"P"),
    "a body in drips to its close": lambda c: for_ever_slowly(OK + b"\r\n", b"P"),
    "a chunk's size in drips": lambda c: for_ever_slowly(CHUNKS, b"0"),
    "a chunk's extension in drips": lambda c: for_ever_slowly(CHUNKS + b"5;", b"x"),
    "a chunk's extension without end": lambda c: for_ever(CHUNKS + b"5;", b"x" * 1000),
    "trailers in drips": lambda c: for_ever_slowly(CHUNKS + b"0\r\n", b"X: y\r\n"),
    "trailers without end": lambda c: for_ever(CHUNKS + b"0\r\n", b"X: y\r\n"),
    "chunks without end": lambda c: for_ever(CHUNKS, chunked(bytes(10**5))[:-5]),
    "a body without end": lambda c: for_ever(OK + b"\r\n", bytes(10**5)),
    "a part without end": lambda c: for_ever(
        answer(status=PARTIAL, Content_Length=None, Content_Range="bytes 0-99/100"), bytes(10**5)
    ),
    "too much announced": lambda c: answer(Content_Length=10**30),
    "far too much announced": lambda c: answer(Content_Length=LONG),
    "a zip of too much announced": lambda c: answer(
        bytes(10), PARTIAL, Content_Range=f"bytes {10**15}-{10**15 + 9}/{10**15 + 10}"
    ),
    "a range of too many digits": lambda c: answer(
        bytes(10), PARTIAL, Content_Range=f"bytes 0-9/{LONG}"
    ),
    "a length that is none": lambda c: answer(c[:99], Content_Length="1e3"),
    "a negative length": lambda c: answer(c[:99], Content_Length=-5),
    "two lengths": lambda c: answer(c[:99], Content_Length="5, 6"),
    "a chunk of negative size": lambda c: CHUNKS + b"-5\r\nhello\r\n",
    "a chunk of no size": lambda c: CHUNKS + b"zz\r\nhello\r\n",
    "a chunk larger than memory": lambda c: CHUNKS + b"f" * 15 + b"\r\nhello\r\n",
    "chunks of nothing": lambda c: CHUNKS + b"0\r\n\r\n",
    "nothing": lambda c: answer(),
    "no content": lambda c: answer(status="204 No Content"),
    "another protocol": lambda c: answer(status="101 Switching Protocols"),
    "a status of no kind": lambda c: b"HTTP/1.1 999 Nine\r\n\r\n",
    "no status": lambda c: b"HTTP/1.1 banana\r\n\r\n",
    "no HTTP": lambda c: b"220 FTP ready\r\n" * 9,
    "packed twice": lambda c: answer(gzip.compress(c[:999]), Content_Encoding="gzip"),
    "a wait for ever": lambda c: answer(status="503 Busy", Retry_After=LONG),
    "a redirect without end": lambda c: for_ever(
        answer(status="302 Found", Location="/2", Content_Length=None), bytes(10**5)
    ),
    "redirects in a circle": lambda c: answer(status="302 Found", Location="/1"),
    "a redirect to a file": lambda c: answer(status="302 Found", Location="file:///etc/passwd"),
    "a redirect to no host": lambda c: answer(status="302 Found", Location="http://"),
    "a redirect to no port": lambda c: answer(status="302 Found", Location="http://a:99999/"),
    "a redirect to a long name": lambda c: answer(
        status="302 Found", Location=f"http://{'a' * 400}/"
    ),
    "a redirect to odd letters": lambda c: answer(status="302 Found", Location="http://\xff\xfe/"),
    "another zip": lambda c: answer(c[:-50]),
    "a picture": lambda c: answer(noise(1000), Content_Type="image/png"),
}


def for_ever_slowly(start, piece):
    yield start
    yield from slowly(piece)


def each_ends_in_time(server, content, monkeypatch, ask):
    """Every hostile answer is a FetchError of one line before anybody loses patience."""
    for module, limit in ((fetch, "LARGEST_ZIP"), (authors, "LARGEST_FILE")):
        monkeypatch.setattr(module, limit, 3_000_000)
    monkeypatch.setattr(web, "SLOWEST", 1e5)
    for name, reply in HOSTILE.items():
        server.reply = lambda request, n, reply=reply: reply(content)
        began = time.monotonic()
        with pytest.raises(FetchError) as error:
            ask()
        assert "\n" not in str(error.value) and time.monotonic() - began < ENDS, name
        yield name, str(error.value)


@pytest.mark.promise("no answer, however slow, large or wrong, holds a worker or is believed")
def test_what_is_wrong_ends_in_time_in_one_line(server, content, monkeypatch, record_property):
    for name, told in each_ends_in_time(server, content, monkeypatch, lambda: fetched(server)):
        assert len(told) < 900 and server.url in told, name
    record_property("cases", len(HOSTILE))


@pytest.mark.promise("a release's file that is slow, large or wrong leaves no file and no worker")
def test_what_is_wrong_of_a_release_leaves_no_file(
    server, content, tmp_path, monkeypatch, record_property
):
    def check(path):
        if path.read_bytes() != content:
            raise ValueError(f"{path} has other bytes")

    def ask():
        options = {"timeout": TIMEOUT, "retries": 0, "meter": Meter(sleep=lambda s: None)}
        fetch_file(f"{server.url}/1", tmp_path / "file", check, **options)

    for name, _ in each_ends_in_time(server, content, monkeypatch, ask):
        assert not (tmp_path / "file").exists()
        assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 3_100_000, name
    record_property("cases", len(HOSTILE))


# ---- answers that are right, of servers of another kind ----


def once(first, content, **headers):
    """A first answer, then those of an honest server."""
    return lambda request, n: ranged(content, request, **headers) if n else first


def without_ranges(content, **headers):
    return lambda request, n: answer(content, **headers)


def refusing_ranges(status):
    return lambda c: (
        lambda r, n: answer(status=status) if "Range:" in r.partition("\n")[2] else answer(c)
    )


RIGHT = {
    "a prefix without ranges": lambda c: without_ranges(b"#!/bin/sh\nexit\n" + c),
    "a prefix and ranges": lambda c: lambda r, n: ranged(b"MZ" + bytes(500) + c, r),
    "another ETag each time": lambda c: lambda r, n: ranged(c, r, ETag=f'"{n}"'),
    "another date each time": lambda c: lambda r, n: ranged(c, r, Last_Modified=f"{n}"),
    "chunks": lambda c: lambda r, n: CHUNKS + chunked(c),
    "chunks and a length that lies": lambda c: (
        lambda r, n: CHUNKS[:-2] + b"Content-Length: 7\r\n\r\n" + chunked(c)
    ),
    "an encoding that lies": lambda c: without_ranges(c, Content_Encoding="br"),
    "HTTP/1.0": lambda c: lambda r, n: b"HTTP/1.0 200 OK\r\n\r\n" + c,
    "headers in small letters": lambda c: (
        lambda r, n: (
            (sound := ranged(c, r).partition(b"\r\n\r\n"))[0].lower().replace(b"http", b"HTTP")
            + sound[1]
            + sound[2]
        )
    ),
    "a unit in capitals": lambda c: lambda r, n: ranged(c, r).replace(b"bytes ", b"Bytes  "),
    "a size that is not told": lambda c: (
        lambda r, n: ranged(c, r).replace(b"/%d\r\n" % len(c), b"/*\r\n")
    ),
    "several parts": lambda c: (
        lambda r, n: (
            answer(c, PARTIAL, Content_Type="multipart/byteranges; boundary=x")
            if "Range:" in r.partition("\n")[2]
            else answer(c)
        )
    ),
    **{f"{s[:3]} to a range": refusing_ranges(s) for s in ("400 Bad", "416 No", "501 Not")},
    "moved": lambda c: (
        lambda r, n: ranged(c, r) if "/2" in r[:9] else answer(status="307 Moved", Location="/2")
    ),
    **{
        f"a wait until {date}": lambda c, date=date: once(
            answer(status="503 Busy", Retry_After=date), c
        )
        for date in (
            "Fri, 31 Dec 2100 23:59:59 CEST",
            "Fri, 31 Dec 2100 23:59:59 +9999",
            "Fri, 31 Dec 2100 23:59:59 -1200",
            "Fri, 31 Dec 99999 23:59:59 GMT",
            "Fri, 99 Foo 2100 99:99:99 GMT",
            "Mon, 01 Jan 2001 00:00:00 -0000",
            "-7",
            "\xb2",
        )
    },
}


@pytest.mark.promise("what another kind of server gives rightly is taken")
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_taken(server, content, name, record_property):
    server.reply = RIGHT[name](content)
    assert fetched(server, 2, PATIENT).contents == {"resampled_red.nii": noise(200_000, len(RED))}
    record_property("cases", 1)


# ---- what a query answers ----

DEEP = '{"success": true, "msg": ' + "[" * 21 + "]" * 21 + "}"
ANSWERS = {
    "deep": DEEP.encode(),
    "far too deep": b"[" * 10**6,
    "far too deep objects": b'{"a":' * 10**5,
    "a lone surrogate": b'{"success": true, "msg": "\\ud800"}',
    "a lone surrogate as a name": b'{"success": true, "\\udfff": 1}',
    "no UTF-8": b'{"success": true, "msg": "\xff"}',
    "a long name": json.dumps({"success": True, "msg": "a" * 2001}).encode(),
    "a number of too many digits": b'{"success": true, "msg": ' + LONG.encode() + b"}",
    "no object": b"[1, 2]",
    "no success": b'{"success": false, "msg": "no such model"}',
    "success of another kind": b'{"success": "false", "msg": []}',
    "nothing": b"",
    "half": b'{"success": true, "msg": [',
    "two": b'{"success": true}{"success": true}',
    "a web page": b"<html>maintenance</html>",
}


@pytest.mark.promise("a query's answer is read within limits of depth, length, bytes and time")
def test_answers_to_queries(server, monkeypatch, record_property):
    for name, body in ANSWERS.items():
        server.reply = lambda request, n, body=body: answer(body)
        with pytest.raises(AgainError, match="no JSON of the service came") as error:
            read_json(server.url, PATIENT)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500, name
    good = {"success": True, "msg": [{"name": "Ammon’s horn \U0001f9e0", "id": 1.5}]}
    server.reply = lambda request, n: answer(json.dumps(good).encode())
    assert read_json(server.url, PATIENT) == good
    monkeypatch.setattr(web, "LARGEST_JSON", 10**6)
    monkeypatch.setattr(web, "SLOWEST", 1e5)
    monkeypatch.setattr(web, "LONGEST_JSON", 1)
    slow = {name: HOSTILE[name] for name in HOSTILE if "drip" in name or "without end" in name}
    slow["a steady flow"] = lambda c: ((time.sleep(0.05), bytes(10**4))[1] for _ in range(10**4))
    for name, reply in slow.items():
        flow = reply(b"")
        server.reply = lambda request, n, flow=flow, name=name: (
            (p for part in ([OK + b"\r\n"], flow) for p in part) if "steady" in name else flow
        )
        began = time.monotonic()
        with pytest.raises((AgainError, FetchError)):
            read_json(server.url, TIMEOUT)
        assert time.monotonic() - began < ENDS, name
    record_property("cases", len(ANSWERS) + 1 + len(slow))


# ---- a night's soak ----


@pytest.mark.nightly
@pytest.mark.promise("a right answer with bytes changed, cut or repeated is right or refused")
def test_answers_broken_at_random(server, content, record_property):
    rng, n, right = np.random.default_rng(0), 2000, 0
    expected = {"resampled_red.nii": noise(200_000, len(RED))}

    def broken(request, _):
        sound = bytearray(ranged(content, request) if rng.random() < 0.7 else answer(content))
        head = sound.find(b"\r\n\r\n") + 4
        for _ in range(rng.integers(1, 4)):
            end = head if rng.random() < 0.5 else len(sound)
            at, kind = int(rng.integers(end)), rng.integers(4)
            if kind == 0:
                sound[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del sound[at : at + int(rng.integers(1, 50))]
            elif kind == 2:
                sound[at:at] = rng.bytes(int(rng.integers(1, 50)))
            else:
                sound[at:at] = sound[at : at + int(rng.integers(1, 500))]
        return bytes(sound)

    server.reply = broken
    for _ in range(n):
        try:
            assert fetched(server, 1, PATIENT).contents == expected
            right += 1
        except (FetchError, fetch.VolumeError) as error:
            assert "\n" not in str(error)
    assert 0 < right < n
    record_property("cases", n)


# ---- what came before ----


def test_a_releases_file_that_changed_since_is_fetched_again(server, content, tmp_path):
    server.reply = lambda request, n: answer(content)
    path, about = tmp_path / "file", tmp_path / ".file.json"
    for n, changed in enumerate((None, content[:-1] + b"?", content)):
        if changed:
            path.write_bytes(changed)
        if changed == content:  # as former versions noted it
            about.write_text(json.dumps({"url": f"{server.url}/1", "bytes": len(content)}))
        for _ in range(2):
            fetch_file(f"{server.url}/1", path, bool)
            assert path.read_bytes() == content and len(server.requests) == n + 1

"""Which hosts are asked: public ones, and those that the user named."""

import math
import re
import socket
from pathlib import Path

import pytest
import requests
import urllib3
from raw_server import RawServer, answer

from brainvae_core.cohorts import authors, fetch, web
from brainvae_core.cohorts.volumes import SHAPE_25
from brainvae_core.cohorts.web import FetchError, Session, check_public

pytestmark = pytest.mark.server


def contact(server):
    with Session() as session:
        return session.get(server.url, 1)


@pytest.fixture
def server():
    with RawServer() as running:
        yield running


PRIVATE = (
    *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "fec0::1"),
    *("ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::"),
    *("64:ff9b::7f00:1", "::127.0.0.1"),
)
PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "2002:101:101::")


@pytest.mark.promise("no address that is not public is asked unless its host is trusted by name")
def test_addresses(monkeypatch, record_property):
    for address in PRIVATE:
        with pytest.raises(FetchError, match=f"x is at {address}, which is no public"):
            check_public("x", ["1.1.1.1", address])
    check_public("x", PUBLIC)
    monkeypatch.setenv(web.TRUSTED, "nas.lab, X")
    check_public("x.", PRIVATE)
    record_property("cases", len(PRIVATE) + len(PUBLIC) + 1)


@pytest.mark.promise("a host that is led to, named or renamed is spoken to only if public")
def test_a_private_address_is_never_spoken_to(server, monkeypatch, record_property):
    """Given, led to, behind a name, or behind a name that is looked up twice."""
    server.reply = lambda request, n: answer(status="302 Found", Location=other.url)
    with RawServer("127.0.0.2") as other:
        other.reply = lambda request, n: answer(b"secret")
        with pytest.raises(FetchError, match="127.0.0.2 is at 127.0.0.2, which is no public"):
            contact(server)
        assert server.requests and not other.connections
        del server.requests[:]
        monkeypatch.delenv(web.TRUSTED)
        n = server.connections
        with pytest.raises(FetchError, match=f"; if it is meant, set {web.TRUSTED}=127.0.0.1"):
            contact(server)
        assert server.connections == n

    def looked_up(address):
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return lambda host, port, *_, **__: [(*kind, (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up("10.0.0.1"))
    create = urllib3.util.connection.create_connection
    monkeypatch.setattr(
        urllib3.util.connection, "create_connection", lambda *_, **__: pytest.fail("it was asked")
    )
    with Session() as session, pytest.raises(FetchError, match="service.org is at 10.0.0.1"):
        session.get("http://service.org/", 1)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up("93.184.216.34"))

    def rebound(address, *arguments, **options):
        monkeypatch.setattr(socket, "getaddrinfo", looked_up("127.0.0.1"))
        return create(("127.0.0.1", server.port), *arguments, **options)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", rebound)
    with Session() as session, pytest.raises(FetchError, match="service.org is at 127.0.0.1"):
        session.get("http://service.org/", 1)
    assert not server.requests
    record_property("cases", 4)


def test_a_proxy_of_the_environment_is_the_users(server, monkeypatch):
    """It looks names up itself; an address it would not have to look up is checked here."""
    monkeypatch.delenv(web.TRUSTED)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    server.reply = lambda request, n: answer(b"content")
    with Session() as session:
        assert session.get("http://service.org/a", 1).content == b"content"
        for host in ("10.0.0.1", "[::1]"):
            with pytest.raises(FetchError, match="no public address"):
                session.get(f"http://{host}/", 1)
    assert [request.split()[1] for request in server.requests] == ["http://service.org/a"]


@pytest.mark.promise("no redirect leads from https to another scheme")
@pytest.mark.parametrize("target", ["http://a.org/x", "ftp://a.org/x", "file:///x", "//a.org/x"])
def test_redirects_keep_to_https(monkeypatch, target, record_property):
    record_property("cases", 1)
    urls = []

    def get(self, url, **options):
        urls.append(url)
        response = requests.Response()
        response.status_code, response.url = 302 if len(urls) == 1 else 200, url
        response.headers["Location"], response.raw = target, urllib3.HTTPResponse()
        return response

    monkeypatch.setattr(requests.Session, "get", get)
    with Session() as session:
        if target.startswith("//"):
            assert session.get("https://b.org", 1).url == "https://a.org/x"
        else:
            with pytest.raises(FetchError, match="leads to [a-z]+, at"):
                session.get("https://b.org", 1)
            assert urls == ["https://b.org"]
        del urls[:]
        if target.startswith("http:"):
            monkeypatch.setenv(web.TRUSTED, "a.org")
            assert session.get("https://b.org", 1).url == target
            monkeypatch.delenv(web.TRUSTED)
            del urls[:]
            assert session.get("http://b.org", 1).url == target


@pytest.mark.promise("every limit of the network is the one that the book states")
def test_limits_are_those_that_the_book_states(record_property):
    text = (Path(__file__).parent.parent / "book/acquisition.md").read_text()
    table = text[text.index("### Limits") : text.index("**Only public")]
    limits = {
        "redirects of one answer": web.REDIRECTS,
        "may ask to wait": web.LONGEST_WAIT,
        "slowness of a body": web.SLOWEST,
        "waiting for a whole body": (web.LONGEST_ANSWER, web.LONGEST_JSON),
        "bytes of a zip": fetch.LARGEST_ZIP,
        "bytes of a member": fetch.LARGEST,
        "file of the atlas": 4 * math.prod(SHAPE_25) + 2**20,
        "file of the authors' release": authors.LARGEST_FILE,
        "bytes of an answer to a query": web.LARGEST_JSON,
        "lists and objects": web.DEEPEST_JSON,
        "characters of a name": web.LONGEST_TEXT,
        "comes damaged": (5, web.TRIES_DAMAGED - 1),
    }
    rows = {line for line in table.splitlines() if line.startswith("| ")}
    for words, values in limits.items():
        (row,) = (row for row in rows if words in row)
        said = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", row)]
        assert said == list(values if isinstance(values, tuple) else [values]), row
    record_property("cases", len(limits))

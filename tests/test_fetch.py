"""A channel's volume out of a remote zip arrives whole or not at all, and nothing else comes."""

import io
import itertools
import re
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from allen_server import AllenServer
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.cohorts import fetch, web
from brainvae_core.cohorts.fetch import channel_members, fetch_volume
from brainvae_core.cohorts.web import FetchError, Meter, Session, StoppedError, UnansweredError

pytestmark = pytest.mark.server

ID, RED = 101, "x/resampled_red.nii"


@pytest.fixture(scope="module")
def running():
    with AllenServer({ID: np.zeros((320, 456), np.uint16)}) as server:
        server.stall_s = 3
        yield server


@pytest.fixture
def server(running):
    """Serves a.bin, the red volume (500 kB of noise) and c.bin."""
    running.faults.clear()
    running.requests.clear()
    running.ranges, running.drip_s, running.retry_after = True, 0.02, 1
    serve(running, {"a.bin": noise(300_000), RED: noise(500_000), "c.bin": noise(200_000)})
    return running


def noise(n, seed=0):
    return np.random.default_rng([seed, n]).bytes(n)


def serve(server, contents, comment=b"", compression=zipfile.ZIP_DEFLATED, before=b""):
    body = io.BytesIO()
    body.write(before)
    with zipfile.ZipFile(body, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.comment = comment
    server._path(ID).write_bytes(body.getvalue())


def get(server, **options):
    """What was fetched, and what was slept."""
    slept, options = [], {"timeout": 1, "url": server.volume_url(ID), **options}
    with Session() as session:
        found = fetch_volume(session, channel="red", meter=Meter(sleep=slept.append), **options)
    return found, slept


def test_only_what_is_wanted_comes(server):
    found, slept = get(server)
    assert found.contents == {"resampled_red.nii": noise(500_000)} and slept == []
    assert found.zip_bytes == server.zip_size(ID)
    assert found.crc32 == zipfile.ZipFile(server._path(ID)).getinfo(RED).CRC
    assert [status for _, _, status, _ in server.requests] == [206, 206]
    assert found.moved == server.bytes_sent(ID) < 500_000 + fetch.TAIL + 1000 < found.zip_bytes


@given(
    sizes=st.lists(st.integers(0, 150_000), min_size=1, max_size=5),
    comment=st.binary(max_size=300),
    stored=st.booleans(),
    before=st.binary(max_size=100),
    is_large=st.booleans(),
    data=st.data(),
)
def test_any_zip(running, sizes, comment, stored, before, is_large, data):
    running.faults.clear()
    running.ranges = True
    names = [f"{i}.bin" for i in range(len(sizes))]
    names[data.draw(st.integers(0, len(sizes) - 1))] = RED
    contents = {name: noise(n, seed=n) for name, n in zip(names, sizes, strict=True)}
    compression = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with pytest.MonkeyPatch.context() as patch:
        if is_large:  # as zip64
            patch.setattr(zipfile, "ZIP64_LIMIT", 100)
            patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
        serve(running, contents, comment, compression, before)
    assert get(running)[0].contents == {"resampled_red.nii": contents[RED]}


# What each fault says where it lasts; None: it is got over however long it lasts.
REASONS = {
    **{status: f"HTTP {status}" for status in ("500", "503", "429", "404")},
    "html": "a web page instead of a zip",
    "reset": "connection failed",
    "short": "connection failed",
    "short_no_length": r"\d+ of \d+ bytes came|came damaged",
    "stall": "connection failed",
    "wrong_range": "Content-Range .* came for other bytes|web page or|data .* instead of a zip",
    "no_range": None,
    "drip": None,
}


@pytest.mark.promise("a server's faults leave no wrong section")
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", sorted(set(REASONS) - {"404"}))
def test_faults_that_pass(server, fault, position, ranges):
    server.ranges = ranges
    server.faults[ID] = ["ok"] * position + [fault]
    found, slept = get(server)
    assert found.contents == {"resampled_red.nii": noise(500_000)}
    assert not any(server.faults.values()) or not ranges
    if REASONS[fault] and (ranges or position == 0):
        assert len(slept) == 1 and 1 <= slept[0] <= 2
        assert fault != "429" or slept == [server.retry_after]


@pytest.mark.promise("a server's faults leave no wrong section")
@pytest.mark.parametrize("fault", sorted(f for f in REASONS if REASONS[f] and f != "404"))
def test_faults_that_last(server, fault):
    server.faults[ID] = ["ok", *[fault] * 9]
    with pytest.raises(FetchError, match=REASONS[fault]) as error:
        get(server, retries=2)
    url = server.volume_url(ID)
    assert re.search(
        rf", 3 times( in a row|, from {url}); run the same command later", f"{error.value}"
    )
    assert url in str(error.value) and "\n" not in str(error.value)
    assert len(server.requests) <= 6


def test_a_file_that_changes_between_two_ranges_is_fetched_anew(server):
    files = [{"a.bin": noise(n), RED: noise(400_000, n), "c": noise(n)} for n in (200_000, 300_000)]
    serve(server, files[1])
    changed = server._path(ID).read_bytes()
    serve(server, files[0])
    send, asked = fetch._get, []

    def changing(*arguments):
        found = send(*arguments)
        server._path(ID).write_bytes(changed)
        asked.append(arguments[-1])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_get", changing)
        found, slept = get(server)
    assert found.contents == {"resampled_red.nii": files[1][RED]} and len(slept) == 1
    assert asked == [None, False]  # its end, then all of it


def test_what_leads_nowhere_says_so(server, monkeypatch):
    def fails(said, kind=FetchError, **options):
        with pytest.raises(kind, match=said):
            get(server, **{"retries": 0, **options})

    server.faults[ID] = ["404"]
    fails(f"HTTP 404 at {server.volume_url(ID)}; open the address", retries=5)
    assert len(server.requests) == 1
    server.faults[ID] = ["500"] * 5
    slept = get(server)[1]
    assert all(2**i / 2 <= s <= 2**i for i, s in enumerate(slept, 1)) and len(slept) == 5
    monkeypatch.setattr(fetch, "LARGEST_ZIP", 700_000)
    for server.ranges in (True, False):
        fails("bytes would come from http.*check it there")
    server._path(ID).write_bytes(noise(1000))
    fails(r"data \(application/zip\) instead of a zip")


@pytest.mark.parametrize(("mark", "at"), [(b"PK\5\6", 18), (b"PK\1\2", 45)])
def test_a_directory_or_a_member_that_begins_elsewhere_is_damage(server, mark, at):
    content = bytearray(server._path(ID).read_bytes())
    content[content.rindex(mark) + at] ^= 0x60
    server._path(ID).write_bytes(content)
    with pytest.raises(FetchError, match="the zip came damaged"):
        get(server, retries=1)
    assert server.bytes_sent(ID) < 20 * len(content)


def test_waits_that_are_asked_for(server):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    past, told = "Mon, 01 Jan 2001 00:00:00 -0000", [later, "7", "", "soon"]
    waits = dict(zip(told, map(web.retry_after, told), strict=True))
    assert 95 < waits.pop(later) <= 100
    assert waits == {"7": 7, "": None, "soon": None} and web.retry_after(past) == 0
    server.retry_after, server.faults[ID] = web.LONGEST_WAIT + 1, ["429"]
    with pytest.raises(UnansweredError, match="asks to wait 601 s; run the same command"):
        get(server)


def test_the_rate_is_of_all_fetches_together_and_a_stop_ends_them():
    waits = []
    meter = Meter(1000, waits.append)
    for _ in range(4):
        meter.count(500)
    np.testing.assert_allclose(waits, [0.5, 1, 1.5, 2], atol=0.3)
    assert meter.n == 2000
    meter.stop.set()
    for call in (meter.count, meter.sleep):
        with pytest.raises(StoppedError):
            call(1)


# ---- which members are read ----


def test_members_have_to_be_one_volume():
    def members(*names, **attributes):
        found = [zipfile.ZipInfo(name) for name in names]
        for info, (key, value) in itertools.product(found, attributes.items()):
            setattr(info, key, value)
        return found

    found = members("x/resampled_red.raw", "resampled_green.mhd", "x/resampled_red.mhd", "readme")
    chosen = channel_members(found, "red")
    assert [m.filename for m in chosen] == ["x/resampled_red.mhd", "x/resampled_red.raw"]
    for kind in ("nrrd", "nii", "nii.gz"):
        assert len(channel_members(members(f"resampled_red.{kind}", "a.raw"), "red")) == 1
    nrrd, one = "resampled_red.nrrd", "must have one volume of channel red; it has "
    cases = [
        (f"{one}nothing", members()),
        (f"{one}'resampled_green.nrrd'", members("resampled_green.nrrd")),
        *((one, members(f"resampled_red.{kind}")) for kind in ("mhd", "raw")),
        (one, members("resampled_red.mhd", "resampled_red.raw", "a/resampled_red.raw")),
        *(("unsafe name", members(f"{at}{nrrd}")) for at in ("/", "..\\", "C:/")),
        *(("neither stored nor deflated", members(nrrd, flag_bits=n)) for n in (1, 0x20, 0x40)),
        ("neither stored nor deflated", members(nrrd, compress_type=zipfile.ZIP_LZMA)),
    ]
    refused([(words, channel_members, of, "red") for words, of in cases])

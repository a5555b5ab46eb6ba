"""Members of a remote zip arrive whole or not at all, and nothing comes twice without need."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
import requests
from allen_server import REQUEST_FAULTS, AllenServer
from hypothesis import given
from hypothesis import strategies as st

from brainvae_core.cohorts import fetch, sparse
from brainvae_core.cohorts.fetch import FetchError, RateLimit, fetch_members
from brainvae_core.cohorts.sparse import SparseCopy, StorageError, discard

pytestmark = pytest.mark.server

ID = 101


@pytest.fixture(scope="module")
def running():
    with AllenServer({ID: np.zeros((320, 456), np.uint16)}) as server:
        server.stall_s, server.asked = 1, []
        yield server


@pytest.fixture
def server(running):
    """Serves a.bin, red.bin (500 kB of noise) and c.bin."""
    running.faults.clear()
    running.ranges, running.asked = True, []
    serve(running, {"a.bin": noise(200_000), "x/red.bin": noise(500_000), "c.bin": noise(100_000)})
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


def red(members):
    return [member for member in members if "red" in member.filename]


def get(server, path, wanted=red, **options):
    """Fetch; what was slept, and the size of the zip."""
    slept = []
    options = {"timeout": 0.5, "sleep": slept.append, **options}

    def note(response, **_):
        server.asked.append((response.request.headers["Range"], response.status_code))

    with requests.Session() as session:
        session.hooks["response"].append(note)
        size = fetch_members(session, server.volume_url(ID), path, wanted, **options)
    return slept, size


def content(path, name="x/red.bin"):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_only_what_is_wanted_comes(server, tmp_path):
    moved = []
    _, size = get(server, tmp_path / "zip", moved=moved.append)
    assert content(tmp_path / "zip") == noise(500_000)
    assert size == server.zip_size(ID) == (tmp_path / "zip").stat().st_size
    assert [status for _, status in server.asked] == [206, 206]
    assert sum(moved) < 500_000 + fetch.TAIL + 1000 < size
    with pytest.raises(zipfile.BadZipFile):
        content(tmp_path / "zip", "a.bin")


def test_what_came_is_not_asked_for_again(server, tmp_path):
    moved = []
    get(server, tmp_path / "zip", moved=moved.append)
    n = len(server.asked)
    assert get(server, tmp_path / "zip", moved=moved.append)[0] == []
    assert len(server.asked) == n
    get(server, tmp_path / "zip", wanted=lambda members: members, moved=moved.append)
    assert (tmp_path / "zip").read_bytes() == server._path(ID).read_bytes()
    assert sum(moved) == server.zip_size(ID)


@given(
    sizes=st.lists(st.integers(0, 150_000), min_size=1, max_size=6),
    pick=st.sets(st.integers(0, 5)),
    comment=st.binary(max_size=300),
    stored=st.booleans(),
    before=st.binary(max_size=100),
)
def test_any_zip(running, tmp_path_factory, sizes, pick, comment, stored, before):
    contents = {f"{i}.bin": noise(n, seed=i) for i, n in enumerate(sizes)}
    compression = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    serve(running, contents, comment, compression, before)
    names = {f"{i}.bin" for i in pick} & set(contents)
    path = tmp_path_factory.mktemp("any") / "zip"
    get(running, path, lambda members: [m for m in members if m.filename in names])
    assert {name: content(path, name) for name in names} == {n: contents[n] for n in names}


def test_directory_larger_than_the_tail(server, tmp_path):
    serve(server, {f"{'long' * 40}{i}": b"" for i in range(800)} | {"red": b"voxels"})
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip", "red") == b"voxels"


def test_zip64(server, tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    serve(server, {"a": noise(200_000), "red": noise(3000)}, comment=b"c" * 65000)
    assert b"PK\x06\x06" in server._path(ID).read_bytes()[-fetch.TAIL :]
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip", "red") == noise(3000)


RIGHT_IN_THE_END = sorted(set(REQUEST_FAULTS) - {"404", "rma_error", "changed", "ok"})


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", RIGHT_IN_THE_END)
def test_faults_that_pass(server, tmp_path, fault, position, ranges):
    server.ranges = ranges
    server.faults[ID] = ["ok"] * position + [fault]
    slept, _ = get(server, tmp_path / "zip")
    assert content(tmp_path / "zip") == noise(500_000)
    if fault in ("500", "503", "reset", "short", "short_no_length", "stall", "html") and (
        ranges or position == 0
    ):
        assert len(slept) == 1 and 1 <= slept[0] <= 2
    if fault == "429" and (ranges or position == 0):
        assert slept == [server.retry_after]


def test_a_second_try_goes_on_where_the_first_ended(server, tmp_path):
    server.faults[ID] = ["ok", "short", "reset"]
    get(server, tmp_path / "zip")
    starts = [int(request[6:].split("-")[0]) for request, _ in server.asked[1:]]
    ends = {request.split("-")[1] for request, _ in server.asked[1:]}
    assert len(starts) == 3 and len(ends) == 1
    assert starts[1] - starts[0] > 200_000 and starts[2] > starts[1] + 100_000


def test_changed_between_two_ranges(server, tmp_path):
    get(server, tmp_path / "zip", wanted=lambda members: [])
    serve(server, {"a.bin": b"", "x/red.bin": noise(300_000)})
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip") == noise(300_000)
    assert server.asked[1][1] == 200, "If-Range brings the new file whole"


@pytest.mark.parametrize("header", ["ETag", "Last-Modified", "total"])
def test_another_file_in_spite_of_if_range(server, tmp_path, monkeypatch, header):
    """A server that forgets If-Range is found out by validator or size, once; then given up."""
    answers = requests.Session.get

    def changing(session, url, headers, **options):
        headers.pop("If-Range", None)
        response = answers(session, url, headers=headers, **options)
        changing.n += 1
        if header == "total":
            found = response.headers["Content-Range"]
            size = int(found.split("/")[1]) + (not headers["Range"].startswith("bytes=-"))
            response.headers["Content-Range"] = f"{found.split('/')[0]}/{size}"
        else:
            response.headers.pop("ETag")
            response.headers[header] = f'"{changing.n}"'
        return response

    changing.n = 0
    monkeypatch.setattr(requests.Session, "get", changing)
    with pytest.raises(FetchError, match="also after starting anew; run the same command later"):
        get(server, tmp_path / "zip")
    assert len(server.asked) <= 4


def test_gone_is_gone(server, tmp_path):
    server.faults[ID] = ["404"]
    with pytest.raises(FetchError, match=f"HTTP 404 at {server.volume_url(ID)}; open the address"):
        get(server, tmp_path / "zip")
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", ["500", "429", "reset", "short", "short_no_length", "html"])
def test_given_up_after_the_retries_and_taken_up_again(server, tmp_path, fault):
    server.faults[ID] = ["ok", *[fault] * 4]
    with pytest.raises(FetchError) as error:
        get(server, tmp_path / "zip", retries=3)
    assert f"at {server.volume_url(ID)}, 4 times in a row; run the same command later" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    n = len(server.asked)
    assert n == 5
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip") == noise(500_000)
    assert [status for _, status in server.asked[n:]] == [206]


def test_back_off_grows_and_progress_resets_it(server, tmp_path):
    server.faults[ID] = ["500"] * 5
    slept, _ = get(server, tmp_path / "zip")
    assert all(2**i / 2 <= s <= 2**i for i, s in enumerate(slept, 1)) and len(slept) == 5
    discard(tmp_path / "zip")
    serve(server, {"red": noise(9_000_000)}, compression=zipfile.ZIP_STORED)
    server.faults[ID] = ["ok", "short", "short", "short"]
    get(server, tmp_path / "zip", retries=1)
    assert content(tmp_path / "zip", "red") == noise(9_000_000)


def test_a_drip_is_a_stall(server, tmp_path):
    serve(server, {"red": b"1"})
    server.drip_s, server.faults[ID] = 0.1, ["drip"] * 2
    with pytest.raises(FetchError, match="only .* bytes came in"):
        get(server, tmp_path / "zip", timeout=0.3, retries=1)


def test_no_zip_at_all(server, tmp_path):
    server._path(ID).write_bytes(noise(1000))
    with pytest.raises(FetchError, match="no readable zip .* also after starting anew"):
        get(server, tmp_path / "zip")
    server.ranges = False
    with pytest.raises(FetchError, match="application/zip instead of a zip came from http"):
        get(server, tmp_path / "other")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http:///x", "ftp://a/x", "x"])
def test_addresses_that_lead_nowhere(tmp_path, url):
    with requests.Session() as session, pytest.raises(FetchError, match=f" at {url}"):
        fetch_members(session, url, tmp_path / "zip", red, retries=1, sleep=lambda s: None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: b"",
        lambda record: b"[]",
        lambda record: record.replace(b"http", b"x"),
        lambda record: json.dumps({**json.loads(record), "total": 5}).encode(),
        lambda record: json.dumps({**json.loads(record), "have": [[0, 10**9]]}).encode(),
        lambda record: json.dumps({**json.loads(record), "have": [[1]]}).encode(),
    ],
)
def test_a_record_that_does_not_fit_counts_for_nothing(server, tmp_path, damage):
    get(server, tmp_path / "zip")
    record = tmp_path / "zip.json"
    record.write_bytes(damage(record.read_bytes()))
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip") == noise(500_000)
    assert len(server.asked) == 4


def test_the_record_never_runs_ahead(server, tmp_path, monkeypatch):
    """At whatever call the machine stops, what the record claims is in the file."""
    monkeypatch.setattr(sparse, "CHECKPOINT", 100_000)
    whole = server._path(ID).read_bytes()
    seen, replaced = [], os.replace

    def replace(source, target):
        replaced(source, target)
        record = json.loads((tmp_path / "zip.json").read_bytes())
        held = (tmp_path / "zip").read_bytes()
        seen.append(sum(stop - start for start, stop in record["have"]))
        assert all(held[start:stop] == whole[start:stop] for start, stop in record["have"])

    monkeypatch.setattr(os, "replace", replace)
    get(server, tmp_path / "zip")
    assert len(seen) >= 3 and seen == sorted(seen)


KILLED = """
import sys, requests
from brainvae_core.cohorts import sparse
from brainvae_core.cohorts.fetch import RateLimit, fetch_members
sparse.CHECKPOINT = 300_000
fetch_members(requests.Session(), sys.argv[1], sys.argv[2], lambda members: members,
              moved=RateLimit(5e6))
"""


def test_another_process_goes_on_after_a_kill(server, tmp_path):
    serve(server, {"red": noise(9_000_000)}, compression=zipfile.ZIP_STORED)
    command = [sys.executable, "-c", KILLED, server.volume_url(ID), str(tmp_path / "zip")]
    with subprocess.Popen(command) as process:
        while process.poll() is None and not (tmp_path / "zip.json").exists():
            time.sleep(0.01)
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
    held = [tuple(span) for span in json.loads((tmp_path / "zip.json").read_bytes())["have"]]
    whole = server._path(ID).read_bytes()
    written = np.frombuffer((tmp_path / "zip").read_bytes(), np.uint8)[: -fetch.TAIL]
    assert 300_000 < held[0][1] < 8_000_000
    assert np.flatnonzero(written)[-1] < held[0][1] + 300_000 + fetch.CHUNK
    get(server, tmp_path / "zip")
    assert server.asked[-1][0].startswith(f"bytes={held[0][1]}-")
    assert (tmp_path / "zip").read_bytes() == whole


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "fsync", "replace"])
@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_full_disk_ends_it_with_what_has_come(server, tmp_path, monkeypatch, call, ordinal):
    real, calls = getattr(os, call), []

    def full(*arguments):
        calls.append(1)
        if len(calls) >= ordinal:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageError, match=r"cannot write .*zip \(No space left on device\); "):
            get(server, tmp_path / "zip")
    get(server, tmp_path / "zip")
    assert content(tmp_path / "zip") == noise(500_000)


def test_no_folder_to_write_to(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        get(server, tmp_path / "file" / "zip")


def test_what_the_caller_raises_ends_it(server, tmp_path):
    def stop(n):
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        get(server, tmp_path / "zip", moved=stop)
    with pytest.raises(ZeroDivisionError):
        get(server, tmp_path / "zip", wanted=lambda members: 1 / 0)


def test_announced_sizes_that_no_volume_has(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST_ZIP", 700_000)
    for ranges in (True, False):
        server.ranges = ranges
        with pytest.raises(FetchError, match="GiB come from http.*check the address"):
            get(server, tmp_path / f"{ranges}")
    server.ranges, server.faults[ID] = False, ["short_no_length"] * 9
    monkeypatch.setattr(fetch, "LARGEST_ZIP", 100_000)
    with pytest.raises(FetchError, match="GiB come from http"):
        get(server, tmp_path / "zip")


def test_retry_after():
    later = datetime.now(UTC) + timedelta(seconds=100)
    assert 95 < fetch._retry_after(format_datetime(later, usegmt=True)) <= 100
    assert fetch._retry_after("7") == 7
    assert fetch._retry_after("Mon, 01 Jan 2001 00:00:00 -0000") == 0
    assert fetch._retry_after("1e9") == 1e9
    assert fetch._retry_after("") is fetch._retry_after("soon") is None


def test_a_server_that_asks_to_wait_for_long_is_left_for_another_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "retry_after", fetch.LONGEST_WAIT + 1)
    server.faults[ID] = ["429"]
    with pytest.raises(fetch.UnansweredError, match="asks to wait 601 s; run the same command"):
        get(server, tmp_path / "zip")


def test_rate_limit_is_of_all_callers_together():
    waits = []
    limit = RateLimit(1000, waits.append)
    for _ in range(4):
        limit(500)
    np.testing.assert_allclose(waits, [0.5, 1, 1.5, 2], atol=0.2)
    with pytest.raises(ValueError, match="give more than 0"):
        RateLimit(0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=8))
def test_missing_is_what_was_not_written(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("copy") / "zip"
    with SparseCopy(path, "url") as copy:
        copy.begin(70)
        there = np.zeros(70, bool)
        for start, n in pieces:
            copy.write(start, b"x" * n)
            there[start : start + n] = True
        assert copy.held() == there.sum()
        for start, stop in ((0, 70), (10, 40), (5, 6), (30, 30)):
            absent = start + np.flatnonzero(~there[start:stop])
            found = copy.missing(start, stop)
            assert (found is None) == (len(absent) == 0)
            if found:
                assert found[0] == absent[0] and not there[slice(*found)].any()
                assert found[1] == stop or there[found[1]]

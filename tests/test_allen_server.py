"""The local server tells the truth: files are what it says, and each fault does its harm."""

import hashlib
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from http.client import IncompleteRead
from pathlib import Path

import naive_downloader
import nibabel
import nrrd
import numpy as np
import pandas as pd
import pytest
import requests
from allen_server import (
    RECOVERABLE,
    REQUEST_FAULTS,
    AllenServer,
    draw_faults,
    simulated_service,
)
from allen_volumes import CONTENT_FAULTS

from brainvae_core.cohorts import drawn_atlas

pytestmark = pytest.mark.server

IDS = (101, 202, 303)


def sections(seed=0):
    rng = np.random.default_rng(seed)
    return {i: rng.integers(0, 60000, (320, 456), dtype=np.uint16) for i in IDS}


@pytest.fixture
def server():
    with AllenServer(sections()) as server:
        server.stall_s = 0.3
        yield server


def get(url, timeout=5, **headers):
    request = urllib.request.Request(
        url, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.status, dict(answer.headers), answer.read()


def raw_plane(archive, plane=286):
    """A plane by the plainest way there is: the whole volume as an array."""
    voxels = np.frombuffer(archive.read("resampled_red.raw"), "<u2")
    return voxels.reshape(456, 320, 528)[:, :, plane].T


def opened(server, experiment=101):
    return zipfile.ZipFile(io.BytesIO(get(server.volume_url(experiment))[2]))


def test_a_zip_holds_its_section_and_no_neighbour_does(server):
    archive = opened(server)
    names = [f"resampled_{c}.{e}" for c in ("blue", "red", "green") for e in ("mhd", "raw")]
    assert archive.namelist() == names
    assert archive.testzip() is None
    np.testing.assert_array_equal(raw_plane(archive), server.sections[101])
    assert (raw_plane(archive, 285) != server.sections[101]).mean() > 0.99
    assert (raw_plane(archive, 287) != server.sections[101]).mean() > 0.99
    head = archive.read("resampled_red.mhd").decode()
    assert "DimSize = 528 320 456\n" in head and "ElementType = MET_USHORT\n" in head
    assert server.zip_size(101) == server.bytes_sent(101) == len(archive.fp.getvalue())


@pytest.mark.parametrize("container", ["nrrd", "nii", "nii.gz"])
def test_other_containers_hold_the_same(container, tmp_path):
    with AllenServer({7: sections()[101]}, container=container) as server:
        path = tmp_path / f"red.{container}"
        path.write_bytes(opened(server, 7).read(f"resampled_red.{container}"))
    if container == "nrrd":
        volume, _ = nrrd.read(str(path))
    else:
        image = nibabel.load(path)
        volume = np.asarray(image.dataobj)
        assert nibabel.aff2axcodes(image.affine) == ("P", "I", "L")
        np.testing.assert_allclose(image.header.get_zooms(), 0.025)
    assert volume.shape == (528, 320, 456)
    np.testing.assert_array_equal(volume[286], sections()[101])


def test_ranges_are_the_bytes_asked_for(server):
    url, whole = server.volume_url(101), get(server.volume_url(101))[2]
    tag = get(url)[1]["ETag"]
    n = len(whole)
    for asked, start, stop in (
        ("bytes=10-19", 10, 20),
        (f"bytes={n - 5}-", n - 5, n),
        ("bytes=-7", n - 7, n),
        (f"bytes={n - 3}-{n + 100}", n - 3, n),
    ):
        status, headers, body = get(url, Range=asked)
        assert (status, body) == (206, whole[start:stop])
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{n}"
    assert get(url, Range="bytes=10-19", If_Range=tag)[0] == 206
    assert get(url, Range="bytes=10-19", If_Range='"another"')[0] == 200
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, Range=f"bytes={n}-")
    assert error.value.code == 416
    server.ranges = False
    assert get(url, Range="bytes=10-19")[2] == whole
    assert server.requests[-1] == [server.link(101), "bytes=10-19", 200, n]


def test_request_faults_come_once_and_in_order(server):
    url, whole = server.volume_url(202), get(server.volume_url(202))[2]
    for fault in ("500", "503", "429", "404"):
        server.faults[202] = [fault, "ok"]
        with pytest.raises(urllib.error.HTTPError) as error:
            get(url)
        assert error.value.code == int(fault)
        assert (error.value.headers["Retry-After"] == "1") == (fault == "429")
        assert get(url)[2] == whole
    for fault in ("short", "reset"):
        server.faults[202] = [fault]
        with pytest.raises((IncompleteRead, ConnectionResetError)) as error:
            get(url)
        assert error.type is (IncompleteRead if fault == "short" else ConnectionResetError)
    server.faults[202] = ["short_no_length", "stall", "drip", "html"]
    status, headers, body = get(url)
    assert "Content-Length" not in headers and body == whole[: len(whole) // 2]
    with pytest.raises(TimeoutError):
        get(url, timeout=0.1)
    assert get(url)[2] == whole
    status, headers, body = get(url)
    assert status == 200 and headers["Content-Type"] == "text/html" and b"<html>" in body
    assert get(url)[2] == whole


def test_faults_of_ranges(server):
    url, whole = server.volume_url(303), get(server.volume_url(303))[2]
    server.faults[303] = ["wrong_range", "no_range"]
    status, headers, body = get(url, Range="bytes=500-999999")
    assert status == 206 and headers["Content-Range"].startswith("bytes 1500-")
    assert body == whole[1500:1000000]
    assert get(url, Range="bytes=500-")[::2] == (200, whole)

    before, tag = server.sections[303], get(url)[1]["ETag"]
    server.faults[303] = ["ok", "changed"]
    assert get(url, Range="bytes=0-99", If_Range=tag)[0] == 206
    status, headers, body = get(url, Range="bytes=100-", If_Range=tag)
    assert status == 200 and headers["ETag"] != tag
    archive = zipfile.ZipFile(io.BytesIO(body))
    np.testing.assert_array_equal(raw_plane(archive), server.sections[303])
    assert not np.array_equal(before, server.sections[303])


def served_with(fault):
    with AllenServer({5: sections()[101]}) as server:
        server.contents[5] = fault
        return opened(server, 5)


def test_bad_zips():
    archive = served_with("corrupt_crc")
    with pytest.raises(zipfile.BadZipFile):
        archive.read("resampled_red.raw")
    assert "resampled_red.raw" not in served_with("missing_red").namelist()
    assert all(name.startswith("../../") for name in served_with("zip_slip").namelist())
    assert served_with("duplicate").namelist().count("resampled_red.raw") == 2
    assert len(served_with("short_volume").read("resampled_red.raw")) == 528 * 320 * 455 * 2
    assert not np.ptp(raw_plane(served_with("constant")))


def test_bombs():
    archive = served_with("lying_bomb")
    lying = archive.getinfo("resampled_red.raw")
    honest = served_with("bomb").getinfo("resampled_red.raw")
    assert honest.file_size == 1 << 30 and lying.file_size == 528 * 320 * 456 * 2
    assert honest.compress_size == lying.compress_size < 4 << 20
    archive.fp.seek(lying.header_offset + 30 + len(lying.filename))
    inflate, size = zlib.decompressobj(-15), 0
    block = archive.fp.read(lying.compress_size)
    while block:
        size += len(inflate.decompress(block, 1 << 24))
        block = inflate.unconsumed_tail
    assert size == 1 << 30


def test_bad_headers():
    head = served_with("wrong_dimensions").read("resampled_red.mhd").decode()
    assert "DimSize = 528 320 448\n" in head
    assert (
        "ElementSpacing = 50 50 50\n"
        in served_with("wrong_spacing").read("resampled_red.mhd").decode()
    )
    assert "MET_FLOAT" in served_with("wrong_dtype").read("resampled_red.mhd").decode()
    body = served_with("truncated_gzip").read("resampled_red.nrrd").partition(b"\n\n")[2]
    inflate = zlib.decompressobj(31)
    inflate.decompress(body)
    assert not inflate.eof


def query(server, text):
    quoted = urllib.request.quote(text, ";/?:@&=+$,")
    return json.loads(get(f"{server.url}/api/v2/data/query.json?q={quoted}")[2])["msg"]


def test_records_follow_the_metadata(server):
    rows = query(server, "model::ApiConnectivity,rma::options[num_rows$eq'all']")
    assert [row["data_set_id"] for row in rows] == list(IDS)
    metadata = pd.DataFrame(
        {"sex": ["M", "M"], "strain": ["B6", None], "injection_structure": ["TH", "HY"]},
        index=[202, 101],
    )
    pair = {i: sections()[i] for i in (101, 202)}
    with AllenServer(pair, metadata) as other:
        rows = query(other, "model::ApiConnectivity,rma::options[num_rows$eq'all']")
    assert [(r["gender"], r["strain"], r["structure_abbrev"]) for r in rows] == [
        ("M", None, "HY"),
        ("M", "B6", "TH"),
    ]
    server.without_url.add(202)
    for experiment, expected in ((101, [server.link(101)]), (202, []), (999, [])):
        found = query(
            server,
            "model::WellKnownFile,rma::criteria,well_known_file_type"
            f"[name$eq'ImagesResampledTo25MicronARA'][attachable_id$eq{experiment}]",
        )
        assert [row["download_link"] for row in found] == expected


def test_the_template_is_a_full_size_volume_with_the_slice(server, tmp_path):
    archive = server.url + "/informatics-archive/current-release/mouse_ccf/"
    path = tmp_path / "template.nrrd"
    path.write_bytes(get(archive + "average_template/average_template_25.nrrd")[2])
    volume, _ = nrrd.read(str(path))
    assert volume.shape == (528, 320, 456) and not volume[285].any()
    np.testing.assert_array_equal(volume[286][:, 4:452], (500 * drawn_atlas().template).astype(int))
    annotation = get(archive + "annotation/ccf_2017/annotation_25.nrrd")[2]
    assert hashlib.sha256(annotation).hexdigest() == server.annotation_sha256


def test_faults_drawn_by_seed():
    ids = list(range(60))
    faults, contents = draw_faults(ids, 0)
    assert (faults, contents) == draw_faults(ids, 0)
    assert (faults, contents) != draw_faults(ids, 1)
    assert len(faults) == 20 and len(contents) == 5 and not set(faults) & set(contents)
    assert {kind for kinds in faults.values() for kind in kinds} == set(RECOVERABLE)
    assert set(RECOVERABLE) < set(REQUEST_FAULTS) and set(contents.values()) < set(CONTENT_FAULTS)


def test_simulated_sections_are_the_images_times_a_gain():
    served, metadata, truth = simulated_service(3, drawn_atlas(), 0)
    assert list(served) == metadata.index.tolist() == truth["id"].tolist()
    section = served[int(truth["id"][2])]
    assert section.shape == (320, 456) and not section[:, :4].any() and not section[:, 452:].any()
    expected = 2000 * truth["gain"][2] * truth["images"][2]
    np.testing.assert_allclose(section[:, 4:452], expected, atol=0.51)


def test_runs_as_a_program(tmp_path):
    script = Path(__file__).with_name("allen_server.py")
    command = [sys.executable, str(script), "--brains", "4", "--faults"]
    command += ["--truth", str(tmp_path / "truth.npz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = [process.stdout.readline().split() for _ in range(2)]
            assert [words[0] for words in said] == ["url", "annotation_sha256"]
            archive = said[0][1] + "/informatics-archive/current-release/mouse_ccf/"
            url = archive + "annotation/ccf_2017/annotation_25.nrrd"
            assert get(url, Range="bytes=0-3")[2] == b"NRRD"
        finally:
            process.kill()
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as truth:
        assert truth["sections"].shape == (4, 320, 456) and json.loads(str(truth["contents"]))


def harm(server, experiment, folder):
    """What becomes of the plain downloader: ``"crash"``, ``"wrong"`` or ``""``."""
    try:
        section = naive_downloader.section(server.volume_url(experiment), folder, experiment)
    except (zipfile.BadZipFile, requests.RequestException, KeyError, ValueError):
        return "crash"
    return "" if np.array_equal(section, server.sections[experiment]) else "wrong"


def test_the_plain_downloader_does_well_where_nothing_fails(server, tmp_path):
    assert harm(server, 101, tmp_path) == harm(server, 101, tmp_path) == ""
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", ["500", "503", "429", "404", "html", "short_no_length", "short", "reset"]
)
def test_a_failed_request_harms_the_plain_downloader_for_good(server, tmp_path, fault):
    server.faults[101] = [fault]
    assert harm(server, 101, tmp_path) == "crash"
    assert harm(server, 101, tmp_path) == "crash"  # it believes what the first try left behind
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        *((f, "crash") for f in ("corrupt_crc", "wrong_dimensions", "missing_red", "zip_slip")),
        *((f, "crash") for f in ("truncated_gzip", "short_volume")),
        *((f, "wrong") for f in ("duplicate", "constant")),
        *((f, "") for f in ("wrong_spacing", "wrong_dtype")),  # silently kept all the same
    ],
)
def test_what_a_bad_file_does_to_the_plain_downloader(server, tmp_path, fault, expected):
    server.contents[101] = fault
    assert harm(server, 101, tmp_path) == expected

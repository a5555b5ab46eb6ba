"""The local server tells the truth: files are what it says, and each fault does its harm."""

import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile

import nibabel
import nrrd
import numpy as np
import pandas as pd
import pytest
import requests
from allen_server import RECOVERABLE, REQUEST_FAULTS, AllenServer, draw_faults, simulated_service
from allen_volumes import CONTENT_FAULTS

from brainvae_core.cohorts import drawn_atlas

pytestmark = pytest.mark.server

IDS = (101, 202, 303)
CCF = "/informatics-archive/current-release/mouse_ccf/"


def sections(seed=0):
    rng = np.random.default_rng(seed)
    return {i: rng.integers(0, 60000, (320, 456), dtype=np.uint16) for i in IDS}


@pytest.fixture
def server():
    with AllenServer(sections()) as server:
        server.stall_s = 0.3
        yield server


def get(url, timeout=5, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.status, dict(answer.headers), answer.read()


def raw_plane(archive, plane=286):
    """A plane by the plainest way there is: the whole volume as an array."""
    voxels = np.frombuffer(archive.read("resampled_red.raw"), "<u2")
    return voxels.reshape(456, 320, 528)[:, :, plane].T


def test_a_zip_holds_its_section_and_no_neighbour_does(server):
    archive = zipfile.ZipFile(io.BytesIO(get(server.volume_url(101))[2]))
    names = [f"resampled_{c}.{e}" for c in ("blue", "red", "green") for e in ("mhd", "raw")]
    assert archive.namelist() == names and archive.testzip() is None
    np.testing.assert_array_equal(raw_plane(archive), server.sections[101])
    for plane in (285, 287):
        assert (raw_plane(archive, plane) != server.sections[101]).mean() > 0.99
    assert server.zip_size(101) == server.bytes_sent(101) == len(archive.fp.getvalue())


@pytest.mark.parametrize("container", ["nrrd", "nii", "nii.gz"])
def test_other_containers_hold_the_same(container, tmp_path):
    path = tmp_path / f"red.{container}"
    with AllenServer({7: sections()[101]}, container=container) as server:
        archive = zipfile.ZipFile(io.BytesIO(get(server.volume_url(7))[2]))
        path.write_bytes(archive.read(f"resampled_red.{container}"))
    volume = nrrd.read(str(path))[0] if container == "nrrd" else nibabel.load(path).dataobj
    assert volume.shape == (528, 320, 456)
    np.testing.assert_array_equal(volume[286], sections()[101])


def test_ranges_are_the_bytes_asked_for(server):
    url, whole = server.volume_url(101), get(server.volume_url(101))[2]
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
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, Range=f"bytes={n}-")
    assert error.value.code == 416
    server.faults[101] = ["wrong_range", "no_range"]
    status, headers, body = get(url, Range="bytes=500-999999")
    assert status == 206 and headers["Content-Range"].startswith("bytes 1500-")
    assert body == whole[1500:1000000]
    assert get(url, Range="bytes=500-")[::2] == (200, whole)
    server.ranges = False
    assert get(url, Range="bytes=10-19")[2] == whole
    assert server.requests[-1] == [server.link(101), "bytes=10-19", 200, n]


def query(server, text):
    quoted = urllib.request.quote(text, ";/?:@&=+$,")
    return json.loads(get(f"{server.url}/api/v2/data/query.json?q={quoted}")[2])["msg"]


def test_records_follow_the_metadata():
    metadata = pd.DataFrame(
        {"sex": ["M", "M"], "strain": ["B6", None], "injection_structure": ["TH", "HY"]},
        index=[202, 101],
    )
    with AllenServer({i: sections()[i] for i in (101, 202)}, metadata) as server:
        rows = query(server, "model::ApiConnectivity,rma::options[num_rows$eq'all']")
        assert [row["data_set_id"] for row in rows] == [101, 202]
        named = [(r["gender"], r["strain"], r["structure_abbrev"]) for r in rows]
        assert named == [("M", None, "HY"), ("M", "B6", "TH")]
        server.without_url.add(202)
        for experiment, expected in ((101, [server.link(101)]), (202, []), (999, [])):
            found = query(
                server,
                "model::WellKnownFile,rma::criteria,well_known_file_type"
                f"[name$eq'ImagesResampledTo25MicronARA'][attachable_id$eq{experiment}]",
            )
            assert [row["download_link"] for row in found] == expected


def test_the_template_is_a_full_size_volume_with_the_slice(server, tmp_path):
    path = tmp_path / "template.nrrd"
    path.write_bytes(get(server.url + CCF + "average_template/average_template_25.nrrd")[2])
    volume, _ = nrrd.read(str(path))
    assert volume.shape == (528, 320, 456) and not volume[285].any()
    np.testing.assert_array_equal(volume[286][:, 4:452], (500 * drawn_atlas().template).astype(int))
    annotation = get(server.url + CCF + "annotation/ccf_2017/annotation_25.nrrd")[2]
    assert hashlib.sha256(annotation).hexdigest() == server.annotation_sha256


def test_faults_drawn_by_seed():
    ids = list(range(60))
    faults, contents = draw_faults(ids, 0)
    assert (faults, contents) == draw_faults(ids, 0) != draw_faults(ids, 1)
    assert len(faults) == 20 and len(contents) == 5 and not set(faults) & set(contents)
    assert {kind for kinds in faults.values() for kind in kinds} == set(RECOVERABLE)
    assert set(RECOVERABLE) < set(REQUEST_FAULTS) and set(contents.values()) < set(CONTENT_FAULTS)


def test_simulated_sections_are_the_images_times_a_gain():
    served, metadata, (cohort, gain) = simulated_service(3, drawn_atlas(), 0)
    assert list(served) == metadata.index.tolist()
    section = list(served.values())[2]
    assert section.shape == (320, 456) and not section[:, :4].any() and not section[:, 452:].any()
    np.testing.assert_allclose(section[:, 4:452], 2000 * gain[2] * cohort.images[2], atol=0.51)


# ---- what each fault does to who believes everything ----


def harm(server, experiment, folder):
    """What becomes of a plain downloader: ``"crash"``, ``"wrong"`` or ``""``.

    It believes a status, a file that exists and a header it does not read, as AllenSDK's own caches
    believe a file that exists.
    """
    path = folder / f"{experiment}.zip"
    try:
        if not path.exists():
            with open(path, "wb") as file:
                file.write(requests.get(server.volume_url(experiment), timeout=5).content)
        with zipfile.ZipFile(path) as archive:
            section = raw_plane(archive)
    except (zipfile.BadZipFile, requests.RequestException, KeyError, ValueError):
        return "crash"
    return "" if np.array_equal(section, server.sections[experiment]) else "wrong"


REQUEST_HARM = ("500", "503", "429", "404", "html", "short_no_length", "short", "reset")


@pytest.mark.parametrize("fault", ["ok", *REQUEST_HARM])
def test_a_failed_request_harms_the_plain_downloader_for_good(server, tmp_path, fault):
    server.faults[101] = [fault]
    expected = "crash" if fault in REQUEST_HARM else ""
    for _ in range(2):  # it believes what the first try left behind
        assert harm(server, 101, tmp_path) == expected
    assert len(server.requests) == 1


HARMS = {
    **dict.fromkeys(("corrupt_crc", "wrong_dimensions", "missing_red", "zip_slip"), "crash"),
    **dict.fromkeys(("truncated_gzip", "short_volume"), "crash"),
    **dict.fromkeys(("duplicate", "constant"), "wrong"),
    **dict.fromkeys(("wrong_spacing", "wrong_dtype"), ""),  # silently kept all the same
}


@pytest.mark.parametrize("fault", HARMS)
def test_what_a_bad_file_does_to_the_plain_downloader(server, tmp_path, fault):
    server.contents[101] = fault
    assert harm(server, 101, tmp_path) == HARMS[fault]


def test_a_bomb_that_lies_declares_a_volume_and_holds_a_gigabyte():
    sizes = {}
    for fault in ("bomb", "lying_bomb"):
        with AllenServer({5: sections()[101]}) as server:
            server.contents[5] = fault
            archive = zipfile.ZipFile(io.BytesIO(get(server.volume_url(5))[2]))
        info = archive.getinfo("resampled_red.raw")
        sizes[fault] = info.file_size, info.compress_size
    assert sizes["bomb"][0] == 1 << 30 and sizes["lying_bomb"][0] == 528 * 320 * 456 * 2
    assert sizes["bomb"][1] == sizes["lying_bomb"][1] < 4 << 20

"""Disks that are full, read-only, slow or gone: one line, nothing half-written, and it goes on."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from authors_release import AuthorsNetwork, answering, checkpoint, on_their_side
from damages import as_nobody

from brainvae_core import authors, explorer, lab, report, results, study
from brainvae_core.cohorts import allen, open_cohort, read_acquired, simulate
from brainvae_core.disk import seal, sha256_of
from brainvae_core.models import load_run

SHAPE = (40, 56)
PROFILE = """\
cohort: {{n_brains: 24, shape: [40, 56]}}
model: {{latent_dim: 3, steps: 4, batch_size: 4, validate_every: 2, precision: float32}}
places: {{data: {0}/data, runs: {0}/runs, results: {0}/results, reports: {0}/reports, device: cpu}}
"""
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"


# ---- what writes ----


def command(main, *arguments):
    """The exit code of a command, whichever way it tells of an error."""
    try:
        return main(*arguments) or 0
    except SystemExit as end:
        message = end.code
    except OSError as error:
        message = f"error: {error}"
    print(message, file=sys.stderr)
    return 1


def fitting(disk, at, monkeypatch):
    """A cohort is made, two models are fitted and kept."""
    (at / "tiny.yaml").write_text(PROFILE.format(disk))
    monkeypatch.setattr(sys, "argv", ["study", f"{at}/tiny.yaml", "--only", "compared", "--keep"])
    monkeypatch.chdir(at)  # back to where it was
    return command(study.main)


def scoring(disk, at, monkeypatch):
    """A table of scores is kept."""
    rows = pd.DataFrame({"fit": "a", "value": np.random.default_rng(0).random(20_000)})
    path, about = disk / "tables/grid.csv.gz", {"format": 1, "table": "grid"}
    return command(results.write_rows, path, rows, about)


def reporting(disk, at, monkeypatch):
    """A report is written, without executing its chapter."""

    def executed(_, out, parameters, cwd):
        new = Path(out).parent / "lab"
        new.mkdir()
        (new / "brains.csv").write_text("brain\n" * 20_000)
        seal(new, lab.ABOUT, {"format": lab.FORMAT})
        return nbformat.read(report.CHAPTER, 4)

    monkeypatch.setattr(report.papermill, "execute_notebook", executed)
    (at / "tiny.yaml").write_text(PROFILE.format(disk))
    return report.main(["lab", "--profile", f"{at}/tiny.yaml"])


def acquiring(disk, at, monkeypatch):
    """Three brains are kept."""

    def fetch(plane, channel, meter, timeout, retries, id, url):
        section = np.random.default_rng(int(id)).integers(0, 60_000, (320, 456), dtype=np.uint16)
        return section, {"id": id, "bytes": 5, "zip_bytes": 9, "plane": plane, "channel": channel}

    monkeypatch.setattr(allen, "_fetch_plane", fetch)
    folder, asked = disk / "allen", "".join(f"{id},http://x/,\n" for id in "312")

    def asking_and_fetching():
        folder.mkdir(exist_ok=True)
        if not (folder / "experiments.csv").exists():  # the asking program's
            allen.write(folder / "experiments.csv", f"id,url,refused\n{asked}".encode())
        return allen.main([str(folder), "--no-ask"])

    return command(asking_and_fetching)


def importing(disk, at, monkeypatch):
    """The authors' release is made into a cohort and a run."""
    if not (at / "array.npy").exists():
        sections = simulate(n_brains=40, shape=SHAPE, artefact_share=0.1, seed=3).images
        np.save(at / "array.npy", on_their_side(sections)[:, None])
        network = answering(AuthorsNetwork(3, 3, seed=1), sections)
        (at / "checkpoint").write_bytes(checkpoint(network))
    given = ["--array", f"{at}/array.npy", "--checkpoint", f"{at}/checkpoint"]
    return authors.main([f"{disk}/authors", *given])


def exploring(disk, at, monkeypatch):
    """What a page shows of models is written."""
    for name in ("prepare_cohort", "shown_models", "explorer_data"):
        monkeypatch.setattr(explorer, name, lambda *_: {"codes": [0.125] * 20_000})
    (at / "tiny.yaml").write_text(PROFILE.format(at))
    monkeypatch.setattr(sys, "argv", ["explorer", f"{at}/tiny.yaml", f"{disk}/page/data.js"])
    monkeypatch.chdir(at)
    return command(explorer.main)


JOBS = (fitting, scoring, reporting, acquiring, importing, exploring)
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)


# ---- disks ----


@pytest.fixture
def disk(tmp_path):
    """A file system of 48 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    is_root = os.geteuid() == 0
    if not is_root or subprocess.run(mount, capture_output=True).returncode:
        assert not is_root or os.environ.get("CI") != "true", "root mounts no file system here"
        pytest.skip("this user may mount no file system; a file's limit is tried in its place")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def filled(disk, free):
    """Leave so many bytes of a disk."""
    room = shutil.disk_usage(disk).free
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, room - free)))


def there(disk) -> dict[str, str]:
    """The content of every file but for what an acquisition adds to."""
    files = [f for f in disk.rglob("*") if f.is_file()]
    added_to = ("ballast", "manifest.jsonl", "refused.csv", "checksums.json")
    return {str(f.relative_to(disk)): sha256_of(f) for f in files if f.name not in added_to}


def check_whole(disk, is_gone=False):
    """Whatever stands under its name can be read, and no stray file lies beside."""
    paths = [(path, f"/{path.relative_to(disk)}") for path in disk.rglob("*")]
    for path in [path for path, name in paths if "/." not in name]:
        if path.name == "cohort.json" and path.parent.name != "tiny":  # kept runs have one too
            assert open_cohort(path.parent).images is not None
        if path.name == "config.json":
            load_run(path.parent)
        if path.name == "grid.csv.gz":
            results.read_rows(path)
        if path.name == "manifest.jsonl":
            read_acquired(path.parent)
    known = re.compile(r".*/\.(hashes\.json|\w+-L\d[^/]*(/checkpoint\.safetensors)?)")
    strays = [name for _, name in paths if "/." in name and not known.fullmatch(name)]
    assert is_gone or not strays, strays  # from a disk that is gone nothing can be removed


def in_vain(job, disk, at, monkeypatch, capsys, surely=True):
    """A job that cannot write tells it in a line and leaves what there is as it is."""
    before, _ = there(disk), capsys.readouterr()
    code, text = job(disk, at, monkeypatch), capsys.readouterr().err
    if code or surely:
        (last,) = [line for line in text.splitlines() if line.startswith("error")]
        assert code and "Traceback" not in text and re.search(r"/\w|[Nn]o space|[Rr]ead-only", last)
    after = there(disk)
    assert {name: after.get(name) for name in before} == before
    check_whole(disk)


@pytest.mark.slow
@pytest.mark.promise("A full or read-only disk ends in one line; what was there stays as it was.")
@each_job
def test_a_full_disk_and_a_read_only_one(job, disk, tmp_path, monkeypatch, capsys, record_property):
    (disk / "earlier.txt").write_text("as it was")
    rooms = (0, 20_000, 60_000, 150_000, 300_000) if NIGHTLY else (0, 60_000)
    for free in rooms:
        filled(disk, free)
        in_vain(job, disk, tmp_path, monkeypatch, capsys, surely=not free)
        (disk / "ballast").unlink()
    assert job(disk, tmp_path, monkeypatch) == 0  # with room it goes on
    check_whole(disk)
    for made in [path for path in disk.iterdir() if path.is_dir()]:
        shutil.rmtree(made)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    in_vain(job, disk, tmp_path, monkeypatch, capsys)
    record_property("cases", len(rooms) + 1)


@pytest.mark.slow
@pytest.mark.promise("Where a file may not grow, or a folder may not be written, one line says it.")
@each_job
def test_an_ordinary_user_meets_a_limit_or_a_folder_of_others(
    job, tmp_path, monkeypatch, capsys, record_property
):
    disk = tmp_path / "disk"
    disk.mkdir()
    assert job(disk, tmp_path, monkeypatch) == 0
    done = there(disk)
    other = tmp_path / "other"
    other.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        in_vain(job, other, tmp_path, monkeypatch, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert job(other, tmp_path, monkeypatch) == 0 and there(other).keys() == done.keys()
    with tempfile.TemporaryDirectory() as place:  # pytest's own nobody else may enter
        os.chmod(place, 0o777)
        others = Path(place, "others")
        others.mkdir(mode=0o555)
        for name in ("array.npy", "checkpoint"):
            if (tmp_path / name).exists():
                shutil.copy(tmp_path / name, place)
        with as_nobody():
            in_vain(job, others, Path(place), monkeypatch, capsys)
    record_property("cases", 2)


@pytest.mark.slow
@pytest.mark.promise("A slow disk gives the same files; one that vanishes nothing half-made.")
@each_job
def test_a_slow_disk_and_one_that_vanishes(job, tmp_path, monkeypatch, capsys, record_property):
    calls, real = [], os.replace

    def slowly(sync, file):
        time.sleep(0.02)
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", partial(slowly, os.fsync))
        patch.setattr(os, "replace", lambda *of: (calls.append(1), real(*of))[1])
        slow = tmp_path / "slow"
        slow.mkdir()
        assert job(slow, tmp_path, monkeypatch) == 0
    check_whole(slow)
    moments = range(len(calls)) if NIGHTLY else {0, len(calls) // 2, len(calls) - 1}
    for moment in moments:
        disk, gone, done = tmp_path / f"{moment}", tmp_path / f"{moment} gone", []
        disk.mkdir()

        def vanishing(source, target, disk=disk, gone=gone, done=done, moment=moment):
            done.append(1)
            if len(done) == moment + 1:
                os.rename(disk, gone)
            return real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", vanishing)  # a folder made anew takes what is to come
            in_vain(job, disk, tmp_path, monkeypatch, capsys, surely=False)
        check_whole(gone, is_gone=True)
    record_property("cases", 1 + len(moments))


@pytest.mark.nightly
@pytest.mark.promise("A slow disk gives the same files; one that vanishes nothing half-made.")
@each_job
def test_a_disk_that_is_unmounted(job, disk, tmp_path, monkeypatch, capsys, record_property):
    gone, real = [], os.replace

    def unmounting(source, target):
        if not gone:
            gone.append(subprocess.run(["umount", "-l", str(disk)], check=True))
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", unmounting)
        in_vain(job, disk, tmp_path, monkeypatch, capsys)
    assert gone
    record_property("cases", 1)

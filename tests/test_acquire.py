"""Whatever fails, nothing wrong is kept, everything right is, and one line says what to do."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from allen_server import AllenServer
from allen_volumes import CONTENT_FAULTS
from refusals import refused

from brainvae_core.cohorts import allen, read_acquired, read_ledger
from brainvae_core.cohorts.allen import acquire, locked, main

pytestmark = pytest.mark.server

GOOD, ODD, THIRD = 303, 101, 202  # not sorted: the order of experiments.csv is kept
IDS = (GOOD, ODD, THIRD)
PAIR = (GOOD, ODD)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 60000, (320, 456), dtype=np.uint16)


SECTIONS = {i: noise(i) for i in IDS}


@pytest.fixture(scope="module")
def running():
    with AllenServer(SECTIONS) as server:
        server.stall_s = 0.5
        for experiment in IDS:
            server.file(experiment)
        server.sound = server.file(ODD).read_bytes()
        yield server


@pytest.fixture
def server(running):
    running.faults.clear()
    running.drip_s = 0.02
    running.requests.clear()
    running.contents.clear()
    running.container = "mhd"
    running._path(ODD).write_bytes(running.sound)
    return running


def request_folder(server, folder, ids=IDS):
    """A folder as asking leaves it."""
    server.request_folder(folder, ids)
    if (folder / "checksums.json").exists():
        allen.list_checksums(folder, "experiments.csv")
    return folder


@pytest.fixture(scope="module")
def good(running, tmp_path_factory):
    """A folder that keeps the good one of a pair already."""
    folder = request_folder(running, tmp_path_factory.mktemp("good"), [GOOD])
    run(folder)
    return folder


def requested_paths(server):
    """Paths that were asked for; a request is listed as it begins."""
    return [path for path, *_ in server.requests]


def break_content(server, fault):
    server.contents[ODD] = fault
    server._path(ODD).unlink(missing_ok=True)
    server.file(ODD)  # made before it is asked for: making one may outlast a timeout


def run(folder, **options):
    return acquire(folder, **{"timeout": 5, "retries": 2, "sleep": lambda s: None, **options})


def check_kept(folder, ids):
    """Exactly these are kept, and each is what was served."""
    assert {path.name for path in (folder / "sections").iterdir()} == {f"{i}.npy" for i in ids}
    kept, metadata = read_acquired(folder)
    assert metadata.index.tolist() == [str(i) for i in IDS if i in ids]
    for section, experiment in zip(kept, metadata.index, strict=True):
        np.testing.assert_array_equal(section, SECTIONS[int(experiment)])


def check_refused(ledger, server, experiment, pattern):
    reason = ledger.refused[str(experiment)]
    assert reason.startswith(f"brain {experiment}: ") and server.volume_url(experiment) in reason
    assert re.search(pattern, reason) and "\n" not in reason
    assert re.search(r"; (run the same command later|the zip at|open the address)", reason)


def test_all_are_kept_with_few_bytes_and_not_fetched_again(server, tmp_path):
    folder = request_folder(server, tmp_path)
    ledger = run(folder)
    check_kept(folder, IDS)
    assert ledger.wanted == ledger.kept == ("303", "101", "202")
    assert (ledger.kept_before, ledger.refused) == ((), {})
    whole = sum(server.zip_size(i) for i in IDS)
    assert 0.8 * ledger.bytes_whole < ledger.bytes_moved < ledger.bytes_whole == whole
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert sum(line["bytes"] for line in lines) == ledger.bytes_moved
    _, metadata = read_acquired(folder)
    expected = ["sex", "strain", "transgenic_line", "injection_volume"]
    assert metadata.columns.tolist() == expected and metadata.index.name == "id"
    server.requests.clear()
    again = run(folder)
    assert not server.requests and again.bytes_moved == 0
    assert again.kept_before == again.kept == ledger.kept == read_ledger(folder).kept


def test_another_channel(server, tmp_path):
    ledger = run(request_folder(server, tmp_path, [ODD]), channel="blue")
    assert not ledger.kept and "grey values 3 to 3 only" in ledger.refused["101"]


# ---- faults ----


CONTENT_REASONS = {
    "corrupt_crc": "came damaged .*Bad CRC-32.* 3 times",
    "wrong_dimensions": "528 × 320 × 448 voxels of 25 .*; 528 × 320 × 456 in any order",
    "wrong_spacing": "voxels of 50 × 50 × 50 µm",
    "missing_red": "one volume of channel red; it has 'resampled_blue.mhd'",
    "zip_slip": "unsafe name '../../resampled_blue.mhd'",
    "bomb": "would inflate to 1073741824 bytes",
    "lying_bomb": "came damaged .* 3 times",
    "duplicate": "must have one volume of channel red",
    "wrong_dtype": "ElementType = MET_FLOAT, byte order",
    "truncated_gzip": "ended before the end-of-stream",
    "short_volume": "153753600 bytes of voxels; the header says 154091520",
    "constant": "plane 286 has grey values 100 to 100 only",
}


@pytest.mark.promise("a server's faults leave no wrong section")
@pytest.mark.parametrize("fault", [*CONTENT_FAULTS, "truncated nii.gz"])
def test_content_faults(server, good, tmp_path, fault):
    if fault == "truncated nii.gz":
        server.container, fault = "nii.gz", "truncated_gzip"
    break_content(server, fault)
    folder = request_folder(server, shutil.copytree(good, tmp_path / "folder"), PAIR)
    server.requests.clear()
    ledger = run(folder)
    check_kept(folder, {GOOD})
    assert ledger.kept_before == ("303",) and server.link(GOOD) not in requested_paths(server)
    check_refused(ledger, server, ODD, CONTENT_REASONS[fault])
    assert read_ledger(folder).refused == ledger.refused
    n_requests = requested_paths(server).count(server.link(ODD))
    if fault in ("missing_red", "zip_slip", "bomb", "duplicate"):
        assert n_requests == 1, "the directory tells"
    elif fault not in ("corrupt_crc", "lying_bomb"):
        assert n_requests <= 3


def test_a_service_that_is_down_is_left_alone(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(allen, "IN_A_ROW", 2)
    server.faults.update({i: ["503"] * 3 for i in IDS})
    folder = request_folder(server, tmp_path)
    ledger = run(folder, workers=1)
    assert sorted(ledger.refused) == ["101", "303"] and "1 not tried" in str(ledger)
    assert "2 brains in a row could not be fetched" in capfd.readouterr().err
    server.faults.clear()
    server.faults.update({i: ["404"] for i in (GOOD, ODD)})  # gone is not down
    assert run(folder, workers=1).kept == ("202",)
    assert run(folder, workers=1).kept == ("303", "101", "202")


def test_a_service_that_answers_in_between_is_not_down(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(allen, "IN_A_ROW", 2)
    server.faults.update({GOOD: ["503"] * 3, ODD: ["404"], THIRD: ["503"] * 3})
    assert len(run(request_folder(server, tmp_path / "gone"), workers=1).refused) == 3
    break_content(server, "missing_red")
    server.faults.update({i: ["503"] * 3 for i in (GOOD, THIRD)})
    assert len(run(request_folder(server, tmp_path / "odd"), workers=1).refused) == 3
    assert "in a row" not in capfd.readouterr().err


# ---- the folder ----


def test_what_nothing_can_be_acquired_with_is_refused(server, tmp_path):
    for table, pattern in (
        (None, "no .*experiments.csv; run"),
        ("id,sex\n1,F\n", "experiments.csv is damaged .no 'url'.; remove it"),
        ("id,url,refused\n../1,x,\n", "no number or occur twice"),
        ("id,url,refused\n1,x,\n1,y,\n", "occur twice"),
    ):
        if table:
            (tmp_path / "experiments.csv").write_text(table)
        refused([(pattern, read, tmp_path) for read in (run, read_acquired, read_ledger)])
    folder = request_folder(server, tmp_path)
    for option, value in (
        *(("plane", -1), ("plane", 528), ("channel", "../red"), ("workers", 0), ("retries", -1)),
        *(("timeout", float("nan")), ("rate_limit", 0)),
    ):
        refused([(f"{option}={value}; give", partial(run, **{option: value}), folder)])
    assert [path.name for path in folder.iterdir()] == ["experiments.csv"]
    with locked(folder):
        refused([("another acquisition is at work in", run, folder)])
    assert len(run(folder).kept) == 3
    for other in ({"plane": 285}, {"channel": "green"}):
        words = "holds plane 286 of channel red, .*another folder"
        refused([(words, partial(run, **other), folder)])
    for content, pattern in (
        ('{"format": 3, "plane": 286, "channel": "red"}', "is of format 3; 2 is read: update it"),
        ("{}", "request.json is damaged"),
    ):
        (folder / "request.json").write_text(content)
        refused([(pattern, run, folder)])


def test_experiments_without_address_are_refused(server, tmp_path):
    folder = request_folder(server, tmp_path)
    table = pd.read_csv(folder / "experiments.csv", dtype=str, keep_default_na=False)
    table.loc[1, ["url", "refused"]] = "", "the service has no volume of it"
    table.to_csv(folder / "experiments.csv", index=False)
    before = read_ledger(folder)
    ledger = run(folder)
    check_kept(folder, {GOOD, THIRD})
    assert ledger.refused == before.refused == {"101": "brain 101: the service has no volume of it"}


def test_a_damaged_or_lost_section_or_a_torn_line_is_fetched_again(server, tmp_path):
    folder = request_folder(server, tmp_path)
    refused([("no brain is kept in", read_acquired, folder)])
    run(folder)
    section, manifest = folder / "sections/101.npy", folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert len(run(folder).kept_before) == 2
    section.write_bytes(section.read_bytes()[:-1] + b"x")
    assert run(folder).kept_before == ("303", "202")
    section.unlink()
    refused([("101.npy is missing or damaged; fetch it again with py", read_acquired, folder)])
    run(folder)
    check_kept(folder, IDS)


# ---- the command line ----


def test_command_line(server, tmp_path, capsys):
    folder = request_folder(server, tmp_path)
    server.faults[ODD] = ["404"]
    command = [str(folder), "--no-ask", "--timeout", "1", "--retries", "1", "--workers", "1"]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "3 asked for, 2 kept (0 of them before), 1 refused, 0 not tried" in printed
    assert f"\n  brain 101: HTTP 404 at {server.volume_url(ODD)}; open" in printed
    assert main(command) == 0
    assert "3 asked for, 3 kept (2 of them before), 0 refused" in capsys.readouterr().out
    for wrong, pattern in (
        ([*command, "--plane", "5"], "use another folder"),
        ([str(tmp_path / "none"), "--no-ask"], "no .*experiments.csv"),
        ([str(folder), "--acquire-python", str(tmp_path / "p")], "no acquisition environment at"),
    ):
        assert main(wrong) == 2
        assert re.fullmatch(f"error: .*{pattern}.*\n", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--sex", "F"])


@pytest.mark.parametrize("code", [0, 1, 2])
def test_asking_runs_in_its_own_environment(server, tmp_path, code, capfd):
    """What it is given, and what its exit code does to the command's."""
    folder, python = request_folder(server, tmp_path / "folder"), tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    python.chmod(0o755)
    options = ["--sex", "F", "--limit", "3", "--strain", "A", "B"]
    assert main([str(folder), "--acquire-python", str(python), *options]) == code
    program = Path(allen.__file__).with_name("ask_allen.py")
    printed, error = capfd.readouterr()
    assert printed.startswith(f"{program} {folder} {' '.join(options)}\n")
    assert ("3 kept" in printed) == (code < 2)
    if code == 2:
        assert "error: asking the service failed with code 2" in error


ASKER = """\
#!{}
import os, sys, time
table = sys.argv[2] + "/experiments.csv"
text = open(table).read()
open(table, "w").write(text.replace("C57BL/6J", "as asked"))
print("asked", os.getpid(), file=sys.stderr, flush=True)
if "--stay" in sys.argv:
    time.sleep(60)
sys.exit(2)
"""
ASKING = "import sys; from brainvae_core.cohorts import allen; sys.exit(allen.main(sys.argv[1:]))"


def test_what_a_failed_or_killed_asking_wrote_is_taken_as_it_is(server, tmp_path, capfd):
    folder, python = request_folder(server, tmp_path / "folder"), tmp_path / "python"
    python.write_text(ASKER.format(sys.executable))
    python.chmod(0o755)
    run(folder)
    options = [str(folder), "--acquire-python", str(python)]
    assert main(options) == 2
    assert set(read_acquired(folder)[1]["strain"]) == {"as asked"}
    assert main([str(folder), "--no-ask"]) == 0
    capfd.readouterr()
    command = [sys.executable, "-c", ASKING, *options, "--stay"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        asker = int(process.stderr.readline().removeprefix("asked "))
        process.kill()
        process.wait()
        try:  # it lives on, and has the folder to itself
            assert main([str(folder), "--no-ask"]) == 2
            assert "another acquisition is at work in" in capfd.readouterr().err
        finally:
            os.kill(asker, signal.SIGKILL)
    assert len(read_acquired(folder)[1]) == 3
    assert main([str(folder), "--no-ask"]) == 0


def test_an_end_between_a_table_and_its_checksum_is_no_damage(server, tmp_path, monkeypatch):
    folder, listed = request_folder(server, tmp_path, PAIR), allen.list_checksums
    run(folder)
    server.faults[THIRD] = ["404"]
    request_folder(server, folder)

    def stopped(folder, *names, **options):
        if "refused.csv" in names:
            raise KeyboardInterrupt
        listed(folder, *names, **options)

    monkeypatch.setattr(allen, "list_checksums", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert "HTTP 404" in read_ledger(folder).refused[str(THIRD)]

"""The folder that asking and acquiring share: what either trusts of it, and what an end leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from allen_server import AllenServer
from damage_kinds import make_atlas
from refusals import refused

from brainvae_core.cohorts import ccf_atlas, read_acquired, read_ledger
from brainvae_core.cohorts.allen import acquire, main

pytestmark = pytest.mark.server

SECTIONS = {
    i: np.random.default_rng(i).integers(0, 60000, (320, 456), dtype=np.uint16) for i in (303, 101)
}
ASKER = """\
#!{}
import os, sys
folder = sys.argv[2]
open(folder + "/asked", "a").write("once\\n")
sys.exit(0)
"""


@pytest.fixture(scope="module")
def server():
    with AllenServer(SECTIONS) as running:
        yield running


@pytest.fixture
def folder(server, tmp_path):
    """A folder in which all is kept."""
    server.request_folder(tmp_path / "folder", [*SECTIONS])
    assert len(acquire(tmp_path / "folder", sleep=lambda s: None).kept) == 2
    return tmp_path / "folder"


@pytest.fixture
def asker(tmp_path):
    """What stands in for the python of the acquisition environment."""
    path = tmp_path / "asker"
    path.write_text(ASKER.format(sys.executable))
    path.chmod(0o755)
    return path


def test_a_changed_address_is_refused_before_it_is_asked_again(folder, asker, capfd):
    table, command = folder / "experiments.csv", [str(folder), "--acquire-python", str(asker)]
    sound = table.read_text()
    changed = re.sub(r"(\d)(\r?\n|,\r?\n)", lambda m: f"{9 - int(m[1])}{m[2]}", sound, count=1)
    assert len(changed) == len(sound) and changed != sound
    table.write_text(changed)
    assert main(command) == 2
    said = capfd.readouterr().err
    assert re.fullmatch(f"error: {table} is damaged.*; remove it and ask again.*\n", said)
    assert table.read_text() == changed and not (folder / "asked").exists()
    table.write_text(sound)
    assert main(command) == 0
    table.unlink()  # as it says: then there is nothing to compare
    assert main(command) == 2 and "no " in capfd.readouterr().err
    assert (folder / "asked").read_text() == "once\n" * 2


# ---- checksums of checksums ----


def renamed(content: dict, name: str, other: str) -> str:
    return json.dumps({other if key == name else key: content[key] for key in content})


def test_a_changed_name_or_sum_among_a_folders_checksums_is_told(folder):
    path = folder / "checksums.json"
    sound, table = path.read_text(), folder / "experiments.csv"
    assert set(json.loads(sound)) == {"experiments.csv", "refused.csv", "request.json", "sha256"}
    table.write_bytes(table.read_bytes().replace(b"F", b"M"))
    refused([("experiments.csv is damaged, or was edited", read_acquired, folder)])
    said = "checksums.json is damaged .*; delete it to take the tables as they are"
    changed = [renamed(json.loads(sound), n, f"{n[:-1]}x") for n in json.loads(sound)]
    changed += [sound.replace(digest, digest[::-1]) for digest in json.loads(sound).values()]
    without = {name: of for name, of in json.loads(sound).items() if name != "sha256"}
    for text in (*changed, json.dumps(without), "[]", "null"):
        path.write_text(text)
        refused([(said, read, folder) for read in (read_acquired, read_ledger, acquire)])
    path.write_text(sound)
    table.write_bytes(table.read_bytes().replace(b"M", b"F"))
    assert len(acquire(folder).kept_before) == 2 and path.read_text() == sound


def test_a_changed_name_or_sum_among_an_atlas_checksums_is_told(tmp_path):
    make_atlas(tmp_path)
    path, annotation = tmp_path / "checksums.json", tmp_path / "annotation_25.nrrd"
    content = json.loads(path.read_text())
    without = {name: digest for name, digest in content.items() if name != "sha256"}
    ccf_atlas(tmp_path, 1)
    annotation.write_bytes(annotation.read_bytes() + b"x")
    for text, said in (
        (json.dumps(without), "checksums.json cannot be read.*; fetch it again"),
        (json.dumps(content), "annotation_25.nrrd cannot be read.*: it is not what"),
        (renamed(content, annotation.name, "annotation_26.nrrd"), "checksums.json cannot be read"),
        (json.dumps(content | {"sha256": "0"}), "checksums.json cannot be read.*; fetch it again"),
    ):
        path.write_text(text)
        refused([(said, ccf_atlas, tmp_path, 1)])


# ---- ended while it asks ----

SLOW = """\
#!/bin/sh
if [ ! -e "$2/asked" ]; then
    : > "$2/asked"
    exec sleep 60
fi
cp "$2/../as-asked.csv" "$2/.experiments.csv.tmp"
mv "$2/.experiments.csv.tmp" "$2/experiments.csv"
"""
COMMAND = """
import signal, sys
from brainvae_core.cohorts import allen
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
sys.exit(allen.main(sys.argv[1:]))
"""
ENDS = [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)]
ENDS += [(signal.SIGKILL, True)]


def tables(folder):
    """All that an acquisition leaves but for the manifest, which has times."""
    files = [f for f in folder.rglob("*") if f.is_file() and f.name != "manifest.jsonl"]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@pytest.mark.parametrize(("which", "first"), ENDS)
def test_what_is_ended_while_it_asks_goes_on(server, folder, asker, which, first):
    table, undisturbed = folder / "experiments.csv", tables(folder) | {"asked": b""}
    shutil.copyfile(table, folder.parent / "as-asked.csv")
    if first:  # there is nothing before it
        shutil.rmtree(folder)
    asker.write_text(SLOW)
    options = [str(folder), "--acquire-python", str(asker)]
    told = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", COMMAND, *options], **told) as process:
        while not (folder / "asked").exists():
            assert process.poll() is None
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, which)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if which != signal.SIGKILL else -which)
    stopped = "stopped; what was kept stays kept. The same command goes on\n"
    assert said == (stopped if which != signal.SIGKILL else "")
    assert family and not psutil.wait_procs(family, timeout=60)[1]
    server.requests.clear()
    assert main(options) == 0
    assert tables(folder) == undisturbed
    assert bool(server.requests) == first  # what was kept is not fetched again

"""The folder that asking and acquiring share: what either trusts of it, and what an end leaves."""

import re
import sys

import numpy as np
import pytest
from allen_server import AllenServer

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
    server.asked_folder(tmp_path / "folder", [*SECTIONS])
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

"""What is written appears whole or not at all, and any change of it afterwards is told."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core import disk
from brainvae_core.disk import atomically, file_lock, read_sealed, scratch_path, seal, whole

CONTENT = {"format": 2, "name": "Mäuse", "of": {"mean": 0.1, "none": None}}
FILES = {"history.csv": b"step,loss\n1,0.5\n", "weights.bin": bytes(range(256))}


def sealed(folder):
    folder.mkdir(exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    seal(folder, "about.json", CONTENT)
    return folder


def read(folder):
    return read_sealed(folder, "about.json", 2, "make it anew")


@pytest.mark.promise("what is damaged is refused with its name")
@given(name=st.sampled_from([*FILES, "about.json"]), at=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_any_flipped_bit_is_told_with_the_files_name(tmp_path_factory, name, at, bit):
    file = sealed(tmp_path_factory.mktemp("flipped") / "a") / name
    content = bytearray(file.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    if name == "about.json" and bytes(content).split() == file.read_bytes().split():
        return  # a blank for another blank says the same
    file.write_bytes(content)
    refused([(f"{name} is damaged.*; make it anew|has format .* reads 2", read, file.parent)])


@pytest.mark.promise("what is damaged is refused with its name")
@given(name=st.sampled_from([*FILES, "about.json"]), at=st.floats(0, 0.98))
def test_what_is_cut_off_is_told_with_the_files_name(tmp_path_factory, name, at):
    file = sealed(tmp_path_factory.mktemp("cut") / "a") / name
    content = file.read_bytes()
    file.write_bytes(content[: int(at * len(content))])
    refused([(f"{name} is damaged", read, file.parent)])
    file.unlink()
    refused([(f"{name} is damaged", read, file.parent)])


def test_what_is_no_description_is_told_and_another_format_before_its_checksum(tmp_path):
    folder = sealed(tmp_path / "a")
    for text in ("", "[]", "17", "null", '{"format": 2}', "[" * 100_000):
        (folder / "about.json").write_text(text)
        refused([("about.json is damaged", read, folder)])
    (folder / "about.json").write_text('{"format": 3, "new": []}')
    refused([(r"a/\S+ has format 3; this library reads 2", read, folder)])


@pytest.mark.promise("what is written appears whole or not at all")
def test_nothing_is_left_of_what_failed_and_a_full_folder_is_not_replaced(tmp_path):
    file = tmp_path / "new/file.txt"
    for text in ("first", "second"):
        with atomically(file) as beside:
            beside.write_text(text)
    for make in ("file", "folder", "nothing"):
        with pytest.raises(KeyboardInterrupt), atomically(file) as beside:
            if make == "folder":
                beside.mkdir()
                (beside / "part").write_text("half")
            elif make == "file":
                beside.write_text("half")
            raise KeyboardInterrupt
    sealed(folder := file.parent / "a")
    with pytest.raises(OSError), atomically(folder) as beside:
        beside.mkdir()
    assert file.read_text() == "second" and read(folder)
    assert sorted(f.name for f in file.parent.iterdir()) == ["a", "file.txt"]


def left_beside(folder):
    """What the dead, the living and other machines have beside ``a``, by its end of name."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    here, living = platform.node(), os.getppid()
    left = {"dead": f"{here}~{dead.pid}~0", "of old": f"{here}~{os.getpid()}~x"}
    left |= {"living": f"{here}~{living}~0", "elsewhere": "elsewhere~7~0", "other": "x~y~0"}
    for end in left.values():
        (folder / f".a~{end}").mkdir()
        (folder / f".a~{end}/part").touch()
    return {key: f".a~{end}" for key, end in left.items()}


@pytest.mark.parametrize("turn", [contextlib.nullcontext, file_lock])
def test_what_the_dead_left_beside_a_name_goes_and_what_the_living_write_stays(
    tmp_path, monkeypatch, turn
):
    left = left_beside(tmp_path)
    with turn(tmp_path / "a"), atomically(tmp_path / "a") as beside:
        beside.touch()
    stay = {left[key] for key in ("living", "elsewhere", "other")}
    assert {path.name for path in tmp_path.iterdir()} == stay | {"a"}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)  # nobody elsewhere makes it either
    (tmp_path / left["elsewhere"] / "part").touch()
    with monkeypatch.context() as no_locks:
        no_locks.setattr(disk, "CHECKED", {tmp_path.stat().st_dev: False})
        with turn(tmp_path / "a"), atomically(tmp_path / "a") as beside:
            beside.touch()
        assert (tmp_path / left["elsewhere"]).exists()
    with turn(tmp_path / "a"), atomically(tmp_path / "a") as beside:
        beside.touch()
    assert {path.name for path in tmp_path.iterdir()} == stay - {left["elsewhere"]} | {"a"}


def test_what_is_beside_another_name_that_begins_alike_stays(tmp_path):
    machine = "elsewhere-2~7~0"
    for name in ("mice.v2", "mice~v2", "mice-2", "mice~" + machine):
        (tmp_path / f".{name}~{platform.node()}~{2**22 + 1}~0").touch()
    before = sorted(tmp_path.iterdir())
    with file_lock(tmp_path / "mice"), atomically(tmp_path / "mice") as own:
        own.touch()
    assert sorted(tmp_path.glob(".*")) == before
    with scratch_path(tmp_path / "mice.v2") as at_work:
        at_work.mkdir()
        with file_lock(tmp_path / "mice"):
            assert at_work.exists()


def test_two_of_one_process_that_write_one_name_leave_each_others_file(tmp_path):
    with atomically(tmp_path / "a") as outer:
        outer.write_text("outer")
        with atomically(tmp_path / "a") as inner:
            inner.write_text("inner")
        assert (tmp_path / "a").read_text() == "inner" and outer.read_text() == "outer"
    assert (tmp_path / "a").read_text() == "outer"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_name_is_made_by_one_and_whole_once_its_lock_is_gone(tmp_path, capsys):
    path = tmp_path / "new/a"
    with file_lock(path) as mine:
        path.touch()
        assert mine and not whole(path)
        with file_lock(path) as second:
            assert not second
    assert whole(path) and [p.name for p in path.parent.iterdir()] == ["a"]
    (path.parent / ".a.lock").touch()  # of one that was killed at the very end
    assert not whole(path)
    with file_lock(path, "waiting") as mine:
        assert mine
    assert whole(path) and capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_of_a_class_in_the_making_is_one_line_too(number, capsys):
    class Named:
        def __set_name__(self, owner, name):  # whose exceptions Python wraps
            signal.raise_signal(number)

    @disk.stoppable("stopped; the same command goes on")
    def command():
        type("Owner", (), {"name": Named()})

    before = signal.signal(number, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    with pytest.raises(SystemExit, match="^130$"):
        command()
    signal.signal(number, before)
    assert capsys.readouterr().err == "stopped; the same command goes on\n"
    with pytest.raises(ZeroDivisionError):  # what was not asked for is told as it is
        disk.stoppable("stopped")(lambda: 1 / 0)()

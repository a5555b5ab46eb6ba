"""What is installed is what the lock says, by hash, and no line of it names a host."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow"))
import supply  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [
    Requirement(d) for d in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"]
]
OF_CUDA = re.compile("cuda-.*|nvidia-.*|triton")  # what PyTorch asks for on Linux without +cpu


def normal(name):
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.promise("every package is pinned by version and hashes, and the lock names no host")
def test_every_package_is_pinned_by_hashes(record_property):
    n = 0
    for name in supply.LOCKS:
        text = (ROOT / name).read_text()
        pinned = list(supply.packages(name))
        n += len(pinned)
        lines = [line for line in text.splitlines() if not line.startswith(" ")]
        assert len(pinned) == len(lines) > 50, "every line is a package or a hash"
        assert all(hashes for *_, hashes in pinned)
        assert not re.search(r"https?:|file:|--index|--find|--extra|@|/", text)
    record_property("cases", n)


@pytest.mark.promise("what is installed is exactly what the lock says")
def test_the_lock_is_what_is_installed_and_what_the_project_asks_for(record_property):
    locked = {n: v for n, v, on, _ in supply.packages("constraints.txt") if _here(on)}
    found = importlib.metadata.distributions()
    installed = {normal(d.name): d.version.partition("+")[0] for d in found}
    installed = {n: v for n, v in installed.items() if n not in ("pip", "brainvae")}
    other = {n: v for n, v in installed.items() if locked.get(n) != v}
    assert not other, "make env brings the environment to the lock"
    missing = {n for n in set(locked) - set(installed) if not OF_CUDA.fullmatch(n)}
    assert not missing
    for requirement in WANTED:
        assert requirement.specifier.contains(locked[normal(requirement.name)]), requirement
    record_property("cases", len(installed))


def _here(platforms):
    return not platforms or Marker(platforms).evaluate()


def test_conda_installs_the_locks():
    for file, lock in (("", "constraints.txt"), ("-acquire", "constraints-acquire.txt")):
        conda = yaml.safe_load((ROOT / f"environment{file}.yml").read_text())["dependencies"]
        (pip,) = [d["pip"] for d in conda if isinstance(d, dict)]
        assert pip == [f"-r {lock}"]
        wanted = PROJECT["requires-python"] if not file else "=3.11"
        assert f"python{wanted}" in conda


def test_the_oldest_python_is_told_and_asked_for():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    makefile, readme = ((ROOT / name).read_text() for name in ("Makefile", "README.md"))
    assert f"sys.version_info < ({oldest.replace('.', ', ')}))" in makefile
    assert all(f"Python {oldest} or newer" in text for text in (makefile, readme))
    assert (
        f"the oldest that every package takes is {oldest}"
        in (ROOT / "workflow/supply.py").read_text()
    )


@pytest.mark.promise("a package whose content is not the pinned one is not installed")
def test_another_content_is_refused(tmp_path):
    """Of a wheel in a folder: neither the environment nor a network is needed."""
    import zipfile

    wheel = tmp_path / "planted-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        about = "planted-1.0.dist-info"
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--offline", "--no-index", "--find-links", tmp_path]
    command += ["--no-cache", "--target", tmp_path / "to", "-c", tmp_path / "lock.txt", "planted"]
    digest = supply.hashlib.sha256(wheel.read_bytes()).hexdigest()
    for pinned, is_taken in (("0" * 64, False), (digest, True)):
        (tmp_path / "lock.txt").write_text(f"planted==1.0 \\\n    --hash=sha256:{pinned}\n")
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        assert (done.returncode == 0) == is_taken, done.stderr
        assert is_taken or "Hash mismatch" in done.stderr


def test_the_hash_of_an_own_wheel_is_added_whatever_its_name(tmp_path, monkeypatch):
    (tmp_path / "two_words-1.0+cpu-py3-none-any.whl").write_bytes(b"own")
    for name in supply.LOCKS:
        (tmp_path / name).write_text(
            "a==1 \\\n    --hash=sha256:0\ntwo-words==1.0 \\\n    --hash\n"
        )
    monkeypatch.setattr(supply, "ROOT", tmp_path)
    monkeypatch.setattr(supply.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    supply.lock()
    digest = supply.hashlib.sha256(b"own").hexdigest()
    told = f"two-words==1.0 \\\n    --hash=sha256:{digest} \\\n    --hash\n"
    assert told in (tmp_path / supply.LOCKS[0]).read_text()


@pytest.mark.promise("the bill of materials is the locks, and the same bytes each time")
def test_the_bill_of_materials_is_the_lock_and_the_same_each_time(tmp_path, monkeypatch):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        for name in supply.LOCKS:
            (folder / name).write_bytes((ROOT / name).read_bytes())
        monkeypatch.setattr(supply, "ROOT", folder)
        supply.sbom()
        written.append((folder / "_build/sbom.json").read_bytes())
    assert written[0] == written[1]
    bom = json.loads(written[0])
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5")
    listed = {(part["name"], part["version"]) for part in bom["components"]}
    assert listed == {(n, v) for name in supply.LOCKS for n, v, *_ in supply.packages(name)}
    assert all(part["hashes"] and part["purl"] for part in bom["components"])


@pytest.mark.promise("an audit fails on a known vulnerability, and where a lock's are not known")
@pytest.mark.parametrize("said", ["", '{"dependencies": [{"name": "a", "skip_reason": "none"}]}'])
def test_an_audit_without_a_database_is_none(tmp_path, capsys, monkeypatch, said):
    """Of a uv that answers as pip-audit does: no network is needed."""
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho '{said}'\necho 'no route to the database' >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(supply, "UV", uv)
    assert supply.audit() == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: nothing was audited: ")


SOUND, BAD = {"name": "a", "version": "1", "vulns": []}, {"id": "X-1", "fix_versions": ["2"]}
ONE_BAD, ONE_UNKNOWN = SOUND | {"vulns": [BAD]}, {"name": "b", "skip_reason": "not there"}


@pytest.mark.promise("an audit fails on a known vulnerability, and where a lock's are not known")
@pytest.mark.parametrize(
    ("parts", "others", "code", "told"),
    [
        ([SOUND], [SOUND], 0, ["2 packages audited, 0 known"]),
        ([SOUND], [SOUND, ONE_BAD], 1, ["constraints-acquire.txt: a 1: X-1, mended in 2", "3 p"]),
        ([SOUND], [], 3, ["1 packages audited", "error: not everything was audited: "]),
        ([], [ONE_BAD], 1, ["constraints-acquire.txt: a 1: X-1", "1 p", "error: not everything"]),
        ([SOUND, ONE_UNKNOWN], [SOUND], 3, ["constraints.txt: b is not audited: not there", "2 p"]),
    ],
)
def test_an_audit_is_of_every_package(tmp_path, capsys, monkeypatch, parts, others, code, told):
    for name, of in zip(supply.LOCKS, (parts, others), strict=True):
        (tmp_path / name).write_text(json.dumps({"dependencies": of}) if of else "")
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\ncase $4 in *@[0-9]*) ;; *) exit 2; esac\nshift 9\ncat $1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(supply, "UV", uv)
    monkeypatch.setattr(supply, "ROOT", tmp_path)
    assert supply.main("audit") == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(told) and all(map(str.startswith, lines, told)), lines


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("kill -INT $PPID; sleep 9", "130stopped; the locks are as they were\n"),
        ("exit 2", "error: uv ended with 2; the locks are as they were"),
    ],
)
def test_locks_that_are_not_made_to_their_end_stay(tmp_path, capsys, monkeypatch, ends, said):
    for name in supply.LOCKS:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho broken > constraints.txt\n{ends}\n")
    uv.chmod(0o755)
    monkeypatch.setattr(supply, "UV", uv)
    monkeypatch.setattr(supply, "ROOT", tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(supply.main("lock"))
    except SystemExit as ended:
        assert f"{ended.code}{capsys.readouterr().err}" == said
    finally:
        signal.signal(signal.SIGINT, before)
    for name in supply.LOCKS:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.promise("what is installed is exactly what the lock says")
def test_the_other_lock_is_what_is_installed_to_acquire(record_property):
    given = os.environ.get("BRAINVAE_ACQUIRE_PYTHON", ROOT / ".venv-acquire/bin/python")
    if not Path(given).exists():
        pytest.skip(f"no acquisition environment: {given} (BRAINVAE_ACQUIRE_PYTHON) does not exist")
    (site,) = Path(given).parent.parent.glob("lib/python*/site-packages")
    here = {"python_version": site.parent.name.removeprefix("python")}
    pinned = supply.packages("constraints-acquire.txt")
    locked = {n: v for n, v, on, _ in pinned if not on or Marker(on).evaluate(here)}
    found = importlib.metadata.distributions(path=[str(site)])
    assert {normal(d.name): d.version for d in found} == locked
    record_property("cases", len(locked))

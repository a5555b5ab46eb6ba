"""What is installed is what the lock says, by hash, and no line of it names a host."""

import importlib.metadata
import json
import os
import re
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

"""What lies in a folder of acquired planes: experiments, kept sections, manifest and ledger."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

FORMAT = 1
MANIFEST = ("id", "sha256", "bytes", "zip_bytes")  # what is read of a line
COMMAND = "python -m brainvae_core.cohorts.allen"


class AcquisitionError(ValueError):
    """A folder or an option that nothing can be acquired with: one line with what to do."""


class StorageError(Exception):
    """The disk does not take what comes (full, read-only): trying on is no use."""


@dataclass(frozen=True)
class Ledger:
    """What became of every experiment asked for.

    Experiment ids are str; `kept` includes those `kept_before` this run; `refused` says why each of
    the others was not kept, as far as it was tried.
    """

    asked: tuple[str, ...]
    kept: tuple[str, ...]
    kept_before: tuple[str, ...]
    refused: dict[str, str]
    bytes_moved: int  # over the network
    bytes_whole: int  # of the zips of the brains kept meanwhile, in all
    n_besides: int = 0  # brains that the folder keeps from earlier and that were not asked for

    @property
    def not_tried(self) -> tuple[str, ...]:
        """Experiments that no attempt has been made at."""
        return tuple(i for i in self.asked if i not in self.kept and i not in self.refused)

    def __str__(self):
        lines = [
            f"{len(self.asked)} asked for, {len(self.kept)} kept ({len(self.kept_before)} of them "
            f"before), {len(self.refused)} refused, {len(self.not_tried)} not tried",
            f"{self.bytes_moved / 1e6:.1f} MB moved; the zips of the brains kept now have "
            f"{self.bytes_whole / 1e6:.1f} MB in all",
        ]
        if self.n_besides:
            lines.append(
                f"{self.n_besides} more are kept from earlier and were not asked for: they stay "
                "in the folder and out of the cohort"
            )
        return "\n".join(
            [*lines, *(f"  {reason}" for reason in sorted(self.refused.values(), key=cause))]
        )


def cause(reason: str) -> str:
    """What a refusal has in common with others: without the brain, the address and what follows."""
    without_brain = re.sub(r"^brain \d+: ", "", reason)
    return re.sub(r"[;,]?( \d+ times,)?( the zip at| from| at| of)? https?://.*", "", without_brain)


def read_acquired(folder: str | Path, plane: int | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Every kept brain's plane, each verified against the manifest, and what is known of it.

    Returns sections, (n, 320, 456) uint16, in the order of ``experiments.csv``, and a DataFrame by
    experiment id (str).

    Raises
    ------
    AcquisitionError
        Nothing is kept, a kept plane is missing or damaged, or the folder holds another plane.
    """
    folder = Path(folder)
    if plane is not None and (found := _requested(folder)[0]) != plane:
        raise AcquisitionError(
            f"{folder} holds plane {found}, not plane {plane}; set plane, or use another folder"
        )
    manifest = read_manifest(folder)
    ids = [id for id in read_experiments(folder) if id in manifest]
    if not ids:
        raise AcquisitionError(f"no brain is kept in {folder}; run {COMMAND} {folder}")
    for id in ids:
        if not is_kept(folder, manifest[id]):
            raise AcquisitionError(
                f"{_section_path(folder, id)} is missing or damaged; fetch it again with {COMMAND} "
                f"{folder}"
            )
    sections = [np.load(_section_path(folder, id), allow_pickle=False) for id in ids]
    metadata = pd.read_csv(folder / "experiments.csv", dtype={"id": str}).set_index("id")
    return np.stack(sections).astype(np.uint16), metadata.drop(columns=["url", "refused"]).loc[ids]


def read_ledger(folder: str | Path) -> Ledger:
    """The ledger of all runs so far, from what lies in the folder; nothing is fetched.

    `refused` is the last run's; bytes are those of the brains that are kept.
    """
    folder = Path(folder)
    experiments, manifest = read_experiments(folder), read_manifest(folder)
    kept = tuple(id for id in experiments if id in manifest and is_kept(folder, manifest[id]))
    refused = without_address(experiments)
    if (folder / "refused.csv").exists():
        table = pd.read_csv(folder / "refused.csv", dtype=str)
        refused |= dict(zip(table["id"], table["reason"], strict=True))
    refused = {id: why for id, why in refused.items() if id in experiments and id not in kept}
    moved, whole = (sum(manifest[id][k] for id in kept) for k in ("bytes", "zip_bytes"))
    besides = len(set(manifest) - set(experiments))
    return Ledger(tuple(experiments), kept, kept, refused, moved, whole, besides)


def read_experiments(folder: Path) -> dict[str, tuple[str, str]]:
    """Address of each experiment's zip, and why there is none, in the order asked for."""
    path = folder / "experiments.csv"
    if not path.is_file():
        raise AcquisitionError(f"no {path}; run {COMMAND} {folder} without --no-ask")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        ids = table["id"]
        if ids.duplicated().any() or not ids.str.fullmatch("[0-9]{1,18}").all():
            raise ValueError("has ids that are no number or occur twice")
        return dict(zip(ids, zip(table["url"], table["refused"], strict=True), strict=True))
    except (KeyError, ValueError) as error:
        said = f"has no column {error}" if isinstance(error, KeyError) else error
        raise AcquisitionError(f"{path} {said}; remove it and ask again") from error


def without_address(experiments: dict) -> dict[str, str]:
    """The experiments that have no zip, and why."""
    none = "the service gave no address"
    return {i: f"brain {i}: {why or none}" for i, (url, why) in experiments.items() if not url}


# ---- writing ----


@contextmanager
def writing(path):
    """Tell errors of the local disk from those of the network: OSError becomes StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path} ({error.strerror or error}); what was kept stays kept: make room "
            "or make the folder writable, then run the same command again"
        ) from error


@contextmanager
def locked(folder: Path):
    """One acquisition a folder; the lock ends with its process, however that ends."""
    with writing(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AcquisitionError(
                f"another acquisition is at work in {folder}; wait for it, or use another folder"
            ) from None
        yield
    finally:
        os.close(handle)


def agree(folder: Path, plane: int, channel: str):
    """Make the request the folder's own, or raise where the folder has another."""
    path = folder / "request.json"
    if not path.exists():
        asked = {"format": FORMAT, "plane": plane, "channel": channel}
        return _write(path, (json.dumps(asked) + "\n").encode())
    own = _requested(folder)
    if own != (plane, channel):
        raise AcquisitionError(
            f"{folder} holds plane {own[0]} of channel {own[1]}, not plane {plane} of {channel}; "
            "use another folder"
        )


def _requested(folder):
    path = folder / "request.json"
    try:
        found = json.loads(path.read_bytes())
        version, own = found["format"], (found["plane"], found["channel"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AcquisitionError(f"{path} is damaged ({error}); use another folder") from error
    if version != FORMAT:
        raise AcquisitionError(
            f"{folder} is of format {version}; {FORMAT} is read: update it or use another folder"
        )
    return own


def read_manifest(folder: Path) -> dict[str, dict]:
    """The last line of each kept brain; a torn last line is none."""
    path = folder / "manifest.jsonl"
    if not path.exists():
        return {}
    *lines, _ = path.read_bytes().split(b"\n")
    manifest = {}
    for number, line in enumerate(lines, 1):
        try:
            facts = json.loads(line)
            manifest[facts["id"]] = {key: facts[key] for key in MANIFEST}
        except (ValueError, KeyError, TypeError) as error:
            raise AcquisitionError(
                f"line {number} of {path} is damaged; delete it, and that brain is fetched again"
            ) from error
    return manifest


def save_section(folder: Path, id: str, section: np.ndarray):
    """A brain's plane, whole or not at all."""
    content = io.BytesIO()
    np.save(content, section, allow_pickle=False)
    _write(_section_path(folder, id), content.getvalue())


def add_to_manifest(folder: Path, facts: dict):
    """Add a line on a saved section; a torn last line is dropped."""
    path = folder / "manifest.jsonl"
    sha256 = hashlib.sha256(_section_path(folder, facts["id"]).read_bytes()).hexdigest()
    facts = {**facts, "date": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": sha256}
    before = path.read_bytes() if path.exists() else b""
    _write(path, before[: before.rfind(b"\n") + 1] + json.dumps(facts).encode() + b"\n")


def write_refused(folder: Path, experiments: dict, refused: dict):
    """The table of what this run could not keep, and why."""
    rows = [(id, experiments[id][0], reason) for id, reason in sorted(refused.items())]
    table = pd.DataFrame(rows, columns=["id", "url", "reason"])
    _write(folder / "refused.csv", table.to_csv(index=False).encode())


def is_kept(folder: Path, facts: dict) -> bool:
    """Whether a manifest line's section is there, byte for byte."""
    try:
        content = _section_path(folder, facts["id"]).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return False
    return hashlib.sha256(content).hexdigest() == facts["sha256"]


def _section_path(folder, id):
    return folder / "sections" / f"{id}.npy"


def _write(path, content):
    """All of the file or nothing of it."""
    beside = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

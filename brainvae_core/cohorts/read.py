"""Folders of registered brains: a lab's own, and those that an acquisition keeps."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainvae_core.cohorts.brain_table import normal, read_brain_table
from brainvae_core.cohorts.files import brainreg_folders, not_fetched
from brainvae_core.cohorts.volumes import (
    ACCEPTED,
    FORMATS,
    check_orientation,
    read_section,
    suffix_of,
)
from brainvae_core.disk import first_line, sha256_of, unsealed

COMMAND = "python -m brainvae_core.cohorts.allen"
ACQUISITION_FORMAT = 2
CHECKSUMS, LISTED = "checksums.json", ("experiments.csv", "request.json", "refused.csv")
MANIFEST = ("id", "sha256", "bytes", "zip_bytes")  # what is read of a line


def read_sections(
    folder: str | Path, plane: int = 286, orientation: str = "header"
) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """The same section of every brain in a folder.

    Parameters
    ----------
    folder : path
        Every brainreg folder and every file that `read_section` reads is a brain; its name without
        suffix is its id. A table ``metadata.csv`` may say more: ids in its first column, anything
        but quality control's names in the others. Rows of brains that are not there are passed
        over.
    plane, orientation
        As for `read_section`.

    Returns
    -------
    sections : ndarray of float32, shape (n, 320, 456) or the size that most single sections have
    metadata : DataFrame, by brain id
    refused : dict of str to str
        Brains that could not be read and other entries of the folder, and why.
    """
    check_orientation(orientation)
    folder = Path(folder)
    brains, refused = _brains(folder)
    metadata = pd.DataFrame(index=pd.Index([*brains], name="id", dtype=str))
    if os.path.lexists(table := folder / "metadata.csv"):
        metadata = read_brain_table(table, list(brains))
    sections = {}
    for brain, path in tqdm(brains.items(), desc="sections", unit="brain"):
        try:
            section = read_section(path, plane, orientation)
            if section.min() == section.max():
                raise ValueError(f"it has the one grey value {section.min():g} everywhere")
            sections[brain] = section
        except Exception as error:  # of whichever library: it stops this brain, not the folder
            line = first_line(error)
            refused[brain] = line.removeprefix(f"{path} is ").removeprefix(f"{path}: ")
    if not sections:
        first = next(iter(brains))
        raise ValueError(
            f"none of the {len(brains)} brains in {folder} can be read; the first, {first!r}: "
            f"{refused[first]}"
        )
    shapes = Counter(section.shape for section in sections.values())
    (usual, n), *others = shapes.most_common()
    if any(count == n for _, count in others):
        counts = ", ".join(f"{count} of {h} × {w}" for (h, w), count in shapes.items())
        raise ValueError(f"sections in {folder} differ in shape ({counts}); give one shape")
    for brain in [brain for brain, section in sections.items() if section.shape != usual]:
        (h, w), (height, width) = sections.pop(brain).shape, usual
        refused[brain] = f"its section is {h} × {w}, those of {n} others {height} × {width}"
    return np.stack(list(sections.values())), metadata.loc[list(sections)], refused


def source_files(folder: str | Path) -> list[Path]:
    """The files that `read_sections` reads of a folder, in order; links are left as they are."""
    table = [Path(folder, "metadata.csv")]
    entries = sorted(p for p in Path(folder).iterdir() if not p.name.startswith("."))
    return [f for path in entries for f in brain_files(path)] + [t for t in table if t.is_file()]


def is_one_brain(path: Path) -> bool:
    """Whether a path is a brain by itself: a file, brainreg's folder, or brainmapper's."""
    if path.is_file():
        return suffix_of(path) in FORMATS
    return any((path / sub / "brainreg.json").is_file() for sub in ("", "registration"))


def brain_id(path: Path) -> str:
    """A brain's id: its file's name without the suffix, or its folder's."""
    return normal(path.name[: -len(suffix_of(path))] if path.is_file() else path.name)


def brain_files(path: Path) -> list[Path]:
    """The files that `read_section` may read of a brain: a file itself, or brainreg's."""
    if not path.is_dir():
        return [path] if path.is_file() and suffix_of(path) in FORMATS else []
    names = ("brainreg.json", "downsampled_standard*.tif*")
    try:
        return [f for at in brainreg_folders(path) for name in names for f in sorted(at.glob(name))]
    except OSError:  # a folder that nobody may enter
        return []


def _brains(folder):
    """Paths by brain id, and what is no brain."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of brains at {folder}")
    if (folder / "brainreg.json").is_file():
        raise ValueError(f"{folder} is one brain; give the folder that holds it")
    brains, others = {}, {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "metadata.csv":
            continue
        try:
            is_file = path.is_file() and suffix_of(path) in FORMATS
            if not (is_file or brainreg_folders(path)):
                others[path.name] = _what_it_is(path)
                continue
        except OSError as error:  # such as lost+found, which nobody may enter
            others[path.name] = f"it may not be read: {error.strerror or error}"
            continue
        if (brain := brain_id(path)) in brains:
            raise ValueError(
                f"{brains[brain].name} and {path.name} in {folder} are both brain {brain!r}; "
                "rename one"
            )
        brains[brain] = path
    if not brains:
        raise ValueError(f"no brain in {folder}; {ACCEPTED} is one")
    return brains, others


def _what_it_is(path):
    """Why an entry of a folder is no brain."""
    if path.stem.lower() == "metadata":
        return "no brain; the table of brains has the name metadata.csv"
    missing = "a folder without brainreg.json" if path.is_dir() else not_fetched(path)
    return missing or "of no format that is read"


# ---- what an acquisition keeps ----


class AcquisitionError(ValueError):
    """A folder or an option that nothing can be acquired with: one line with what to do."""


@contextmanager
def _told(path, instead):
    """Whatever is wrong with a file of an acquisition as one line that names it."""
    try:
        yield
    except OSError as error:
        raise AcquisitionError(f"{path} cannot be read ({error.strerror}); {instead}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise AcquisitionError(f"{path} is damaged ({why}); {instead}") from error


@dataclass(frozen=True)
class Ledger:
    """What became of every experiment asked for, by its id."""

    wanted: tuple[str, ...]
    kept: tuple[str, ...]  # those kept before this run included
    kept_before: tuple[str, ...]
    refused: dict[str, str]  # why each of the others was not kept, as far as it was tried
    bytes_moved: int  # over the network
    bytes_whole: int  # of the zips of the brains kept meanwhile, in all

    @property
    def not_tried(self) -> tuple[str, ...]:
        """Experiments that no attempt has been made at."""
        return tuple(i for i in self.wanted if i not in self.kept and i not in self.refused)

    def __str__(self):
        reasons = sorted(self.refused.values(), key=cause)
        return "\n".join(
            [
                f"{len(self.wanted)} asked for, {len(self.kept)} kept ({len(self.kept_before)} of "
                f"them before), {len(self.refused)} refused, {len(self.not_tried)} not tried",
                f"{self.bytes_moved / 1e6:.1f} MB moved; the zips of the brains kept now have "
                f"{self.bytes_whole / 1e6:.1f} MB in all",
                *(f"  {reason}" for reason in reasons),
            ]
        )


def cause(reason: str) -> str:
    """What a refusal has in common with others: without the brain, the address and what follows."""
    without_brain = re.sub(r"^brain \d+: ", "", reason)
    return re.sub(r"[;,]?( \d+ times,)?( the zip at| from| at| of)? https?://.*", "", without_brain)


def read_acquired(folder: str | Path, plane: int | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Every kept brain's plane, each verified against the manifest, and what is known of it.

    Sections are (n, 320, 456) uint16, in the order of ``experiments.csv``. Nothing kept, a missing
    or damaged section, or another plane is an error.
    """
    folder = Path(folder)
    if plane is not None and (found := read_request(folder)[0]) != plane:
        raise AcquisitionError(f"{folder} holds plane {found}, not plane {plane}; set plane")
    manifest = read_manifest(folder)
    ids = [id for id in read_experiments(folder) if id in manifest]
    if not ids:
        none = f"no brain is kept in {folder}: manifest.jsonl lists none of experiments.csv"
        raise AcquisitionError(f"{none}; run {COMMAND} {folder}")
    for id in ids:
        if not is_saved(folder, manifest[id]):
            raise AcquisitionError(
                f"{section_path(folder, id)} is missing or damaged; fetch it again with {COMMAND} "
                f"{folder}"
            )
    sections = [np.load(section_path(folder, id), allow_pickle=False) for id in ids]
    table = folder / "experiments.csv"  # where only an empty cell is no value
    metadata = pd.read_csv(table, dtype={"id": str}, keep_default_na=False, na_values=[""])
    metadata = metadata.set_index("id")
    return np.stack(sections).astype(np.uint16), metadata.drop(columns=["url", "refused"]).loc[ids]


def read_ledger(folder: str | Path) -> Ledger:
    """The ledger of all runs so far, from what lies in the folder; nothing is fetched.

    `refused` is the last run's; bytes are those of the brains that are kept.
    """
    folder = Path(folder)
    experiments, manifest = read_experiments(folder), read_manifest(folder)
    kept = tuple(id for id in experiments if id in manifest and is_saved(folder, manifest[id]))
    refused = without_address(experiments)
    if (folder / "refused.csv").exists():
        with _told(folder / "refused.csv", "delete it"):
            table = pd.read_csv(folder / "refused.csv", dtype=str, keep_default_na=False)
            refused |= dict(zip(table["id"], table["reason"], strict=True))
        check_listed(folder, "refused.csv", "delete it")
    refused = {id: why for id, why in refused.items() if id in experiments and id not in kept}
    moved, whole = (sum(manifest[id][k] for id in kept) for k in ("bytes", "zip_bytes"))
    return Ledger(tuple(experiments), kept, kept, refused, moved, whole)


def read_request(folder: Path) -> tuple[int, str]:
    """The plane and channel that a folder is for."""
    path = folder / "request.json"
    with _told(path, "use another folder"):
        found = json.loads(path.read_bytes())
        version, own = found["format"], (found["plane"], found["channel"])
    if version != ACQUISITION_FORMAT:
        line = f"{path} is of format {version!r:.20}; {ACQUISITION_FORMAT} is read"
        raise AcquisitionError(f"{line}: update it or use another folder")
    if type(own[0]) is not int or type(own[1]) is not str:
        raise AcquisitionError(f"{path} is damaged: {own!r:.60}; use another folder")
    check_listed(folder, path.name, "use another folder")
    return own


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the tables of an acquisition, by name, as it left them."""
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    with _told(path, "delete it to take the tables as they are"):
        found = unsealed(path.read_bytes())
        if found.keys() - LISTED:
            raise ValueError("it is not what was written")
        return {name: str(sha256) for name, sha256 in found.items()}


def check_listed(folder: Path, name: str, instead: str) -> None:
    """Refuse a table that is not as an acquisition left it; one that it does not list is taken."""
    with _told(folder / name, instead):
        found = sha256_of(folder / name)
    if checksums(folder).get(name, found) != found:
        raise AcquisitionError(
            f"{folder / name} is damaged, or was edited: it is not as it was left; {instead}, or "
            f"delete {CHECKSUMS} beside it to take it as it is"
        )


def read_experiments(folder: Path) -> dict[str, tuple[str, str]]:
    """Address of each experiment's zip, and why there is none, in the order asked for."""
    path = folder / "experiments.csv"
    if not path.is_file():
        raise AcquisitionError(f"no {path}; run {COMMAND} {folder} without --no-ask")
    with _told(path, "remove it and ask again"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        ids = table["id"]
        if ids.duplicated().any() or not ids.str.fullmatch("[0-9]{1,18}").all():
            raise ValueError("it has ids that are no number or occur twice")
        found = dict(zip(ids, zip(table["url"], table["refused"], strict=True), strict=True))
    check_listed(folder, path.name, "remove it and ask again")
    return found


def without_address(experiments: dict) -> dict[str, str]:
    """The experiments that have no zip, and why."""
    none = "the service gave no address"
    return {i: f"brain {i}: {why or none}" for i, (url, why) in experiments.items() if not url}


def read_manifest(folder: Path) -> dict[str, dict]:
    """The last line of each kept brain; a torn last line is none."""
    path = folder / "manifest.jsonl"
    if not path.exists():
        return {}
    with _told(path, "see to its permissions"):
        *lines, _ = path.read_bytes().split(b"\n")
    manifest = {}
    for number, line in enumerate(lines, 1):
        with _told(f"line {number} of {path}", "delete it"):
            facts = unsealed(line, "line_sha256")
            manifest[facts["id"]] = {key: facts[key] for key in MANIFEST}
    return manifest


def is_saved(folder: Path, facts: dict) -> bool:
    """Whether a manifest line's section is there, byte for byte."""
    try:
        return sha256_of(section_path(folder, facts["id"])) == facts["sha256"]
    except OSError:
        return False


def section_path(folder: Path, id: str) -> Path:
    """Where a brain's plane is kept."""
    return folder / "sections" / f"{id}.npy"

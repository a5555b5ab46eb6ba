"""One coronal plane a mouse of the Allen Mouse Brain Connectivity Atlas, acquired brain by brain.

``python -m brainvae_core.cohorts.allen FOLDER`` asks which experiments there are and where their
zips lie, fetches of each zip only what one channel needs, and keeps one plane of it. Stopped in any
way it goes on with the next brain when it is started again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainvae_core.cohorts.fetch import META, fetch_volume, read_metaimage
from brainvae_core.cohorts.orientation import VolumeError, coronal_plane
from brainvae_core.cohorts.read import (
    ACQUISITION_FORMAT,
    CHECKSUMS,
    COMMAND,
    AcquisitionError,
    Ledger,
    check_listed,
    checksums,
    is_saved,
    read_experiments,
    read_ledger,
    read_manifest,
    read_request,
    section_path,
    without_address,
)
from brainvae_core.cohorts.volumes import SHAPE_25, in_atlas_space, read_volume
from brainvae_core.cohorts.web import FetchError, Meter, Session, UnansweredError
from brainvae_core.disk import digest_of, file_lock, sha256_of, stoppable, write

IN_A_ROW = 10  # brains that could not be fetched, after which the service is taken to be down


def acquire(
    folder: str | Path,
    *,
    plane: int = 286,
    channel: str = "red",
    workers: int = 2,
    rate_limit: float | None = None,
    retries: int = 5,
    timeout: float = 30,
    sleep=None,
) -> Ledger:
    """Keep one plane of every experiment in ``experiments.csv`` that is not kept yet.

    ``plane`` is an index on the AP axis of the 25 µm grid; of each zip ``resampled_<channel>`` is
    read, red being auto-fluorescence; ``rate_limit`` is bytes/s of all workers, ``timeout``
    and ``retries`` are `fetch_volume`'s. Raises `AcquisitionError` for what nothing can be acquired
    with, OSError where the folder takes no more; what was kept stays kept.
    """
    folder = Path(folder)
    _check_options(plane, channel, workers, rate_limit, retries, timeout)
    experiments = read_experiments(folder)
    meter = Meter(rate_limit, sleep)
    with locked(folder), ThreadPoolExecutor(workers) as pool:
        check_request(folder, plane, channel)
        (folder / "sections").mkdir(exist_ok=True)
        manifest, whole, in_a_row = read_manifest(folder), 0, 0
        list_checksums(folder, "experiments.csv", "request.json")
        kept = tuple(i for i in experiments if i in manifest and is_saved(folder, manifest[i]))
        refused = {i: why for i, why in without_address(experiments).items() if i not in kept}
        fetch = partial(_fetch_plane, plane, channel, meter, timeout, retries)
        new = [i for i in experiments if i not in kept and i not in refused]
        n, every = len(experiments), 0.5 if sys.stderr.isatty() else 30
        bar = tqdm(total=n, initial=n - len(new), unit="brain", mininterval=every)
        try:
            todo = {pool.submit(fetch, i, experiments[i][0]): i for i in new}
            for brain in as_completed(todo):
                id = todo.pop(brain)  # and with it the section, once it is saved
                try:
                    section, facts = brain.result()
                    save_section(folder, section, facts)
                    whole, in_a_row = whole + facts["zip_bytes"], 0
                except FetchError as error:
                    refused[id] = f"brain {id}: {error}"
                    in_a_row = in_a_row + 1 if isinstance(error, UnansweredError) else 0
                except VolumeError as error:
                    in_a_row = 0
                    refused[id] = (
                        f"brain {id}: {error}; the zip at {experiments[id][0]} is of no use: leave "
                        "the brain out with --without, or report it to the service"
                    )
                bar.set_postfix_str(f"{meter.n / 1e6:.0f} MB, {len(refused)} refused", False)
                bar.update()
                if in_a_row == IN_A_ROW:
                    line = f"{in_a_row} brains in a row could not be fetched: is the service down?"
                    print(f"{line} The same command goes on later", file=sys.stderr)
                    break
        finally:
            meter.stop.set()
            pool.shutdown(cancel_futures=True)
            bar.close()
            rows = [(id, experiments[id][0], reason) for id, reason in sorted(refused.items())]
            table = pd.DataFrame(rows, columns=["id", "url", "reason"])
            list_checksums(folder, without="refused.csv")
            write(folder / "refused.csv", table.to_csv(index=False).encode())
            list_checksums(folder, "refused.csv")
        moved = {"bytes_moved": meter.n, "bytes_whole": whole}
        return replace(read_ledger(folder), kept_before=kept, **moved)


def _check_options(plane, channel, workers, rate_limit, retries, timeout):
    for option, is_good, allowed in (
        (f"{plane=}", 0 <= plane < SHAPE_25[0], f"0 to {SHAPE_25[0] - 1}"),
        (f"{channel=!s}", re.fullmatch("[a-z]+", channel), "a name such as red, green or blue"),
        (f"{workers=}", workers >= 1, "1 or more"),
        (f"{retries=}", retries >= 0, "0 or more"),
        (f"{timeout=}", timeout > 0, "more than 0 seconds"),
        (f"{rate_limit=}", rate_limit is None or rate_limit > 0, "more than 0"),
    ):
        if not is_good:
            raise AcquisitionError(f"{option}; give {allowed}")


def _fetch_plane(plane, channel, meter, timeout, retries, id, url):
    """A brain's plane, and what the manifest says of it."""
    with Session() as session:
        found = fetch_volume(session, url, channel, meter, timeout, retries)
    facts = {"id": id, "url": url, "crc32": found.crc32, "bytes": found.moved}
    facts |= {"zip_bytes": found.zip_bytes, "plane": plane, "channel": channel}
    return registered_plane(found.contents, plane), facts


def registered_plane(contents: dict[str, bytes], plane: int) -> np.ndarray:
    """A coronal plane, (320, 456), of the volume in the first file; .mhd has its voxels in another.

    Raises `VolumeError` where the content is no 8- or 16-bit volume on the CCF's 25 µm grid, or
    runs otherwise than its header says.
    """
    name, content = next(iter(contents.items()))
    is_meta = name.lower().endswith(META)
    volume = read_metaimage(contents) if is_meta else read_volume(name, io.BytesIO(content))
    voxels, spacing = volume.voxels, volume.spacing_um or ()
    if sorted(voxels.shape) != sorted(SHAPE_25) or set(np.round(spacing, 3)) != {25}:
        size, grid = (" × ".join(map(str, shape)) for shape in (voxels.shape, SHAPE_25))
        um = " × ".join(f"{s:g}" for s in spacing) or "no size"
        raise VolumeError(
            f"volume is of {size} voxels of {um} µm; {grid} in any order, of 25 µm, are read"
        )
    if voxels.dtype.kind not in "iu" or voxels.dtype.itemsize > 2 or volume.scaling != (1, 0):
        raise VolumeError(
            f"voxels are {voxels.dtype} scaled by {volume.scaling}; whole numbers of 8 or 16 bit "
            "as they are are read"
        )
    check_order(voxels)
    found = coronal_plane(voxels, in_atlas_space(volume)[0], plane)
    if found.min() == found.max() or found.min() < 0:
        raise VolumeError(f"plane {plane} has grey values {found.min()} to {found.max()} only")
    return found.astype(found.dtype.newbyteorder("<"))


def check_order(voxels: np.ndarray) -> None:
    """Refuse voxels whose neighbours are far more alike in another order of axes than the header's.

    Of noise nothing is told; in brains any other order is at least five times as rough.
    """
    flat, rough = voxels.reshape(-1, order="F"), {}
    stride = 499 if flat.size > 1e7 else 97  # primes: no plane or line is missed
    for shape in permutations(voxels.shape):
        steps = (shape[0], shape[0] * shape[1])
        some = np.arange(0, flat.size - max(steps), stride)
        here = flat[some].astype(np.int32)
        rough[shape] = sum(np.abs(here - flat[some + step]).sum() for step in steps)
    smoothest = min(rough, key=rough.get)
    if rough[smoothest] < 0.8 * rough[voxels.shape]:
        stated, found = (" × ".join(map(str, shape)) for shape in (voxels.shape, smoothest))
        raise VolumeError(f"the header says {stated} voxels, and the voxels run as {found} would")


# ---- writing ----


@contextmanager
def locked(folder: Path):
    """One acquisition a folder; the lock ends with its process, however that ends."""
    with file_lock(folder / "acquisition") as lock:
        if not lock:
            raise AcquisitionError(f"another acquisition is at work in {folder}")
        yield lock


def check_request(folder: Path, plane: int, channel: str):
    """Make the request the folder's own, or raise where the folder has another."""
    path = folder / "request.json"
    if not path.exists():
        request = {"format": ACQUISITION_FORMAT, "plane": plane, "channel": channel}
        return write(path, (json.dumps(request) + "\n").encode())
    own = read_request(folder)
    if own != (plane, channel):
        raise AcquisitionError(
            f"{folder} holds plane {own[0]} of channel {own[1]}, not plane {plane} of {channel}; "
            "use another folder"
        )


def save_section(folder: Path, section: np.ndarray, facts: dict):
    """Save a brain's plane, then list it in the manifest, of which a torn last line is dropped."""
    content = io.BytesIO()
    np.save(content, section, allow_pickle=False)
    write(section_path(folder, facts["id"]), content.getvalue())
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()
    facts = {**facts, "date": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": sha256}
    facts["line_sha256"] = digest_of(facts)
    path = folder / "manifest.jsonl"
    before = path.read_bytes() if path.exists() else b""
    write(path, before[: before.rfind(b"\n") + 1] + json.dumps(facts).encode() + b"\n")


def list_checksums(folder: Path, *names: str, without: str = ""):
    """Keep the checksums of tables that were just written, or are taken as they are.

    That of a table about to be written is taken away: no end between the two tells of damage.
    """
    known = checksums(folder)
    new = known | {name: sha256_of(folder / name) for name in names}
    new.pop(without, None)
    if new != known:
        sealed = new | {"sha256": digest_of(new)}  # in one order, whatever was listed first
        content = json.dumps(sealed, indent=1, sort_keys=True) + "\n"
        write(folder / CHECKSUMS, content.encode())


# ---- the command line ----


def _ask(python, folder, options):
    """Run the asking program in an environment of its own, because AllenSDK needs an older numpy.

    Returns its exit code: 1 where it was refused something and there is still what to acquire.
    """
    if not Path(python).is_file():
        raise AcquisitionError(
            f"no acquisition environment at {python}; `make acquire` makes it (conda: "
            "environment-acquire.yml); or name its python with --acquire-python, or give --no-ask "
            "where experiments.csv is there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock:
        if (folder / "experiments.csv").exists():  # addresses in it are taken from it again
            check_listed(folder, "experiments.csv", "remove it and ask again")
        list_checksums(folder, without="experiments.csv")
        command = [python, Path(__file__).with_name("ask_allen.py"), folder, *options]
        # It has the lock too: should it outlive this process, no other one meets it.
        code = subprocess.run(command, check=False, pass_fds=[lock.fileno()]).returncode
        if code not in (0, 1):
            raise AcquisitionError(f"asking the service failed with code {code}; it said why")
        if (folder / "experiments.csv").exists():
            list_checksums(folder, "experiments.csv")
    return code


@stoppable("stopped; what was kept stays kept. The same command goes on")
def main(arguments=None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        usage="%(prog)s FOLDER [options] [options for asking]",
        description=__doc__.partition("\n")[0],
        epilog="Options for asking, such as --sex F --limit 40, are in book/acquisition.md.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", type=Path, help="acquisition folder")
    add("--plane", type=int, default=286, help="index on the AP axis, 25 µm")
    add("--channel", default="red", help="red is auto-fluorescence")
    add("--workers", type=int, default=2, help="brains fetched at a time")
    add("--rate-limit", type=float, metavar="MB/s", help="of all workers together")
    add("--timeout", type=float, default=30, help="seconds without bytes")
    add("--retries", type=int, default=5, help="failures after the first")
    add("--acquire-python", default=".venv-acquire/bin/python", metavar="PYTHON")
    add("--no-ask", action="store_true", help="take experiments.csv as it is")
    own, asking = parser.parse_known_args(arguments)
    if own.no_ask and asking:
        parser.error(f"--no-ask, and options for asking: {' '.join(asking)}; give one of the two")
    options = vars(own).copy()
    folder, python, no_ask = (options.pop(k) for k in ("folder", "acquire_python", "no_ask"))
    options["rate_limit"] = None if own.rate_limit is None else 1e6 * own.rate_limit
    try:
        # Before asking, which rewrites the table of experiments.
        _check_options(**options)
        if (folder / "request.json").exists():
            check_request(folder, own.plane, own.channel)
        refused = 0 if no_ask else _ask(python, folder, asking)
        ledger = acquire(folder, **options)
    except AcquisitionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the disk's: what fails of the network is told of its brain
        why = f"{error.filename or folder}: {error.strerror or error}; what was kept stays kept"
        print(f"error: {why}: see to room and permission, then run it again", file=sys.stderr)
        return 2
    print(ledger)
    return max(refused, int(len(ledger.kept) < len(ledger.wanted)))


if __name__ == "__main__":
    sys.exit(main())

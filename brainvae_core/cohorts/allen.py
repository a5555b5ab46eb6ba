"""One coronal plane a mouse of the Allen Mouse Brain Connectivity Atlas, acquired brain by brain.

``python -m brainvae_core.cohorts.allen FOLDER`` asks which experiments there are and where their
zips lie, fetches of each zip only what one channel needs, and keeps one plane of it. Stopped in any
way it goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import requests
from tqdm import tqdm

from brainvae_core.cohorts.acquired import (
    COMMAND,
    AcquisitionError,
    Ledger,
    add_to_manifest,
    agree,
    is_kept,
    locked,
    read_acquired,
    read_experiments,
    read_ledger,
    read_manifest,
    save_section,
    write_refused,
)
from brainvae_core.cohorts.fetch import FetchError, RateLimit, UnansweredError, fetch_members
from brainvae_core.cohorts.sparse import StorageError, discard, writing
from brainvae_core.cohorts.volumes import CCF_SHAPE_25, VolumeError
from brainvae_core.cohorts.zipped import DamagedError, channel_members, read_zipped_plane

__all__ = ["AcquisitionError", "Ledger", "StorageError", "acquire", "read_acquired", "read_ledger"]

TRIES = 3  # fetches of a zip whose checksums fail
IN_A_ROW = 10  # brains that could not be fetched, after which the service is taken to be down


class _StoppedError(Exception):
    """Another worker met what ends the acquisition."""


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

    Parameters
    ----------
    folder : path
        Acquisition folder, with ``experiments.csv``.
    plane : int
        Index on the AP axis of the 25 µm grid.
    channel : str
        The volume ``resampled_<channel>`` is read; ``"red"`` is auto-fluorescence.
    workers : int
        Brains fetched at a time.
    rate_limit : float, optional
        Bytes per second of all workers together.
    retries : int
        Failures in a row after which a brain is given up.
    timeout : float
        Seconds without bytes that are a failure.
    sleep : callable, optional
        What waits between tries.

    Raises
    ------
    AcquisitionError
        No experiments, another acquisition at work in the folder, a folder of another plane or
        channel or of a newer format, or an option out of range.
    StorageError
        The folder cannot be written, or the disk is full. What was kept stays kept.
    """
    folder = Path(folder)
    _check_options(plane, channel, workers, rate_limit, retries, timeout)
    experiments = read_experiments(folder)
    with locked(folder):
        agree(folder, plane, channel)
        run = _Acquisition(folder, plane, channel, retries, timeout, sleep)
        if rate_limit is not None:
            run.limit = RateLimit(rate_limit, run.sleep)
        return run.of(experiments, workers)


def _check_options(plane, channel, workers, rate_limit, retries, timeout):
    if not 0 <= plane < CCF_SHAPE_25[0]:
        raise AcquisitionError(
            f"plane {plane} is outside the grid; give 0 to {CCF_SHAPE_25[0] - 1}"
        )
    if not re.fullmatch(r"[a-z]+", channel):
        raise AcquisitionError(f"channel {channel!r} is no name; red, green and blue are")
    for name, value, good, allowed in (
        ("workers", workers, workers >= 1, "1 or more"),
        ("retries", retries, retries >= 0, "0 or more"),
        ("timeout", timeout, timeout > 0, "more than 0 seconds"),
        ("rate_limit", rate_limit, rate_limit is None or rate_limit > 0, "more than 0"),
    ):
        if not good:
            raise AcquisitionError(f"{name}={value}; give {allowed}")


class _Acquisition:
    """What the workers of one run share."""

    def __init__(self, folder, plane, channel, retries, timeout, sleep):
        self.folder, self.plane, self.channel = folder, plane, channel
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.retries, self.timeout, self.wait = retries, timeout, sleep or self.stop.wait
        self.limit = lambda n: None
        self.kept, self.refused, self.bytes_moved, self.bytes_whole = [], {}, 0, 0
        self.failed_in_a_row = 0
        self.bar, self.started = None, time.monotonic()
        self.shown, self.every = self.started, 0.5 if sys.stderr.isatty() else 30

    def of(self, experiments, workers):
        manifest = read_manifest(self.folder)
        before = {i for i in experiments if i in manifest and is_kept(self.folder, manifest[i])}
        self.refused = {
            id: f"brain {id}: {why or 'the service gave no address'}"
            for id, (url, why) in experiments.items()
            if not url and id not in before
        }
        with writing(self.folder):
            (self.folder / "sections").mkdir(exist_ok=True)
            (self.folder / "partial").mkdir(exist_ok=True)
        for id in before:
            discard(self._partial(id))
        todo = [
            (id, experiments[id][0]) for id in experiments if id not in {*before, *self.refused}
        ]
        n, done = len(experiments), len(experiments) - len(todo)
        often = {"mininterval": self.every, "maxinterval": 60}
        try:
            with tqdm(total=n, initial=done, unit="brain", **often) as self.bar:
                self._work(iter(todo), workers)
        finally:
            write_refused(self.folder, experiments, self.refused)
        kept = tuple(id for id in experiments if id in before or id in self.kept)
        before = tuple(id for id in kept if id in before)
        besides = len(set(manifest) - set(experiments))
        moved, whole = self.bytes_moved, self.bytes_whole
        return Ledger(tuple(experiments), kept, before, self.refused, moved, whole, besides)

    def _work(self, todo, workers):
        with ThreadPoolExecutor(workers) as pool:
            try:
                running = [pool.submit(self._worker, todo) for _ in range(workers)]
                for worker in as_completed(running):
                    worker.result()
            finally:
                self.stop.set()

    def _worker(self, todo):
        with requests.Session() as session:
            session.headers["User-Agent"] = "brainvae (one plane a brain)"
            while not self.stop.is_set():
                with self.lock:
                    id, url = next(todo, (None, None))
                if id is None:
                    return
                try:
                    self._bring(session, id, url)
                except _StoppedError:
                    return
                except FetchError as error:
                    self.refused[id] = f"brain {id}: {error}"
                    if isinstance(error, UnansweredError):
                        self._count_failure()
                except VolumeError as error:
                    discard(self._partial(id))
                    self.refused[id] = (
                        f"brain {id}: {error}; the zip at {url} is of no use: leave the brain out "
                        "with --without, or report it to the service"
                    )
                with self.lock:
                    self._show()
                    self.bar.update()

    def _bring(self, session, id, url):
        path, moved = self._partial(id), 0

        def count(n):
            nonlocal moved
            moved += n
            self._count(n)

        wanted = partial(channel_members, channel=self.channel)
        options = {"timeout": self.timeout, "retries": self.retries, "sleep": self.sleep}
        for _ in range(TRIES):
            whole = fetch_members(session, url, path, wanted, moved=count, **options)
            try:
                section, crc32 = read_zipped_plane(path, self.channel, self.plane)
            except DamagedError as error:
                discard(path)
                reason = error
                continue
            facts = {"id": id, "url": url, "crc32": crc32, "bytes": moved, "zip_bytes": whole}
            save_section(self.folder, id, section)
            with self.lock:
                add_to_manifest(
                    self.folder, {**facts, "plane": self.plane, "channel": self.channel}
                )
                self.kept.append(id)
                self.bytes_whole += whole
                self.failed_in_a_row = 0
            return discard(path)
        raise FetchError(f"{reason}, {TRIES} times, from {url}; run the same command later")

    def _count_failure(self):
        with self.lock:
            self.failed_in_a_row += 1
            if self.failed_in_a_row == IN_A_ROW:
                self.stop.set()
                text = f"{IN_A_ROW} brains in a row could not be fetched: is the service down?"
                tqdm.write(f"{text} The same command goes on later", file=sys.stderr)

    def _count(self, n):
        if self.stop.is_set():
            raise _StoppedError
        with self.lock:
            self.bytes_moved += n
            self._show()
        self.limit(n)

    def _show(self):
        now, megabytes = time.monotonic(), self.bytes_moved / 1e6
        rate, is_due = megabytes / (now - self.started), now > self.shown + self.every
        said = f"{megabytes:.0f} MB, {rate:.1f} MB/s, {len(self.refused)} refused"
        self.bar.set_postfix_str(said, refresh=is_due)
        self.shown = now if is_due else self.shown

    def sleep(self, seconds):
        self.wait(seconds)
        if self.stop.is_set():
            raise _StoppedError

    def _partial(self, id):
        return self.folder / "partial" / f"{id}.zip"


def _ask(python, folder, options):
    """Run the asking program in an environment of its own, because AllenSDK needs an older numpy.

    Returns its exit code: 1 where it was refused something and there is still what to acquire.
    """
    if not Path(python).is_file():
        raise AcquisitionError(
            f"no acquisition environment at {python}; make it as the README says, name its python "
            "with --acquire-python, or give --no-ask where experiments.csv is there"
        )
    program = Path(__file__).with_name("ask_allen.py")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        code = subprocess.run([python, program, folder, *options], check=False).returncode
    if code not in (0, 1):
        raise AcquisitionError(
            f"asking the service failed with code {code}; the line before says why"
        )
    return code


def main(arguments=None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        usage="%(prog)s FOLDER [options] [options for asking]",
        description=__doc__.partition("\n")[0],
        epilog="Options for asking: --experiments and --without (ids, or a file of them), "
        "--strain, --sex, --line, --no-line, --injection-structure (and what is below), --limit; "
        "--atlas-from FOLDER or --no-atlas; --base-url, --download-url, --annotation-sha256.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="acquisition folder")
    parser.add_argument("--plane", type=int, default=286, help="index on the AP axis, 25 µm")
    parser.add_argument("--channel", default="red", help="red is auto-fluorescence")
    parser.add_argument("--workers", type=int, default=2, help="brains fetched at a time")
    parser.add_argument("--rate-limit", type=float, metavar="MB/s", help="of all workers together")
    parser.add_argument("--timeout", type=float, default=30, help="seconds without bytes")
    parser.add_argument("--retries", type=int, default=5, help="failures in a row")
    parser.add_argument("--acquire-python", default=".venv-acquire/bin/python", metavar="PYTHON")
    parser.add_argument("--no-ask", action="store_true", help="take experiments.csv as it is")
    own, asking = parser.parse_known_args(arguments)
    if own.no_ask and asking:
        parser.error(f"--no-ask, and options for asking: {' '.join(asking)}; give one of the two")
    options = {
        "plane": own.plane,
        "channel": own.channel,
        "workers": own.workers,
        "rate_limit": None if own.rate_limit is None else 1e6 * own.rate_limit,
        "retries": own.retries,
        "timeout": own.timeout,
    }
    try:
        # Before asking, which rewrites the table of experiments.
        _check_options(**options)
        if (own.folder / "request.json").exists():
            agree(own.folder, own.plane, own.channel)
        refused = 0 if own.no_ask else _ask(own.acquire_python, own.folder, asking)
        ledger = acquire(own.folder, **options)
    except (AcquisitionError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was kept stays kept. The same command goes on", file=sys.stderr)
        return 130
    print(ledger)
    return max(refused, int(len(ledger.kept) < len(ledger.asked)))


if __name__ == "__main__":
    sys.exit(main())

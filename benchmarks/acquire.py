"""Acquiring brains from a local server, against curl of the same bytes and unzip.

    python benchmarks/acquire.py [--small]

Two brains at a time on two cores; zips have three channels of 154 MB that deflate to about 45 %.
Ways alternate in one run, so that their ratio holds on a shared machine.
"""

import contextlib
import os
import re
import subprocess
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from measure import (
    heading,
    in_own_process,
    interleaved,
    line,
    options,
    part,
    peak_gib,
    seconds_of,
    spread,
)

from brainvae_core.cohorts.allen import acquire

ROUNDS, BRAINS, WORKERS = 5, 4, 2
CHANNELS = ("blue", "red", "green")
MHD = """NDims = 3
AnatomicalOrientation = RAI
DimSize = 528 320 456
ElementType = MET_USHORT
ElementSpacing = 25 25 25
ElementDataFile = resampled_{}.raw
"""


def make_zip(path):
    """Half of the voxels are noise of 12 bits, the others none, as around a brain."""
    rng = np.random.default_rng(0)
    slab = np.zeros((320, 528), "<u2")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for channel in CHANNELS:
            archive.writestr(f"resampled_{channel}.mhd", MHD.format(channel))
            with archive.open(f"resampled_{channel}.raw", "w") as file:
                for _ in range(456):
                    slab[70:238] = rng.integers(0, 4096, (168, 528))
                    file.write(slab.tobytes())


class Handler(BaseHTTPRequestHandler):
    """One file with ranges, handed to the network by the kernel."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        size = os.path.getsize(self.server.path)
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"]).groups()
        start = int(first) if first else size - int(last)
        stop = int(last) + 1 if first and last else size
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.flush()
        with open(self.server.path, "rb") as file, contextlib.suppress(OSError):
            self.connection.sendfile(file, start, stop - start)


def acquire_all(url: str, brains: int) -> tuple[float, int, int, float]:
    """Seconds, bytes moved, bytes whole, and the peak above the start in MB."""
    with tempfile.TemporaryDirectory() as folder:
        rows = ["id,url,refused", *(f"{i},{url}/{i}," for i in range(brains))]
        Path(folder, "experiments.csv").write_text("\n".join(rows) + "\n")
        before, ledgers = peak_gib(), []
        seconds = seconds_of(lambda: ledgers.append(acquire(folder, workers=WORKERS)))
    (ledger,) = ledgers
    assert len(ledger.kept) == brains
    return seconds, ledger.bytes_moved, ledger.bytes_whole, 1024 * (peak_gib() - before)


def curl_and_unzip(folder: Path, url: str, span, brains: int) -> float:
    """curl of the red members' bytes, then unzip of a zip that is there already: no resume."""

    def one(i):
        target = folder / f"{i}.part"
        curl = ["curl", "-s", "-f", "-r", f"{span[0]}-{span[1] - 1}", "-o", target, f"{url}/{i}"]
        subprocess.run(curl, check=True)
        unzip = ["unzip", "-p", folder / "zip", "resampled_red.raw"]
        subprocess.run(unzip, check=True, stdout=subprocess.DEVNULL)
        target.unlink()

    with ThreadPoolExecutor(WORKERS) as pool:
        return seconds_of(lambda: list(pool.map(one, range(brains))))


def compare(folder: Path, url: str, rounds: int, brains: int):
    """Lines of both ways, in turn."""
    with zipfile.ZipFile(folder / "zip") as archive:
        info = archive.getinfo("resampled_red.raw")
        span = [archive.getinfo(f"resampled_{n}.mhd").header_offset for n in ("red", "green")]
    answers = []

    def ours():
        answers.append(in_own_process(acquire_all, url, brains))
        return answers[-1][0]

    ways = {"acquired": ours, "curl + unzip": partial(curl_and_unzip, folder, url, span, brains)}
    interleaved(ways, 1)  # warms up
    del answers[:]
    own, other = interleaved(ways, rounds).values()
    _, moved, whole, _ = answers[0]
    n = f"{rounds} alternating rounds of {brains} brains"
    line("acquired, time over curl + unzip", spread(np.divide(own, other), "×"), n, "1.25 ×")
    rates = [brains * info.file_size / s / 1e6 for s in own]
    line("voxels", spread(rates, "MB/s"), n)
    share = f"{moved / 1e6:.0f} of {whole / 1e6:.0f} MB ({moved / whole:.0%})"
    line("bytes moved of the zips'", share, f"{brains} brains")
    memory = [megabytes / WORKERS for *_, megabytes in answers]
    line("memory of one worker above the start", spread(memory, "MB"), n, "400 MB")


def main():
    given = options(__doc__, "one round of two brains").parse_args()
    rounds, brains = (1, 2) if given.small else (ROUNDS, BRAINS)
    heading("Acquisition", torch.device("cpu"))
    os.environ["BRAINVAE_TRUSTED_HOSTS"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as folder, part("acquisition"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.path = f"{folder}/zip"
        make_zip(server.path)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        compare(Path(folder), f"http://127.0.0.1:{server.server_port}", rounds, brains)
        server.shutdown()


if __name__ == "__main__":
    main()

"""Acquiring brains from a local server, against curl of the same bytes and unzip.

Two brains at a time on two cores; zips have three channels of 154 MB that deflate to about 45 %.
Ways alternate in one run, so that their ratio holds on a shared machine.
"""

import contextlib
import csv
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

ROUNDS, BRAINS, WORKERS = 5, 4, 2
LIMITS = {"time": 1 / 0.8, "memory": 400}
CHANNELS = ("blue", "red", "green")
MHD = """NDims = 3
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


def serve(path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.path = path
    print(server.server_port, flush=True)
    server.serve_forever()


def acquire_all(folder, url, workers, brains):
    """A process of its own acquires; prints seconds, bytes moved and whole, and its peak in MB."""
    from brainvae_core.cohorts.allen import acquire

    folder = Path(folder)
    with open(folder / "experiments.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "url", "refused"])
        rows.writerows([i, f"{url}/{i}", ""] for i in range(brains))
    before = (
        int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )
    start = time.perf_counter()
    ledger = acquire(folder, workers=workers)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert len(ledger.kept) == brains
    print(seconds, ledger.bytes_moved, ledger.bytes_whole, peak - before)


def ours(scratch, url, workers=WORKERS, brains=BRAINS):
    folder = tempfile.mkdtemp(dir=scratch)
    command = [sys.executable, __file__, "acquire", folder, url, str(workers), str(brains)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    return [float(word) for word in answer.stdout.split()]


def theirs(scratch, url, span):
    """curl of the red members' bytes, then unzip of a zip that is there already: no resume."""

    def one(i):
        target = f"{scratch}/{i}.part"
        curl = ["curl", "-s", "-f", "-r", f"{span[0]}-{span[1] - 1}", "-o", target, f"{url}/{i}"]
        subprocess.run(curl, check=True)
        unzip = ["unzip", "-p", f"{scratch}/zip", "resampled_red.raw"]
        subprocess.run(unzip, check=True, stdout=subprocess.DEVNULL)
        os.unlink(target)

    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, range(BRAINS)))
    return time.perf_counter() - start


def say(what, value, limit, unit):
    print(f"{what}: {value:.2f} {unit}; limit {limit:.2f}: {'met' if value <= limit else 'MISSED'}")


def compare(scratch, url):
    path = f"{scratch}/zip"
    make_zip(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("resampled_red.raw")
        span = [archive.getinfo(f"resampled_{n}.mhd").header_offset for n in ("red", "green")]
    packed = info.compress_size / info.file_size
    print(f"red channel: {info.file_size / 1e6:.0f} MB deflated to {packed:.0%}")
    pairs, answers = [], []
    ours(scratch, url, brains=1), theirs(scratch, url, span)
    for i in range(ROUNDS):
        answers.append(ours(scratch, url))
        pairs.append((answers[-1][0], theirs(scratch, url, span)))
        own, other = pairs[-1]
        print(f"round {i + 1}: acquired in {own:.2f} s, curl + unzip in {other:.2f} s")
    _, moved, whole, _ = answers[0]
    print(f"moved {moved / 1e6:.0f} of {whole / 1e6:.0f} MB ({moved / whole:.0%})")
    rate = BRAINS * info.file_size / statistics.median(own for own, _ in pairs) / 1e6
    print(f"throughput: {rate:.0f} MB of voxels/s, median of {ROUNDS}")
    ratios = [own / other for own, other in pairs]
    say("time against curl + unzip", statistics.median(ratios), LIMITS["time"], "×")
    peak = max(answer[3] for answer in answers) / WORKERS
    say("peak memory a worker above baseline", peak, LIMITS["memory"], "MB")


if sys.argv[1:2] == ["serve"]:
    serve(sys.argv[2])
elif sys.argv[1:2] == ["acquire"]:
    acquire_all(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "serve", f"{scratch}/zip"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                compare(scratch, f"http://127.0.0.1:{server.stdout.readline().strip()}")
            finally:
                server.kill()

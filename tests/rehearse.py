"""Acquire a simulated cohort from a local server that misbehaves, and check what was kept.

``python tests/rehearse.py FOLDER`` empties FOLDER, runs the acquisition as its command line does,
kills it once on the way, and leaves FOLDER as `make acquire` would.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from allen_server import AllenServer, draw_faults, simulated_service

from brainvae_core.cohorts import drawn_atlas

N_BRAINS = 60


def main():
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["BRAINVAE_TRUSTED_HOSTS"] = "127.0.0.1"
    sections, metadata = simulated_service(N_BRAINS, drawn_atlas(), seed=0)
    with AllenServer(sections, metadata) as server:
        server.faults, server.contents = draw_faults(list(sections), seed=0)
        n_faults, bad = len(server.faults), set(server.contents)
        command = [sys.executable, "-m", "brainvae_core.cohorts.allen", str(folder)]
        command += ["--base-url", server.url, "--download-url", server.url, "--timeout", "3"]
        command += ["--annotation-sha256", server.annotation_sha256]

        killed = subprocess.Popen(command)
        while len(list(folder.glob("sections/*.npy"))) < N_BRAINS // 3 and killed.poll() is None:
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        before = {p.stem for p in folder.glob("sections/*.npy")}
        print(f"\nkilled with {len(before)} brains kept; the same command again", flush=True)

        first = len(server.requests)
        code = subprocess.run(command).returncode
        asked_again = {p for p, *_ in server.requests[first:]}

    kept = {int(p.stem): np.load(p) for p in folder.glob("sections/*.npy")}
    wrong = [i for i, section in kept.items() if not np.array_equal(section, sections[i])]
    fetched_twice = [i for i in before if server.link(int(i)) in asked_again]
    print(
        f"{len(kept)} of {N_BRAINS} kept, {len(wrong)} of them wrong; {n_faults} had a fault once, "
        f"{len(bad)} a bad file; {len(fetched_twice)} fetched again after the kill"
    )
    if code != 1 or wrong or set(kept) != set(sections) - bad:
        raise SystemExit(f"error: exit code {code}, wrong {wrong}, kept {len(kept)}")


if __name__ == "__main__":
    main()

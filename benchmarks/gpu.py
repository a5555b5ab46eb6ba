"""Everything that is claimed of a GPU, in one command of at most 8 minutes; the same on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: a step against the machine's limits; one model by each recipe; the race to the paper
recipe's held-out ELBO; models an hour, several together; peers on the same network and images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from measure import heading, line, part
from reach import race
from setting import ROOT, Setting
from speed import models_per_hour, one_model, peers, step_and_limits

from brainvae_core.models.devices import pick_device

LIMIT = 8 * 60  # seconds for all parts; what runs then is ended
PARTS = {
    "limits": step_and_limits,
    "one": one_model,
    "race": race,
    "models": models_per_hour,
    "peers": peers,
}
SMALL = {
    "shape": (40, 56),
    "brains": 100,
    "timed": (2, 12),
    "rounds": 1,
    "seeds": 1,
    "together": (1, 2),
    "reference_steps": 20,
    "lengths": (20,),
}


def setting_of(given) -> Setting:
    """The setting that the command line asks for."""
    setting = Setting(
        device=given.device,
        folder=given.folder,
        shape=tuple(given.shape),
        seeds=given.seeds,
        peers_python=given.peers_python,
    )
    if pick_device(given.device).type != "cuda":
        setting = replace(setting, timed=(2, 12), rounds=3)
    return replace(setting, **SMALL) if given.small else setting


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="the same in a minute, on two cores")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of the parts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=[320, 448], help="height and width")
    parser.add_argument("--peers-python", default=str(_peers_python()), help="has pythae")
    parser.add_argument("--folder", type=Path, help="cohort and runs stay here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


def main():
    given = options().parse_args()
    if given.part:
        with part(given.part):
            PARTS[given.part](setting_of(given))
        return
    heading("Training", pick_device(given.device))
    wanted, start = given.only or PARTS, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="brainvae-gpu-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
            left = max(0, LIMIT - (time.perf_counter() - start))
            try:
                ended = subprocess.run([*command, "--part", name], timeout=left)
            except subprocess.TimeoutExpired:
                line(name, "not to its end: the time was up")
                continue
            if ended.returncode:
                line(name, f"failed: exit status {ended.returncode}")


def _peers_python() -> Path:
    own = ROOT / ".venv-peers/bin/python"
    return own if own.exists() else Path(sys.executable)


if __name__ == "__main__":
    main()

"""Everything that is claimed of a GPU, in one command; the same runs on a CPU.

    python benchmarks/gpu.py [--device auto] [--small] [--grid] > results.md

Each part is a process of its own, so that none is lost with another, and writes each line when it
has it: the machine's limits and a step against them; peers on the same network and images; time to
the paper recipe's held-out ELBO; models per hour; with ``--grid`` the 340-point grid itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from measure import heading, line, part
from reach import grid, time_to_elbo
from setting import AT_40_X_56, ROOT, Setting
from speed import models_per_hour, peers, step_and_limits

from brainvae_core.models.devices import pick_device
from brainvae_core.models.recipes import FastRecipe, PaperRecipe

PARTS = {
    "limits": step_and_limits,
    "peers": peers,
    "elbo": time_to_elbo,
    "models": models_per_hour,
    "grid": grid,
}


def setting_of(given) -> Setting:
    """The setting that the command line asks for."""
    setting = Setting(
        device=given.device,
        folder=given.folder,
        shape=tuple(given.shape),
        batch=given.batch,
        seeds=given.seeds,
        reference_steps=tuple(given.reference_steps),
        fast_steps=tuple(given.fast_steps),
        peers_python=given.peers_python,
    )
    if pick_device(given.device).type != "cuda":
        setting = replace(setting, steps=(2, 12), rounds=3)
    if given.small:
        setting = replace(
            setting,
            shape=(40, 56),
            instead=AT_40_X_56,
            brains=40,
            batch=8,
            steps=(2, 12),
            rounds=1,
            seeds=2,
            together=(1, 2),
            betas=(1, 3),
            latent_dims=(4, 5),
            sample=((4, 1),),
            reference_steps=(10,),
            fast_steps=(20,),
        )
    return setting


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="the same in a minute, on two cores")
    parser.add_argument("--grid", action="store_true", help="fit all 340 points too")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of the parts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=[320, 448], help="height and width")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--reference-steps",
        type=int,
        nargs="+",
        default=[PaperRecipe().steps],
        help="of the paper recipe, such as 10000 30000 100000",
    )
    parser.add_argument(
        "--fast-steps",
        type=int,
        nargs="+",
        default=[FastRecipe().steps],
        help="lengths of the fast recipe that are tried",
    )
    parser.add_argument("--peers-python", default=str(_peers_python()), help="has pythae")
    parser.add_argument("--folder", type=Path, help="cohort and runs of the grid stay here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


def main():
    given = options().parse_args()
    if given.part:
        with part(given.part):
            PARTS[given.part](setting_of(given))
        return
    heading("Training", pick_device(given.device), setting_of(given).strength)
    wanted = given.only or [name for name in PARTS if name != "grid" or given.grid]
    with tempfile.TemporaryDirectory(prefix="brainvae-gpu-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
            ended = subprocess.run([*command, "--part", name])
            if ended.returncode:
                line(name, f"failed: exit status {ended.returncode}")


def _peers_python() -> Path:
    own = ROOT / ".venv-peers/bin/python"
    return own if own.exists() else Path(sys.executable)


if __name__ == "__main__":
    main()

"""What the benchmarks share: lines written as they come, parts that fail alone, time and memory.

A line is ``| what | figure | n | limit |``, as in RESULTS.md. A part that fails writes one line
with its reason, and the next one goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

os.environ.setdefault("TQDM_DISABLE", "1")  # before anything imports tqdm

import numpy as np
import torch

from brainvae_core.models.training import train_together

GIB = 2**30


def options(doc: str, small: str) -> argparse.ArgumentParser:
    """A command line with a device and a small setting."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help=small)
    return parser


def line(what: str, figure: str, n: str = "", limit: str = "") -> None:
    """One row of the table, on its way at once: a time limit loses nothing that was measured."""
    print(f"| {what} | {figure} | {n} | {limit} |", flush=True)


def machine(device: torch.device) -> str:
    """The GPU if it is one, the processor, and how much of that is used."""
    gpu = ""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        gpu = f"{found.name}, {found.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}; "
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = (x.split(":")[1].strip() for x in file if x.startswith("model name"))
            processor = next(names, processor)
    return f"{gpu}{cores} cores ({processor}), {torch.get_num_threads()} threads"


def heading(title: str, device: torch.device, note: str = "") -> None:
    """The machine and its versions, what else is to be known, and the table's head."""
    python = f"{platform.system()}, Python {platform.python_version()}"
    libraries = f"torch {torch.__version__}, numpy {np.__version__}"
    print(f"# {title}\n\n{machine(device)}, {python}, {libraries}.\n\n{note}\n")
    print("| what | figure | n | limit |\n|---|---|---|---|", flush=True)


@contextmanager
def part(name: str):
    """A part of a benchmark whose failure is a line and no end."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # whatever it is, the parts after it are worth their time
        reason = " ".join(str(error).split())[:300] or "no reason given"
        line(name, f"failed: {type(error).__name__}: {reason}")
    print(f"<!-- {name}: {time.perf_counter() - start:.0f} s -->", flush=True)


def spread(values, unit: str = "s", digits: int = 3) -> str:
    """Median and range of repeated measurements."""
    middle = f"{statistics.median(values):.{digits}g} {unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}g} to {max(values):.{digits}g})"


class Clock(dict):
    """Seconds by name, of functions that are called through it."""

    def __call__(self, name: str, function, *arguments, **named):
        start = time.perf_counter()
        found = function(*arguments, **named)
        self[name] = self.get(name, 0.0) + time.perf_counter() - start
        return found


def interleaved(contenders: dict, rounds: int) -> dict[str, list[float]]:
    """What each contender gives in each round: a machine that slows down slows all of them."""
    found = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, contender in contenders.items():
            found[name].append(contender())
            print(f"<!-- round {turn + 1}, {name}: {found[name][-1]:.4g} s -->", flush=True)
    return found


def seconds_a_step(configs, train, validation, device, steps: tuple[int, int]) -> float:
    """Slope of a fit's seconds over its steps, so that start and validation cancel out.

    The configurations are trained together; a step is one step of all of them.
    """
    seconds = []
    for n in steps:
        short = [replace(c, steps=n, validate_every=n) for c in configs]
        fitted = train_together(short, train, validation, device=device)
        for one in fitted:
            if one.failure:
                raise FloatingPointError(one.failure)
        seconds.append(max(one.history[-1]["seconds"] for one in fitted))
    return (seconds[1] - seconds[0]) / (steps[1] - steps[0])


def peak_gib() -> float:
    """The most memory that this process has had."""
    unit = 2**20 if sys.platform == "linux" else GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def in_own_process(function, *arguments):
    """What a function gives in a fresh process: peak memory is a process's."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(function, *arguments).result()

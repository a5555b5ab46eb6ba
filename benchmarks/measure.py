"""What the benchmarks of training share: lines written as they come, and parts that fail alone.

A line is ``| what | figure | n | limit |``, as in RESULTS.md. A part that fails writes one line
with its reason, and the next one goes on.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

os.environ.setdefault("TQDM_DISABLE", "1")  # before anything imports tqdm

import numpy as np
import torch

from brainvae_core.models.training import train_together


def line(what: str, figure: str, n: str = "", limit: str = "") -> None:
    """One row of the table, on its way at once: a time limit loses nothing that was measured."""
    print(f"| {what} | {figure} | {n} | {limit} |", flush=True)


def heading(title: str, device: torch.device, note: str = "") -> None:
    """The machine and its versions, what else is to be known, and the table's head."""
    names = ("torch", "numpy")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = ""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        gpu = f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}; "
    print(f"# {title}\n")
    print(f"{gpu}{cores} cores ({_processor()}), {torch.get_num_threads()} threads, ", end="")
    print(f"{platform.system()}, Python {platform.python_version()}, {versions}.\n")
    if note:
        print(f"{note}\n")
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


def elbo(row: dict, beta: float) -> float:
    """Held-out ELBO_β of a row of a history, nats per image, without the Gaussian's constant."""
    pixels = row["height"] ** 2 * 7 / 5
    constant = pixels * (math.log(row["sigma"]) + 0.5 * math.log(2 * math.pi))
    return -(row["validation_reconstruction"] - constant + beta * row["validation_kl"])


def interval(values) -> str:
    """Mean and 95 % interval of Student's t."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return f"{values[0]:.4g} (one value: no interval)"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.4g} ± {half:.3g}"


def _version(name):
    try:
        return version(name)
    except Exception:
        return "absent"


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(x.split(":")[1].strip() for x in file if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

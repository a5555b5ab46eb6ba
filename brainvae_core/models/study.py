"""Many models fitted to one cohort, several at once: what is missing is fitted, the rest loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby, islice
from pathlib import Path

from brainvae_core.models.devices import OutOfDeviceMemory, free_memory, pick_device
from brainvae_core.models.images import on_device
from brainvae_core.models.runs import (
    FailedRun,
    Run,
    fit,
    fit_together,
    parts_of,
    run_name,
)
from brainvae_core.models.training import progress_bar


def fit_all(
    cohort, configs: Iterable, runs: str | Path = "runs", device="auto", together=1, halve=False
) -> list[Run]:
    """Fit what is missing, load the rest.

    Parameters
    ----------
    cohort, runs, device
        As of `fit`.
    configs : iterable of BetaVAEConfig and of baselines' configurations
    together : int
        How many models of one kind are trained at once.
    halve : bool
        Where the device's memory does not hold so many, go on with half as many.

    Returns
    -------
    list of Run
        In the order of ``configs``; runs that failed are told on stderr and left out.
    """
    if together < 1:
        raise ValueError(f"together={together}: at least 1 model is trained at a time")
    configs = list(configs)
    missing = [
        config
        for config in configs
        if not (Path(runs) / run_name(config, cohort.fingerprint)).exists()
    ]
    if missing:
        parts = on_device(*parts_of(cohort), pick_device(device))  # once, not for every team
        bar = progress_bar(desc="grid", unit="model", total=len(configs))
        bar.update(len(configs) - len(missing))
        for _, group in groupby(missing, key=type):
            waiting = iter(group)
            while team := list(islice(waiting, together)):
                together = _fit_team(cohort, team, runs, device, together, halve, parts)
                bar.update(len(team))
        bar.close()
    fitted = []
    for config in configs:
        try:
            fitted.append(fit(cohort, config, runs, device))
        except FailedRun as error:
            print(error, file=sys.stderr)
    return fitted


def _fit_team(cohort, team, runs, device, together, halve, parts) -> int:
    """Fit a team, in parts where need be; returns how many models go together from here on."""
    while True:
        try:
            for first in range(0, len(team), together):
                fit_together(cohort, team[first : first + together], runs, device, parts)
            return together
        except OutOfDeviceMemory as error:
            if not halve or together == 1:
                raise
            told = str(error)
        # Out of the except: the error's traceback held the models, and with them their memory.
        free_memory()
        together //= 2
        print(f"{told}; going on with {together} at once", file=sys.stderr)

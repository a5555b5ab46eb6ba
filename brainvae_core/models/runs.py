"""Fitted models on disk: ``runs/<name>/`` with config.json, history.csv and the weights."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from brainvae_core.disk import atomically, digest_of, file_lock, made_with, read_sealed, seal, whole
from brainvae_core.models.baselines import BASELINES, Baseline
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.devices import (
    OutOfDeviceMemory,
    at_once,
    free_memory,
    on_device,
    pick_device,
)
from brainvae_core.models.foreign import ReleasedConfig
from brainvae_core.models.training import progress_bar, train_together

FORMAT = 5
DESCRIPTION, WEIGHTS = "config.json", "weights.safetensors"
ANEW = "delete the folder and fit it anew"
SEALED = {"kind": str, "config": dict, "cohort": dict, "failure": (str, type(None)), "made": dict}
LOADED: dict[str, str] = {}  # checksums of the runs' weights and tables that were read, by name
PRECISION: dict[str, str] = {}  # of the layers of these runs, by name, where it was recorded
KINDS = {c.kind: c for c in (BetaVAEConfig, ReleasedConfig)} | BASELINES


class FailedRun(ValueError):
    """A run whose fit ended before its time; its folder says why."""


@dataclass(frozen=True)
class Run:
    """One fitted model with its configuration and history."""

    folder: Path  # where it lies; its name is `run_name`'s
    config: BetaVAEConfig | Baseline
    cohort: str  # name of what it was fitted to
    model: object  # with ``encode(images)`` and ``decode(z)``
    history: list[dict[str, float]]  # a row a validation, losses in nats per image
    made: dict  # `made_with`; of a VAE the device and the precision of the layers too


def fit(cohort, config, runs: str | Path = "runs", device: str = "auto") -> Run:
    """Fit a model to a cohort's training brains, or load what was fitted.

    An interrupted fit leaves a hidden folder behind, from which the next call goes on. Of several
    processes that are asked for one run, one fits it and the others wait. A fit that ended before
    its time, now or when it was first tried, is a `FailedRun`.

    Parameters
    ----------
    cohort : Cohort
        Anything with ``split(name).images``, ``name`` and ``fingerprint``; its test brains are not
        read.
    config : BetaVAEConfig, or a baseline's such as PCAConfig
    runs : path
        Folder of runs, each named by its configuration and its cohort.
    device : str
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.
    """
    fit_together(cohort, [config], runs, device, wait=True)
    return load_run(Path(runs) / run_name(config, cohort.fingerprint))


def fit_all(
    cohort, configs: Iterable, runs: str | Path = "runs", device="auto", together=1
) -> list[Run]:
    """Fit what is missing, load the rest: a `Run` each, in the order of ``configs``.

    Runs that failed are told on stderr and left out, so there may be fewer runs than ``configs``.

    Parameters
    ----------
    cohort, runs, device
        As of `fit`.
    configs : iterable of configurations
    together : int
        How many VAEs are trained at once, at least 1; on a CPU no more than PyTorch has threads.
        Where the device's memory does not hold them it is half as many from there on; of one that
        is an `OutOfDeviceMemory`.
    """
    if together < 1:
        raise ValueError(f"together={together}: at least 1 model is trained at a time")
    configs = list(configs)
    missing = [c for c in configs if not whole(Path(runs) / run_name(c, cohort.fingerprint))]
    if missing:
        here = pick_device(device)
        parts = on_device(*_parts_of(cohort), here)  # once, not for every team
        together = at_once(together, here)
        bar = progress_bar(desc="grid", unit="model", total=len(configs))
        bar.update(len(configs) - len(missing))
        for _, group in groupby(missing, key=type):
            waiting = list(group)
            while waiting:
                # What is no VAE is solved at once, as PCA for every L.
                n = together if isinstance(waiting[0], BetaVAEConfig) else len(waiting)
                team, full = waiting[:n], ""
                try:
                    fit_together(cohort, team, runs, device, parts)
                except OutOfDeviceMemory as error:
                    if together == 1:
                        raise
                    full = str(error)
                if full:  # out of the except: the error's traceback held the models' memory
                    free_memory()
                    together //= 2
                    print(f"{full}; going on with {together} at once", file=sys.stderr)
                else:
                    bar.update(len(team))
                    del waiting[: len(team)]
        bar.close()
    fitted = []
    for config in configs:
        try:
            fitted.append(fit(cohort, config, runs, device))
        except FailedRun as error:
            print(error, file=sys.stderr)
    return fitted


def fit_together(cohort, configs: Sequence, runs, device="auto", parts=None, wait=False) -> None:
    """Fit those of several models of one kind that are missing and that no other process fits.

    ``parts`` are the cohort's `Images` where they are on the device already; with ``wait``, what
    another process fits is waited for instead of left out.
    """
    with ExitStack() as locks:
        wanted = {}
        for config in configs:
            folder = Path(runs) / run_name(config, cohort.fingerprint)
            message = f"waiting for another process that fits {folder.name}" if wait else ""
            if whole(folder) or not locks.enter_context(file_lock(folder, message)):
                continue
            if folder.exists():  # it was fitted just before the lock, or before a kill
                shutil.rmtree(_begun(folder), ignore_errors=True)
            else:
                wanted[folder] = config
        if not wanted:
            return
        begun = list(map(_begun, wanted))
        train = getattr(type(configs[0]), "fit_together", train_together)  # a baseline's own
        fitted = train(
            list(wanted.values()),
            *(parts or _parts_of(cohort)),
            checkpoints=[folder / "checkpoint.safetensors" for folder in begun],
            device=device,
        )
        for (folder, config), found, unfinished in zip(wanted.items(), fitted, begun, strict=True):
            if not folder.exists():
                save_run(folder, config, cohort.fingerprint, cohort.name, *found)
            shutil.rmtree(unfinished, ignore_errors=True)


def _begun(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def _parts_of(cohort) -> tuple:
    return cohort.split("train").images, cohort.split("validation").images


def run_name(config, fingerprint: str) -> str:
    """Name of a run's folder: what varies in a study, and a hash of all its weights depend on.

    ``fingerprint`` is the cohort's; with its ``identity`` the name is the same on any processor.
    Such as ``"beta_vae-L8-beta3-seed0-dddbf920"``.
    """
    return f"{config.label}-{digest_of([config.kind, asdict(config), fingerprint])[:8]}"


def save_run(
    folder, config, fingerprint, cohort_name, model, history, failure=None, made=None
) -> None:
    """Write a run; its folder appears under its name only when it is complete.

    A run is never overwritten: a folder that exists is a FileExistsError.

    Parameters
    ----------
    folder : path
        Its name is `run_name`'s.
    config, fingerprint, cohort_name
        What was fitted, and ``fingerprint`` and ``name`` of the cohort that it was fitted to.
    model, history
        What has ``tensors()``, and rows that are all alike.
    failure, made : str, dict, optional
        Why the fit ended before its time (no weights are kept then); on which device, with what.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a run is never overwritten")
    with atomically(folder) as beside:
        beside.mkdir()
        if failure is None:
            try:
                save_file(model.tensors(), beside / WEIGHTS)
            except SafetensorError as error:  # of a full disk, which is no OSError
                raise OSError(
                    f"weights of {folder} cannot be written ({error}); make room"
                ) from None
        with (beside / "history.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(history[0]) if history else ["step"])
            table.writeheader()
            table.writerows(history)
        described = {
            "format": FORMAT,
            "kind": config.kind,
            "config": asdict(config),
            "cohort": {"name": cohort_name, "fingerprint": fingerprint},
            "failure": failure,
            "made": made_with() | (made or {}),
        }
        seal(beside, DESCRIPTION, described)


def load_run(folder: str | Path) -> Run:
    """Read a run, such as ``runs/beta_vae-L8-beta3-seed0-0123abcd``, and check that it is whole.

    What is not there is a FileNotFoundError, a fit that ended before its time a `FailedRun`, and
    another format, a configuration that does not match the name or damage a ValueError.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(
            f"no run at {folder}, which has no {DESCRIPTION}; name another folder in runs/, or "
            "delete this one and fit it anew"
        )
    described, config = read_description(folder)
    expected = run_name(config, described["cohort"].get("fingerprint"))
    if folder.name != expected:
        raise ValueError(
            f"run {folder} does not match its {DESCRIPTION}, which names it {expected}; "
            "move it away and fit it anew"
        )
    if described["failure"]:
        raise FailedRun(f"run {folder} failed: {described['failure']} (delete it to fit it again)")
    try:
        LOADED[folder.name] = described["files"][WEIGHTS]["sha256"]
        if precision := described["made"].get("precision"):
            PRECISION[folder.name] = precision
        model = config.restore(load_file(folder / WEIGHTS))
    except Exception as error:  # what another program sealed
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"weights of run {folder} do not fit its configuration: {what}") from error
    history = _read_history(folder / "history.csv")
    return Run(folder, config, described["cohort"].get("name"), model, history, described["made"])


def read_description(folder) -> tuple[dict, object]:
    """What a run's config.json holds, its names checked, and the configuration."""
    described = read_sealed(folder, DESCRIPTION, FORMAT, ANEW, SEALED)
    kind = described["kind"]
    if kind not in KINDS:
        raise ValueError(
            f"run {folder / DESCRIPTION} is of kind {kind!r}; {', '.join(KINDS)} are known"
        )
    if odd := sorted({f.name for f in fields(KINDS[kind])} ^ set(described["config"])):
        raise ValueError(f"run {folder / DESCRIPTION} does not match {kind}: {', '.join(odd)}")
    try:
        return described, KINDS[kind](**described["config"])
    except (TypeError, ValueError, OverflowError) as error:  # as another version allowed
        raise ValueError(f"run {folder / DESCRIPTION} is not allowed: {error}") from error


def _read_history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        try:
            return [
                {k: int(v) if str(v).isdigit() else float(v) for k, v in row.items()}
                for row in csv.DictReader(file)
            ]
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{path} is damaged ({error}); fit the run anew") from error

"""Fitted models on disk: ``runs/<name>/`` with config.json, history.csv and the weights."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from brainvae_core.models.baselines import BASELINES, Baseline
from brainvae_core.models.config import BetaVAEConfig

FORMAT = 3  # with what a fit was made; before it β was of another strength at every size
LOADED: dict[str, str] = {}  # the checksum of the weights of every run that was read, by name
HOLDS = ("kind", "config", "cohort", "weights_sha256", "failure", "made")  # config.json, and that
KINDS = {BetaVAEConfig.kind: BetaVAEConfig, **BASELINES}


class FailedRun(ValueError):
    """A run whose fit ended before its time; its folder says why."""


@dataclass(frozen=True)
class Run:
    """One fitted model with its configuration and history.

    Attributes
    ----------
    folder : Path
        Where it lies; its name is `run_name`'s.
    config
        What was fitted, such as a `BetaVAEConfig`.
    cohort : str
        Name of what it was fitted to.
    model
        With ``encode(images)`` and ``decode(z)``.
    history : list of dict
        A row a validation: step, loss and its two terms in nats per image, and more.
    made : dict
        Of a fitted VAE: the device, PyTorch's version, and the precision of the layers.
    """

    folder: Path
    config: BetaVAEConfig | Baseline
    cohort: str
    model: object
    history: list[dict[str, float]]
    made: dict


def fit(cohort, config, runs: str | Path = "runs", device: str = "auto") -> Run:
    """Fit a model to a cohort's training brains, or load what was fitted.

    Parameters
    ----------
    cohort : Cohort
        Anything with ``split(name).images``, ``name`` and ``fingerprint``. The test brains are
        never read here.
    config : BetaVAEConfig, or a baseline's such as PCAConfig
    runs : path
        Folder of runs. A run's name is made from its configuration and its cohort; an interrupted
        fit leaves a hidden folder behind, from which the next call goes on. Of several processes
        that are asked for one run, one fits it and the others wait.
    device : str
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.

    Raises
    ------
    FailedRun
        The fit ended before its time, now or when it was first tried.
    """
    fit_together(cohort, [config], runs, device, wait=True)
    return load_run(Path(runs) / run_name(config, cohort.fingerprint))


def fit_together(
    cohort, configs: Sequence, runs: str | Path = "runs", device="auto", parts=None, wait=False
) -> None:
    """Fit those of several models of one kind that are missing and that no other process fits.

    Parameters
    ----------
    cohort, runs, device
        As of `fit`.
    configs : sequence of BetaVAEConfig, or of one baseline's
    parts : (train, validation) of Images, optional
        The cohort's, where they are on the device already.
    wait : bool
        For what another process fits, instead of leaving it out.

    Raises
    ------
    OutOfDeviceMemory
        The device does not hold so many at once.
    """
    with ExitStack() as locks:
        wanted, folders = [], []
        for config in configs:
            folder = Path(runs) / run_name(config, cohort.fingerprint)
            mine = not folder.exists() and locks.enter_context(_alone(_lock(folder), wait))
            if mine and not folder.exists():  # it may have been fitted just before the lock
                wanted.append(config), folders.append(folder)
        if wanted:
            _fit_and_keep(cohort, wanted, folders, device, parts or parts_of(cohort))


def parts_of(cohort) -> tuple:
    """What a fit reads: training and validation images."""
    return cohort.split("train").images, cohort.split("validation").images


def _fit_and_keep(cohort, configs, folders, device, parts):
    unfinished = [folder.with_name(f".{folder.name}") for folder in folders]
    checkpoints = [folder / "checkpoint.safetensors" for folder in unfinished]
    fitted = type(configs[0]).fit_together(configs, *parts, checkpoints=checkpoints, device=device)
    for config, folder, begun, found in zip(configs, folders, unfinished, fitted, strict=True):
        if not folder.exists():
            save_run(folder, config, cohort.fingerprint, cohort.name, *found)
        shutil.rmtree(begun, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name  # kept: a deleted lock can be held twice


@contextmanager
def _alone(lock: Path, wait: bool = True) -> Iterator[bool]:
    """One process at a time, by a lock on a file that ends with its process, however that ends.

    Yields whether it is held, which it always is after waiting.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            print(f"waiting for another process that fits {lock.name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield True


def run_name(config, fingerprint: str) -> str:
    """Name of a run's folder: what varies in a study, and a hash of all that its weights depend on.

    These are the configuration and the ``Cohort.fingerprint`` of what it is fitted to.
    """
    everything = json.dumps([config.kind, asdict(config), fingerprint], sort_keys=True)
    return f"{config.label}-{hashlib.sha256(everything.encode()).hexdigest()[:8]}"


def save_run(
    folder, config, fingerprint, cohort_name, model, history, failure=None, made=None
) -> None:
    """Write a run; its folder appears under its name only when it is complete.

    Parameters
    ----------
    folder : str or Path
        Its name is `run_name`'s.
    config, fingerprint, cohort_name
        What was fitted, and ``Cohort.fingerprint`` and ``Cohort.name`` of what it was fitted to.
    model, history
        What the fit ended in, whose ``tensors()`` are kept; rows of ``history.csv``, all alike.
    failure : str, optional
        Why the fit ended before its time; no weights are kept then.
    made : dict, optional
        On which device, with what, in which precision.

    Raises
    ------
    FileExistsError
        The folder exists: a run is never overwritten.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a run is never overwritten")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    beside.mkdir(parents=True, exist_ok=True)
    try:
        digest = None
        if failure is None:
            save_file(model.tensors(), beside / "weights.safetensors")
            digest = _digest(beside / "weights.safetensors")
        described = {
            "format": FORMAT,
            "kind": config.kind,
            "config": asdict(config),
            "cohort": {"name": cohort_name, "fingerprint": fingerprint},
            "weights_sha256": digest,
            "failure": failure,
            "made": made or {},
        }
        with (beside / "history.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(history[0]) if history else ["step"])
            table.writeheader()
            table.writerows(history)
        (beside / "config.json").write_text(json.dumps(described, indent=1) + "\n")
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load_run(folder: str | Path) -> Run:
    """Read a run, such as ``runs/beta_vae-L8-beta3-seed0-0123abcd``, and check that it is whole.

    Raises
    ------
    FileNotFoundError
        There is no run in that folder.
    FailedRun
        Its fit ended before its time.
    ValueError
        The run is of another format, its configuration does not match its name, or its weights
        are damaged.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no run at {folder} (it would hold a config.json)")
    for name in ("config.json", "history.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"run {folder} lacks {name}; delete the folder and fit it anew")
    described = _read_json(folder / "config.json")
    if described.get("format") != FORMAT:
        raise ValueError(
            f"run {folder} has format {described.get('format')}; this library reads {FORMAT}"
        )
    lacks = [name for name in HOLDS if name not in described]
    if lacks:
        raise ValueError(f"{folder}/config.json lacks {', '.join(lacks)}; fit the run anew")
    config = _config(described, folder)
    expected = run_name(config, described["cohort"]["fingerprint"])
    if folder.name != expected:
        raise ValueError(
            f"run {folder} does not match its configuration, which names it {expected}; "
            "move it away and fit it anew"
        )
    if described["failure"]:
        raise FailedRun(f"run {folder} failed: {described['failure']} (delete it to fit it again)")
    weights = folder / "weights.safetensors"
    digest = _digest(weights) if weights.is_file() else "missing"
    if digest != described["weights_sha256"]:
        raise ValueError(
            f"weights of run {folder} are damaged (sha256 {digest[:12]}, written as "
            f"{described['weights_sha256'][:12]}); delete the folder and fit it anew"
        )
    LOADED[folder.name] = digest
    try:
        model = config.restore(load_file(weights))
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"weights of run {folder} do not fit its configuration: {what}") from error
    history = _read_history(folder / "history.csv")
    return Run(folder, config, described["cohort"]["name"], model, history, described["made"])


def diagnose(history: list[dict], latent_dim: int) -> str:
    """What became of the latents, in a sentence."""
    active = history[-1]["active_latents"]
    if active == latent_dim:
        return f"All {latent_dim} latents are active."
    alive = [row["step"] for row in history if row["active_latents"] > 0]
    if active == 0 and not alive:
        return (
            f"Posterior collapse: none of {latent_dim} latents was active at any validation; the "
            'model decodes the mean image. initialisation="data", a longer kl_warmup or a smaller '
            "beta keep latents alive."
        )
    if active == 0:
        return f"Posterior collapse after step {alive[-1]}: none of {latent_dim} latents is active."
    return f"{active} of {latent_dim} latents are active; the others carry nothing."


def _config(described, folder):
    kind, given = described["kind"], described["config"]
    if kind not in KINDS:
        raise ValueError(f"run {folder} is of kind {kind!r}; {', '.join(KINDS)} are known")
    names = {f.name for f in fields(KINDS[kind])}
    if names != set(given):
        odd = sorted(names ^ set(given))
        raise ValueError(f"configuration of run {folder} does not match {kind}: {', '.join(odd)}")
    return KINDS[kind](**given)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        try:
            return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); fit the run anew") from error


def _number(text):
    return int(text) if str(text).isdigit() else float(text)


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); fit the run anew") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold names and values; fit the run anew")
    return content

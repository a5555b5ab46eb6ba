"""Runs that come with the project: fitted elsewhere, kept in ``results/`` in half precision.

``results/<name>/`` has cohort.json, which says of which cohort they are, and ``runs/``. A cohort
simulated on another processor differs in its last bits: kept runs are told by its ``identity``, and
among a user's own they get the name that `fit` looks for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from brainvae_core.disk import atomically, digest_of, file_lock, seal, unsealed, whole, write
from brainvae_core.models.runs import DESCRIPTION, Run, read_description, run_name, save_run

FORMAT = 1
LARGEST = 1e-3  # grey values between an image that a kept model decodes and the fitted one's
SHARED = 2**14  # numbers of a decoder's convolution: what it lost many pixels would show
CODES = 64  # validation brains that this is asked of


def export_runs(cohort, runs: Iterable[Run], folder: str | Path) -> None:
    """Add runs of VAEs to a folder of kept ones, all but a decoder's convolutions halved.

    Those that are there are left alone. A folder of another cohort is a ValueError, and so is a
    model that half precision changes by more than 0.001 grey values (64 brains' codes).

    Parameters
    ----------
    cohort : Cohort
        What all of them were fitted to.
    runs : iterable of Run
    folder : path
        Such as ``results/full``; made where it is missing.
    """
    folder = Path(folder)
    about, described = _about(cohort), folder / "cohort.json"
    _refuse_another(described, about)
    images = cohort.split("validation").images[:CODES]
    for run in runs:
        kept = folder / "runs" / run.folder.name
        if "kept" in run.made or (kept.exists() and whole(described)):
            continue
        tensors = run.model.tensors()
        for name, values in tensors.items():
            least = SHARED if name.startswith("decoder") else 1  # σ is counted once a pixel
            if values.size > least:
                tensors[name] = values.astype(np.float16)
        codes = run.model.encode(images)
        again = run.config.restore(tensors)
        apart = float(np.abs(again.decode(codes) - run.model.decode(codes)).max())
        if not apart <= LARGEST:
            raise ValueError(
                f"{run.folder.name} decodes other images in half precision, by up to {apart:.2g} "
                f"grey values; at most {LARGEST:g} is allowed"
            )
        half = SimpleNamespace(tensors=lambda tensors=tensors: tensors)
        made = run.made | {"kept": f"float16, decoded images within {apart:.1e} of the fitted"}
        of_cohort = cohort.fingerprint, cohort.name
        with file_lock(described, f"waiting for another process that keeps runs in {folder}"):
            _refuse_another(described, about)
            if kept.exists():  # since it was looked for
                continue
            text = json.dumps(about | {"sha256": digest_of(about)}, indent=1)
            write(described, f"{text}\n".encode())  # first: without it runs are refused
            save_run(kept, run.config, *of_cohort, half, run.history, made=made)


def import_runs(cohort, results: str | Path, runs: str | Path) -> list[str]:
    """Copy kept runs of a cohort among a user's own, where `fit` finds them; gives their names.

    A run that is there is left alone: what a user fitted is never replaced. A cohort.json that is
    missing or damaged is a ValueError: what it is of would silently be fitted again.

    Parameters
    ----------
    cohort : Cohort
    results, runs : path
        The folder whose folders `export_runs` wrote, and the user's runs.
    """
    about, names = None, []
    for folder in sorted({run.parents[1] for run in Path(results).glob("*/runs/[!.]*")}):
        there = _read(folder / "cohort.json")
        if there["shape"] != [*cohort.images.shape]:
            continue  # the identity takes reading all images
        about = about or _about(cohort)
        if there["identity"] == about["identity"]:
            kept = sorted((folder / "runs").glob("[!.]*"))
            names += [copy_run(run, cohort, runs) for run in kept]
    return names


def copy_run(folder: Path, cohort, runs: str | Path) -> str:
    """Copy a run of the same cohort among others, under the name that `fit` looks for."""
    content, config = read_description(folder)
    name = run_name(config, cohort.fingerprint)
    copied = Path(runs) / name
    if copied.exists():
        return name
    content["cohort"] = {"name": cohort.name, "fingerprint": cohort.fingerprint}
    try:
        with atomically(copied) as beside:
            shutil.copytree(folder, beside)
            seal(beside, DESCRIPTION, content)
    except OSError:
        if not copied.exists():  # another process may have copied it meanwhile
            raise
    return name


def _refuse_another(described: Path, about: dict) -> None:
    if described.exists() and (there := _read(described)) != about:
        raise ValueError(
            f"{described.parent} keeps runs of cohort {there['name']!r} {there['shape']} and not "
            f"of {about['name']!r} {about['shape']}; move it away, or name the profile otherwise"
        )


def _about(cohort) -> dict:
    shape, identity = [*cohort.images.shape], cohort.identity
    return {"format": FORMAT, "name": cohort.name, "shape": shape, "identity": identity}


def _read(path: Path) -> dict:
    try:
        there = unsealed(path.read_bytes())
        if there["format"] != FORMAT:
            raise ValueError(f"it has format {there['format']}; this library reads {FORMAT}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); restore it from git") from None
    return there

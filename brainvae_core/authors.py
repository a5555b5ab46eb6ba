"""The authors' release as a cohort and a run: ``make authors ARRAY=file.npy CHECKPOINT=file``.

Leaves a folder that the profile ``authors`` reads.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from brainvae_core.cohorts import Atlas, authors_cohort, ccf_atlas, drawn_atlas, open_cohort
from brainvae_core.cohorts.allen import locked
from brainvae_core.cohorts.atlas import whole_factor
from brainvae_core.cohorts.authors import fetch_file, read_authors_array
from brainvae_core.cohorts.ccf import TERMS
from brainvae_core.cohorts.orientation import is_upside_down
from brainvae_core.cohorts.web import FetchError
from brainvae_core.disk import sha256_of, stoppable
from brainvae_core.models import ReleasedConfig, load_run, read_released, run_name, save_run
from brainvae_core.models.devices import Images, pick_device
from brainvae_core.models.objectives import validate
from brainvae_core.prepare import SAVED

# As the first cell of brainsynth.ipynb (github.com/nerdslab/brainsynth) links them, with dl=1 in
# the place of dl=0, which is a page about the file. Neither has been tried. The small one first.
ADDRESSES = {
    "checkpoint": "https://www.dropbox.com/s/uth8ppqttf9c2wv/checkpoint?dl=1",
    "array": "https://www.dropbox.com/s/msj3amctgtbkodb/norm_brain_dataset_np_float32.npy?dl=1",
}
NAMES = {"checkpoint": "checkpoint", "array": "norm_brain_dataset_np_float32.npy"}
READERS = {"checkpoint": read_released, "array": read_authors_array}
ELSEWHERE = "give another folder with AUTHORS=folder"
DRAWN = "drawn atlas in the CCF's place"


def import_release(
    folder: str | Path,
    array: str | None = None,
    checkpoint: str | None = None,
    atlas: str | None = None,
) -> str:
    """Make the cohort and the run in ``folder``, or hold them against what is given; an account.

    Parameters
    ----------
    folder : path
        Receives ``cohort/``, the run, and the files that were fetched.
    array, checkpoint : str, optional
        A file's path or address; by default what was made is left, or else the published addresses.
    atlas : str, optional
        Folder with the CCF's files; without it regions are the drawn atlas's, approximately.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        runs = list(folder.glob(f"{ReleasedConfig.kind}-*"))
        is_there = {"checkpoint": len(runs) == 1, "array": (folder / SAVED).exists()}
        given = {"checkpoint": checkpoint, "array": array}
        wanted = [what for what in given if given[what] or not is_there[what]]
        cohort, run = _made(folder, {w: _read(w, given[w], folder) for w in wanted}, atlas)
        refused = [f"  refused: {brain}: {why}" for brain, why in cohort.refused.items()]
        explained = run.history[-1]["explained_variance"]
        return "\n".join(
            [
                str(cohort),
                *refused,
                "grey values as they are; nothing is known of the brains: no sex, age or strain",
                f"atlas: {cohort.atlas.name}"
                + (": regions are approximate (give ATLAS=folder)" * (cohort.atlas.name == DRAWN)),
                f"the authors' model: L = {run.config.latent_dim}, iteration {run.config.steps}, "
                f"explains {explained:.1%} of the validation brains' variance; it was "
                "trained on all brains of the array: none is held out for it",
                *_warnings(cohort, explained),
                f"{'nothing to do: all was' if all(is_there.values()) else 'kept'} in {folder}",
            ]
        )


def _read(what, source, folder):
    """Path and content of the file that was given, fetched if it is an address."""
    option, from_where = what.upper(), ""
    give = f"give its path: make authors {option}=/path/to/{NAMES[what]}"
    if not source:
        source = ADDRESSES[what]
        from_where = "; the authors' notebook (github.com/nerdslab/brainsynth) links this address"
    try:
        if source.startswith(("http://", "https://")):
            path = fetch_file(source, folder / NAMES[what], READERS[what])
        elif "://" in source:
            raise ValueError(f"{option}={source}: a path, or an address with http:// or https://")
        elif not (path := Path(source).expanduser()).is_file():
            kind = "that is a folder" if path.is_dir() else "no such file"
            raise ValueError(f"{option}={source}: {kind}")
        return path, READERS[what](path)
    except FetchError as error:
        raise ValueError(
            f"{error}{from_where}; or download the file in a browser, or ask the paper's authors "
            f"for it, and {give}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{error}; {give}") from None


def _made(folder, found, atlas):
    """The cohort and the run: made, or there already and of the files found and this atlas."""
    array, sections = found.get("array", (folder / SAVED, None))
    cohort = open_cohort(array) if sections is None else None
    shape = sections.shape[1:] if cohort is None else cohort.atlas.shape
    network, (model, config) = found.get("checkpoint", (None, (None, None)))
    if model is not None and shape != model.image_shape:
        raise ValueError(
            f"sections of {array} are {_by(shape)}, the network in {network} is of "
            f"{_by(model.image_shape)}; give two of one release: ARRAY=… CHECKPOINT=…"
        )
    if cohort is None:
        cohort = _cohort(folder, array, _atlas(atlas, shape))
    elif atlas:
        _check_atlas(cohort, _atlas(atlas, shape), folder)
    if model is None:
        (run,) = map(load_run, folder.glob(f"{ReleasedConfig.kind}-*"))
        if run.folder.name != run_name(run.config, cohort.fingerprint):
            raise ValueError(
                f"{folder / SAVED} and {run.folder} are not of one release; delete the one that is "
                f"wrong, or {ELSEWHERE}"
            )
        return cohort, run
    run = folder / run_name(config, cohort.fingerprint)
    if others := [f for f in folder.glob(f"{ReleasedConfig.kind}-*") if f != run]:
        raise ValueError(f"{others[0]} is of another checkpoint; delete it, or {ELSEWHERE}")
    if not run.exists():
        made = {"checkpoint": config.checkpoint_sha256}
        row = _validated(cohort, model, config)
        save_run(run, config, cohort.fingerprint, cohort.name, model, [row], made=made)
    return cohort, load_run(run)


def _atlas(folder, shape) -> Atlas:
    drawn = replace(drawn_atlas(), name=DRAWN, terms=TERMS)  # the sections are Allen's
    atlas = ccf_atlas(folder) if folder else drawn
    return atlas.resampled(shape) if whole_factor(atlas.shape, shape) else atlas


def _cohort(folder, array, atlas):
    """The saved cohort: made, or there already and of this array and atlas."""
    path = folder / SAVED
    digest = sha256_of(array)[:12]
    if not path.exists():
        regions = ", regions approximate" if atlas.name == DRAWN else ""  # for every caption
        name = f"authors' release ({digest}{regions})"
        authors_cohort(array, atlas, name=name).save(path)
    cohort = open_cohort(path)
    if digest not in cohort.name:
        raise ValueError(
            f"{path} was made from another array ({cohort.name}) than {array}; delete it and its "
            f"run to make it anew, or {ELSEWHERE}"
        )
    _check_atlas(cohort, atlas, folder)
    return cohort


def _check_atlas(cohort, atlas, folder):
    same = np.array_equal(cohort.atlas.annotation, atlas.annotation)
    if not same or cohort.atlas.name != atlas.name:
        raise ValueError(
            f"{folder / SAVED} was made with another atlas ({cohort.atlas.name}) than "
            f"{atlas.name}; delete it and its run to make it anew, or {ELSEWHERE}"
        )


def _warnings(cohort, explained) -> list[str]:
    """Where an assumption about the files does not hold."""
    warnings, mean = [], cohort.images.mean(axis=0, keepdims=True)
    if is_upside_down(mean, cohort.atlas).any():
        warnings.append(
            "WARNING: the mean section fits the atlas's template better upside down: the array's "
            "directions are not those assumed, and regions are in the wrong place"
        )
    if explained <= 0:
        warnings.append(
            "WARNING: the model reconstructs these sections worse than their mean would: array and "
            "checkpoint are not of one release, or directions or greys are not those assumed"
        )
    return warnings


def _validated(cohort, model, config) -> dict:
    """The one row of the run's history: what is not known of their fit is not a number."""
    device = pick_device("auto")
    validation = Images(cohort.split("validation").images, device)
    model = model.to(device)
    row = {"step": config.steps, "height": model.image_shape[0]}
    row |= dict.fromkeys(("loss", "reconstruction", "kl"), math.nan) | {"progress": 1.0}
    row |= {"sigma": model.log_sigma.exp().item()}
    row |= validate(model, validation, config) | {"seconds": math.nan}
    model.to("cpu")
    return row


def _by(shape) -> str:
    return " × ".join(map(str, shape))


@stoppable("stopped; what came is kept, and the same command goes on")
def main(arguments=None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("folder", help="what is made lies there")
    parser.add_argument("--array", help="path or address of the sections")
    parser.add_argument("--checkpoint", help="path or address of the model")
    parser.add_argument("--atlas", help="folder with the CCF's files")
    given = parser.parse_args(arguments)
    try:
        print(import_release(given.folder, given.array, given.checkpoint, given.atlas))
    except (ValueError, OSError) as error:
        if getattr(error, "errno", None):  # the disk's, whose words need not name a file
            error = (
                f"{error.filename or given.folder}: {error.strerror}; what came is kept: see to "
                f"room and permission, then run the same command again, or {ELSEWHERE}"
            )
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The authors' release as a cohort and a run: ``make authors ARRAY=file.npy CHECKPOINT=file``.

``python -m brainvae_core.authors data/authors --array FILE --checkpoint FILE`` leaves a folder that
the profile ``authors`` reads: the sections as a cohort, and the model as a run on it.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from dataclasses import replace
from pathlib import Path

from brainvae_core.cohorts import Atlas, authors_cohort, ccf_atlas, drawn_atlas, open_cohort
from brainvae_core.cohorts.allen import locked
from brainvae_core.cohorts.atlas import whole_factor
from brainvae_core.cohorts.authors import fetch_file, read_authors_array
from brainvae_core.cohorts.ccf import TERMS
from brainvae_core.cohorts.fetch import FetchError
from brainvae_core.cohorts.turned import upside_down
from brainvae_core.models import ReleasedConfig, read_released, run_name, save_run
from brainvae_core.models.devices import on_device, pick_device
from brainvae_core.models.objectives import validate
from brainvae_core.prepare import SAVED

# As the first cell of brainsynth.ipynb (github.com/nerdslab/brainsynth) links them, with dl=1 in
# the place of dl=0, which is a page about the file. Neither has been tried.
ADDRESSES = {
    "array": "https://www.dropbox.com/s/msj3amctgtbkodb/norm_brain_dataset_np_float32.npy?dl=1",
    "checkpoint": "https://www.dropbox.com/s/uth8ppqttf9c2wv/checkpoint?dl=1",
}
NAMES = {"array": "norm_brain_dataset_np_float32.npy", "checkpoint": "checkpoint"}
CHECKS = {"array": read_authors_array, "checkpoint": read_released}


def keep_release(
    folder: str | Path,
    array: str | None = None,
    checkpoint: str | None = None,
    atlas: str | None = None,
    **fetching,
) -> str:
    """Make the cohort and the run in ``folder``, or hold them against what is given; an account.

    Parameters
    ----------
    folder : path
        Receives ``cohort/``, the run, and the files that were fetched.
    array, checkpoint : str, optional
        A file's path or address; by default the published addresses.
    atlas : str, optional
        Folder with the CCF's files; without it regions are the drawn atlas's, approximately.
    **fetching
        As for `fetch_file`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        given = {"array": array, "checkpoint": checkpoint}
        paths = {what: _local(what, source, folder, fetching) for what, source in given.items()}
        model, config = read_released(paths["checkpoint"])
        sections = read_authors_array(paths["array"])
        if sections.shape[1:] != model.image_shape:
            raise ValueError(
                f"sections of {paths['array']} are {_by(sections.shape[1:])}, the network in "
                f"{paths['checkpoint']} is of {_by(model.image_shape)}; give two of one release"
            )
        cohort = _cohort(folder, paths["array"], _atlas(atlas, sections.shape[1:]))
        run = folder / run_name(config, cohort.fingerprint)
        if others := [f for f in folder.glob(f"{ReleasedConfig.kind}-*") if f != run]:
            raise ValueError(
                f"{others[0]} is of another checkpoint; delete it, or use another folder"
            )
        row = _validated(cohort, model, config)
        if not run.exists():
            made = {"checkpoint": config.checkpoint_sha256}
            save_run(run, config, cohort.fingerprint, cohort.name, model, [row], made=made)
        refused = [f"  refused: {brain}: {why}" for brain, why in cohort.refused.items()]
        return "\n".join(
            [
                str(cohort),
                *refused,
                "grey values as they are; nothing is known of the brains: no sex, age or strain",
                f"atlas: {cohort.atlas.name}",
                *_directions(cohort),
                f"the authors' model: L = {config.latent_dim}, iteration {config.steps}, explains "
                f"{row['explained_variance']:.1%} of the validation brains' variance; it was "
                "trained on all brains of the array: none is held out for it",
                f"kept in {folder}",
            ]
        )


def _local(what, source, folder, fetching) -> Path:
    """The file that was given, fetched if it is an address."""
    from_where, option = "", what.upper()
    if not source:
        source = ADDRESSES[what]
        from_where = "; the authors' notebook (github.com/nerdslab/brainsynth) links this address"
    if "://" not in source:
        path = Path(source).expanduser()
        if not path.is_file():
            raise ValueError(f"{option}={source}: no such file")
        return path
    if not source.startswith(("http://", "https://")):
        raise ValueError(f"{option}={source}: a path, or an address with http:// or https://")
    try:
        return fetch_file(source, folder / NAMES[what], CHECKS[what], **fetching)
    except FetchError as error:
        raise ValueError(
            f"{error}{from_where}; or download the file in a browser, or ask the paper's authors "
            f"for it, and give its path: make authors {option}=/path/to/{NAMES[what]}"
        ) from None


def _atlas(folder, shape) -> Atlas:
    if folder:
        atlas = ccf_atlas(folder)
    else:
        name = "drawn atlas in the CCF's place: regions are approximate (give ATLAS=folder)"
        atlas = replace(drawn_atlas(), name=name, terms=TERMS)  # the sections are Allen's
    return atlas.resampled(shape) if whole_factor(atlas.shape, shape) else atlas


def _cohort(folder, array, atlas):
    """The saved cohort: made, or there already and of this array and atlas."""
    path = folder / SAVED
    with array.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    name = f"authors' release ({digest})"
    if not path.exists():
        authors_cohort(array, atlas, name=name).save(path)
    cohort = open_cohort(path)
    if (cohort.name, cohort.atlas.name) != (name, atlas.name):
        raise ValueError(
            f"{path} was made from another array or atlas ({cohort.name}, {cohort.atlas.name}); "
            "delete it and its run to make it anew, or use another folder"
        )
    return cohort


def _directions(cohort) -> list[str]:
    """A warning where the mean section fits the template better upside down."""
    if not upside_down(cohort.images.mean(axis=0, keepdims=True), cohort.atlas).any():
        return []
    return [
        "WARNING: the mean section fits the atlas's template better upside down: the array's "
        "directions are not those assumed, and regions are in the wrong place"
    ]


def _validated(cohort, model, config) -> dict:
    """The one row of the run's history: what is not known of their fit is not a number."""
    device = pick_device("auto")
    train, validation = on_device(
        cohort.split("train").images, cohort.split("validation").images, device
    )
    model = model.to(device)
    row = {"step": config.steps, "height": model.image_shape[0]}
    row |= dict.fromkeys(("loss", "reconstruction", "kl"), math.nan) | {"progress": 1.0}
    row |= {"sigma": model.log_sigma.exp().item()}
    row |= validate(model, validation, config, len(train)) | {"seconds": math.nan}
    model.to("cpu")
    return row


def _by(shape) -> str:
    return " × ".join(map(str, shape))


def main(arguments=None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("folder", help="what is made lies there")
    parser.add_argument("--array", help="path or address of the sections")
    parser.add_argument("--checkpoint", help="path or address of the model")
    parser.add_argument("--atlas", help="folder with the CCF's files")
    given = parser.parse_args(arguments)
    try:
        print(keep_release(given.folder, given.array, given.checkpoint, given.atlas))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what came is kept, and the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

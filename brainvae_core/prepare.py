"""A profile's cohorts, atlas and new brain: made once, kept, and read from then on."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from brainvae_core import cohorts
from brainvae_core.models import ReleasedConfig, Run, load_run, run_name

SAVED = "cohort"  # in a folder that `make authors` left: the cohort, and beside it the run
DESCRIBED = "cohort.json"  # what every saved cohort has


def open_atlas(p) -> cohorts.Atlas:
    """The drawn atlas, or the CCF slice from a folder."""
    if p.cohort.atlas == "drawn":
        if p.cohort.plane != 286 or p.cohort.brains != "simulated":
            raise ValueError(
                f"brains={p.cohort.brains}, plane={p.cohort.plane}: the drawn atlas is for "
                "simulated brains at plane 286; set atlas to a folder with the CCF's files "
                "(`make acquire` leaves one)"
            )
        return cohorts.drawn_atlas()
    if saved := _saved(p.cohort.atlas):
        return cohorts.open_cohort(saved).atlas
    return cohorts.ccf_atlas(_expanded(p.cohort.atlas), p.cohort.plane)


def prepare_cohort(p) -> cohorts.Cohort:
    """The profile's cohort: read from ``data`` where it was made before, else made and kept there.

    Its name carries a hash of what it was made from, the code that made it included.
    """
    s = p.cohort
    if saved := _saved(s.brains):
        return _as_saved(p, saved)
    made_from = [_atlas_files(s.atlas), s.plane, s.shape, s.seed]
    if s.brains == "simulated":
        name = f"simulated-{s.n_brains}"
        made_from += [s.n_brains, s.artefact_share]
    else:
        folder = Path(_expanded(s.brains))
        name = folder.name
        made_from += [s.orientation, s.clip_pixels, s.drop_brains, s.outlier_limit]
        made_from += _contents(folder)
    digest = hashlib.sha256(repr(made_from).encode())
    for module in sorted(Path(cohorts.__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    path = Path(p.places.data) / f"{name}-{digest.hexdigest()[:8]}"
    if not path.exists():
        made = _made(p)
        try:
            made.save(path)
        except OSError:
            if not path.exists():  # another notebook may have made it meanwhile
                raise
    return cohorts.open_cohort(path)


def released_run(p) -> Run | None:
    """The run of the authors' model beside the profile's brains; None where there is none.

    ValueError where the profile's L or β is another: that would be another model.
    """
    saved = _saved(p.cohort.brains)
    if saved is None or str(saved) == _expanded(p.cohort.brains):
        return None
    found = sorted(saved.parent.glob(f"{ReleasedConfig.kind}-*"))
    if len(found) != 1:
        raise ValueError(
            f"{saved.parent} has {len(found)} runs of the authors' model; run `make authors` again"
        )
    run = load_run(found[0])
    for name in ("latent_dim", "beta"):
        theirs, asked = getattr(run.config, name), getattr(p.model, name)
        if theirs != asked:
            raise ValueError(
                f"{name}={asked:g}: the authors' model in {saved.parent} has {theirs:g} and is not "
                f"fitted; leave it, or fit one's own to their sections with -p brains {saved}"
            )
    return run


def _saved(folder: str) -> Path | None:
    """The saved cohort that a folder of brains or of an atlas is, or that `make authors` left."""
    if folder in ("simulated", "drawn"):
        return None
    given = Path(_expanded(folder))
    return next((f for f in (given, given / SAVED) if (f / DESCRIBED).is_file()), None)


def _as_saved(p, saved) -> cohorts.Cohort:
    """A cohort that was saved, and the run beside it among the profile's runs."""
    usual = type(p.cohort)()
    for name in ("plane", "seed", "orientation", "clip_pixels", "drop_brains"):
        if (asked := getattr(p.cohort, name)) != (left := getattr(usual, name)):
            raise ValueError(
                f"{name}={asked}: the cohort in {saved} is as it was saved; leave {left}"
            )
    cohort, run = cohorts.open_cohort(saved), released_run(p)
    if run is not None:
        if run.folder.name != run_name(run.config, cohort.fingerprint):
            raise ValueError(
                f"{run.folder} is of another cohort than {saved}; run `make authors` again"
            )
        kept = Path(p.places.runs) / run.folder.name
        beside = kept.with_name(f".{kept.name}.{os.getpid()}")
        if not kept.exists():
            try:
                os.replace(shutil.copytree(run.folder, beside), kept)
            except OSError:
                if not kept.exists():  # another notebook may have kept it meanwhile
                    raise
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    return cohort if cohort.atlas.shape == p.cohort.shape else cohort.resampled(p.cohort.shape)


def planted_cohort(p) -> cohorts.Cohort:
    """The profile's simulated cohort, the same where its brains are simulated anyway."""
    return prepare_cohort(p.changed({"cohort.brains": "simulated"}))


def freeform_cohort(p) -> cohorts.Cohort:
    """As many brains of the second simulator, at the size of the evaluation."""
    s = p.cohort
    made = cohorts.simulate_freeform(s.n_brains, open_atlas(p), s.shape, s.artefact_share, s.seed)
    return made.resampled(p.evaluation.shape)


def with_training_brains(cohort: cohorts.Cohort, n: int) -> cohorts.Cohort:
    """The same validation and test brains, and the first n of the training brains."""
    is_train = (cohort.metadata["split"] == "train").to_numpy()
    if not 2 <= n <= is_train.sum():
        raise ValueError(f"n={n} training brains of {is_train.sum()}; give 2 to {is_train.sum()}")
    return cohort.select(~is_train | (is_train.cumsum() <= n))


def varied_cohorts(p, cohort: cohorts.Cohort) -> dict[str, dict[float, cohorts.Cohort]]:
    """The planted cohort with fewer training brains, or other shares with artefacts, by value.

    Keys are ``"brains"`` and ``"share"``; the own values of ``cohort``, which has the size of the
    grid, are among the values. The clean brains are the same whatever share is corrupted.
    """
    n_train = int((cohort.metadata["split"] == "train").sum())
    fewer = [n for n in p.fields.varied_brains if n < n_train]
    shares = {
        share: planted_cohort(p.changed({"artefact_share": share})).resampled(p.grid.shape)
        for share in p.fields.varied_artefact_shares
    }
    return {
        "brains": {n: with_training_brains(cohort, n) for n in fewer} | {n_train: cohort},
        "share": dict(sorted({**shares, p.cohort.artefact_share: cohort}.items())),
    }


def new_section(p, cohort: cohorts.Cohort) -> np.ndarray:
    """A brain that is not of the cohort, on its grid and grey values, (height, width)."""
    s = p.cohort
    if s.new_brain == "simulated":
        section = cohorts.simulate(2, open_atlas(p), cohort.atlas.shape, 0, s.seed + 1).images[0]
    else:
        section = cohorts.read_section(_expanded(s.new_brain), s.plane, s.orientation)
    return cohorts.comparable_section(section, cohort.atlas, cohorts.Preprocessing.of(cohort))


def _made(p):
    """The cohort that is simulated, or of a folder that `acquire` left, or of one's own brains."""
    s = p.cohort
    if s.brains == "simulated":
        return cohorts.simulate(s.n_brains, open_atlas(p), s.shape, s.artefact_share, s.seed)
    folder = Path(_expanded(s.brains))
    if (folder / "experiments.csv").exists():
        sections, metadata = cohorts.read_acquired(folder, s.plane)
        ledger = cohorts.read_ledger(folder)
        refused = {i: cohorts.cause(why) for i, why in ledger.refused.items()}
        refused |= dict.fromkeys(ledger.not_tried, "not tried yet; run make acquire again")
    else:
        sections, metadata, refused = cohorts.read_sections(folder, s.plane, s.orientation)
    return cohorts.preprocess(
        sections,
        metadata,
        open_atlas(p),
        shape=s.shape,
        seed=s.seed,
        clip_pixels=s.clip_pixels,
        drop_brains=s.drop_brains,
        outlier_limit=s.outlier_limit,
        refused=refused,
        name=folder.name,
    )


def _contents(folder):
    """What tells whether a folder of brains has changed, without reading the brains."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder of brains at {folder}; `make acquire` or `make authors` leaves one"
        )
    if (folder / "experiments.csv").exists():  # the manifest holds every section's sha256
        names = ("experiments.csv", "manifest.jsonl", "refused.csv")
        return [(folder / n).read_bytes() for n in names if (folder / n).exists()]
    return _files(folder, "*")


def _atlas_files(atlas):
    """What tells whether the atlas has changed."""
    if atlas == "drawn":
        return atlas
    if saved := _saved(atlas):
        return [(saved / DESCRIBED).read_bytes()]
    folder = Path(_expanded(atlas))
    patterns = ("annotation_25.nrrd", "average_template_25*", "struct*.json")
    return [found for pattern in patterns for found in _files(folder, pattern)]


def _files(folder, pattern):
    """Every such file in a folder or below it, with its size and the time of its last change."""
    files = sorted(f for f in folder.rglob(pattern) if f.is_file())
    return [(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _expanded(path: str) -> str:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise ValueError(f"{path} names an environment variable that is not set")
    return expanded

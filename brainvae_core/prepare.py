"""A profile's cohort, atlas and new brain: made once, kept, and read from then on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from brainvae_core import cohorts

SIMULATED_FROM = ("artefacts", "atlas", "cohort", "drawn", "simulated", "stored")
REGISTERED_FROM = ("acquired", "artefacts", "atlas", "cohort", "own", "preprocess", "stored")
REGISTERED_FROM += ("sections", "volume_headers", "volumes")


def open_atlas(p) -> cohorts.Atlas:
    """The drawn atlas, or the CCF slice from a folder."""
    if p.atlas == "drawn":
        if p.plane != 286 or p.brains != "simulated":
            raise ValueError(
                f"brains={p.brains}, plane={p.plane}: the drawn atlas is for simulated brains at "
                "plane 286; set atlas to a folder with the CCF's files (`make acquire` leaves one)"
            )
        return cohorts.drawn_atlas()
    return cohorts.ccf_atlas(_expanded(p.atlas), p.plane)


def prepare_cohort(p) -> cohorts.Cohort:
    """The profile's cohort: read from ``data`` where it was made before, else made and kept there.

    Its name carries a hash of what it was made from, the code that made it included.

    Raises
    ------
    FileNotFoundError
        There is no folder of brains, or no atlas.
    ValueError
        The brains cannot be used; the message says which and why.
    """
    made_from = [_atlas_files(p.atlas), p.plane, p.height, p.width, p.cohort_seed]
    if p.brains == "simulated":
        name, make, modules = f"simulated-{p.n_brains}", _simulated, SIMULATED_FROM
        made_from += [p.n_brains, p.artefact_share]
    else:
        folder = Path(_expanded(p.brains))
        name, make, modules = folder.name, _registered, REGISTERED_FROM
        made_from += [p.orientation, p.clip_pixels, p.drop_brains, p.outlier_limit]
        made_from += _contents(folder)
    digest = hashlib.sha256(repr(made_from).encode())
    for module in modules:
        digest.update((Path(cohorts.__file__).parent / f"{module}.py").read_bytes())
    path = Path(p.data) / f"{name}-{digest.hexdigest()[:8]}"
    if not path.exists():
        made = make(p)
        try:
            made.save(path)
        except OSError:
            if not path.exists():  # another notebook may have made it meanwhile
                raise
    return cohorts.open_cohort(path)


def new_section(p, cohort: cohorts.Cohort) -> np.ndarray:
    """A brain that is not of the cohort, on its grid and grey values, (height, width)."""
    if p.new_brain == "simulated":
        other = cohorts.simulate(2, open_atlas(p), cohort.atlas.shape, 0, p.cohort_seed + 1)
        section = other.images[0]
    else:
        section = cohorts.read_section(_expanded(p.new_brain), p.plane, p.orientation)
    return cohorts.comparable_section(section, cohort.atlas, cohorts.Preprocessing.of(cohort))


def _simulated(p):
    shape = (p.height, p.width)
    return cohorts.simulate(p.n_brains, open_atlas(p), shape, p.artefact_share, p.cohort_seed)


def _registered(p):
    """The cohort of a folder of sections: one that `acquire` left, or one's own brains."""
    folder = Path(_expanded(p.brains))
    if _is_acquired(folder):
        sections, metadata = cohorts.read_acquired(folder, p.plane)
        ledger = cohorts.read_ledger(folder)
        refused = {i: cohorts.cause(why) for i, why in ledger.refused.items()}
        refused |= dict.fromkeys(ledger.not_tried, "not tried yet; run make acquire again")
    else:
        sections, metadata, refused = cohorts.read_sections(folder, p.plane, p.orientation)
    return cohorts.preprocess(
        sections,
        metadata,
        open_atlas(p),
        shape=(p.height, p.width),
        seed=p.cohort_seed,
        clip_pixels=p.clip_pixels,
        drop_brains=p.drop_brains,
        outlier_limit=p.outlier_limit,
        refused=refused,
        name=folder.name,
    )


def _contents(folder):
    """What tells whether a folder of brains has changed, without reading the brains."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder of brains at {folder}; `make acquire` leaves the Allen cohort in data/allen"
        )
    if _is_acquired(folder):  # the manifest holds every section's sha256
        names = ("experiments.csv", "manifest.jsonl", "refused.csv")
        return [(folder / n).read_bytes() for n in names if (folder / n).exists()]
    return _files(folder, "*")


def _is_acquired(folder):
    return (folder / "experiments.csv").exists()


def _atlas_files(atlas):
    """What tells whether the atlas has changed."""
    if atlas == "drawn":
        return atlas
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
        raise ValueError(
            f"{path} names an environment variable that is not set; set it or give a path"
        )
    return expanded

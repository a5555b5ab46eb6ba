"""What chapter 11 asks of each brain of a lab beside a reference, and keeps of the answers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from brainvae_core.cohorts import clean_part, displaced, graded_artefacts
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.lab import GAIN
from brainvae_core.disk import file_lock, made_with, read_sealed, scratch_path, seal
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import AdjustedNorm, ArtefactJudge

# Anatomy that is no damage: tissue moved by standard deviations, a region darker or brighter.
UNUSUAL, BY = ("ventricle_size", "cortical_thickness", "ap_position"), (-2.5, 2.5)
SHADES, SHADED, EDGE_UM = (-0.3, 0.3), 3, 50  # in so many brains a region; σ of its edge
TILE_UM = 400  # what is in one place shows in
CHUNK = 64  # brains reconstructed at once
TAUGHT = 20  # brains in which a judge sees every artefact at every strength
OWN_FIT = 100  # brains from which on a model of their own can be fitted


# ---- who is used ----


def excluded_brains(all_brains, checks: pd.DataFrame) -> dict[str, str]:
    """Entries of the folder or its table that nothing below is said of, and why."""
    return all_brains.refused | checks.loc[checks["unsuited"] != "", "unsuited"].to_dict()


def describe_brains(p, all_brains, checks: pd.DataFrame, groups) -> str:
    """In lines, what is left out and why, then who is used and for what."""
    out, unlike = excluded_brains(all_brains, checks), checks["unlike"][checks["unlike"] != ""]
    used = int((checks["unsuited"] == "").sum())
    lines = [f"left out: {len(out) or 'nothing'}; brains used: {used}"]
    lines += [f"{brain} is left out: {why}" for brain, why in out.items()]
    if groups:
        lines += [f"{brain} is not compared: {why}" for brain, why in groups.excluded.items()]
        terms = ", ".join(groups.design.columns)
        lines.append(f"{groups.design.contrast}: {groups.used.sum()} brains; terms: {terms}")
    else:
        lines.append("no groups are asked about: none are compared")
    lines += [f"{brain} is unlike the reference: {why}" for brain, why in unlike.items()]
    return "\n".join([*lines, *fit_commands(p, all_brains.name, used)])


def fit_commands(p, name: str, n_brains: int) -> list[str]:
    """From 100 brains on, the commands that fit models to them; else nothing."""
    if n_brains < OWN_FIT or p.lab.brains == "simulated":
        return []
    atlas, own = p.cohort.atlas, "".join(c if c.isalnum() else "_" for c in f"own_{name}")
    content = {"brains": p.lab.brains, "atlas": "ATLAS" if atlas == "drawn" else atlas}
    content |= {} if p.cohort.plane == 286 else {"plane": p.cohort.plane}
    content |= {} if p.lab.orientation == "header" else {"orientation": p.lab.orientation}
    made = ", ".join(f"{key}: {json.dumps(value)}" for key, value in content.items())
    where = "the same atlas"
    if atlas == "drawn":
        where = "the CCF: for ATLAS give a folder with its files (make acquire leaves one)"
    return [
        f"{n_brains} brains are enough to fit models to them alone, on {where}. In the project:",
        f"  echo {shlex.quote(f'cohort: {{{made}}}')} > notebooks/params/{own}.yaml",
        f"  make book PROFILE={own}",
        f"and this report beside them: make report with PROFILE={own}",
    ]


# ---- each brain ----


def train_artefact_judge(p, reference, model) -> ArtefactJudge:
    """A judge that has seen artefacts, and unusual anatomy, in brains held out from the model."""
    ordinary, atlas = clean_part(reference, "validation").images, reference.atlas
    unusual = [displaced(ordinary[:20], atlas, factor, by) for factor in UNUSUAL for by in BY]
    for number, mask in enumerate(atlas.roi_masks(atlas.regions(p.fields.region_share))):
        edged = gaussian_filter(mask.astype(np.float32), EDGE_UM / atlas.pixel_um)
        some = ordinary[np.arange(number * SHADED, (number + 1) * SHADED) % len(ordinary)]
        for shaded in (some * (1 + by * edged) for by in SHADES):
            means = [of[:, atlas.brain_mask].mean(axis=1) for of in (some, shaded)]
            gain = (means[0] / means[1])[:, np.newaxis, np.newaxis]  # a lab's have one brightness
            unusual.append((shaded * gain).clip(max=1))
    n_graded = min(p.evaluation.n_graded, TAUGHT)
    planted = graded_artefacts(reference, p.evaluation.artefact_strengths, n_graded)
    return ArtefactJudge(model, np.concatenate([ordinary, *unusual]), planted)


def artefact_labels(judgement, checks: pd.DataFrame) -> np.ndarray:
    """What the contact sheet says of each brain that is used: artefact, probability, unlike."""
    unlike = checks.loc[checks["unsuited"] == "", "unlike"] != ""
    brains = zip(judgement.kind, judgement.probability, unlike, strict=True)
    return np.array([f"{kind} {p:.2f}" + ", unlike" * is_unlike for kind, p, is_unlike in brains])


class Deviations(NamedTuple):
    """How far brains lie from the norm: ``z`` (brains × measures), and ``overall`` one z a brain.

    ``without`` says why a brain's norm is not adjusted for a covariate, ``source`` what the norm is
    of.
    """

    z: pd.DataFrame
    overall: np.ndarray
    without: pd.DataFrame
    source: str

    @property
    def summary(self) -> str:
        """In lines, what the norm is adjusted for, and of which brains it is not."""
        names = [name for name in self.without if (self.without[name] == "").any()]
        lines = [f"norms are adjusted for {', '.join(names) or 'nothing'}"]
        for name, why in self.without.items():
            for reason, brains in why[why != ""].groupby(why, sort=False):
                every = len(brains) == len(why)
                who = "every brain" if every else ", ".join(map(str, brains.index))
                lines.append(f"without {name}: {who} ({reason})")
        return "\n".join(lines)


def region_means(p, brains) -> pd.DataFrame:
    """Mean brightness, brains × regions."""
    regions = brains.atlas.regions(p.fields.region_share)
    means = region_brightness(brains.images, brains.atlas.roi_masks(regions))
    return pd.DataFrame(means.T, brains.metadata.index, regions)


def region_deviations(p, reference, brains) -> Deviations:
    """Each region's brightness against the reference's clean brains; overall all at once."""
    usual, mine = clean_part(reference, "train"), region_means(p, brains)
    norm = AdjustedNorm(region_means(p, usual), usual.metadata)
    return _deviations(norm, norm.whole, mine, reference, len(usual), brains)


def tile_deviations(reference, brains, model) -> Deviations:
    """A model's error in tiles of 0.4 mm against clean brains that it was not fitted to.

    Overall it is the tile that deviates most: what is in one place only.
    """
    parts = [clean_part(reference, name) for name in ("validation", "test")]
    errors = [_tile_errors(part, model) for part in (*parts, brains)]
    norm = AdjustedNorm(pd.concat(errors[:2]), pd.concat([part.metadata for part in parts]))
    return _deviations(
        norm, norm.largest, errors[2], reference, len(errors[0]) + len(errors[1]), brains
    )


def tile_maps(found: Deviations, brains, which) -> np.ndarray:
    """Size of the deviation of every tile of some brains, (n, height, width)."""
    side, tiles = _tiles(brains.atlas)
    maps = np.zeros((len(which), *tiles.shape))
    maps[:, tiles] = np.abs(found.z.to_numpy()[which])
    return maps.repeat(side, axis=1).repeat(side, axis=2)


def _tiles(atlas):
    side = round(TILE_UM / atlas.pixel_um)
    return side, block_mean(atlas.brain_mask.astype(np.float32), side) > 0.5


def _tile_errors(brains, model):
    side, tiles = _tiles(brains.atlas)
    starts = range(0, len(brains), CHUNK)
    chunks = (np.asarray(brains.images[start : start + CHUNK]) for start in starts)
    errors = [block_mean(x - model.reconstruct(x), side)[:, tiles] for x in chunks]
    return pd.DataFrame(np.concatenate(errors), brains.metadata.index)


def _deviations(norm, overall, mine, reference, n_usual, brains):
    of = brains.metadata
    z = pd.DataFrame(norm.z(mine, of), mine.index, mine.columns)
    source = f"{len(z)} brains of {brains.name}; norm of {n_usual} clean brains of {reference.name}"
    return Deviations(z, overall(mine, of), norm.unknown(of), source)


def brain_table(
    all_brains, checks, groups, judgement, by_region: Deviations, by_tile: Deviations
) -> pd.DataFrame:
    """All that is said of each brain that came, a brain a row, beside the table's own columns.

    Entries that could not be taken as brains have a row too, which says why.
    """
    found, names = checks.assign(used=checks["unsuited"] == ""), by_region.z.index
    if groups:
        found["not_compared"] = found.index.map(groups.excluded.get)
    found.loc[names, "artefact_probability"] = judgement.probability
    found.loc[names, "artefact_kind"] = judgement.kind
    found.loc[names, "whole_z"] = by_region.overall
    found.loc[names, "local_z"] = by_tile.overall
    found.loc[names, "norm_without"] = [
        "; ".join(f"{name}: {why}" for name, why in row.items() if why)
        for row in by_region.without.to_dict("index").values()
    ]
    found = found.join(by_region.z.add_suffix("_z"))
    own = all_brains.metadata.drop(columns=GAIN, errors="ignore")
    table = own.merge(found, left_index=True, right_index=True, suffixes=(" (table)", ""))
    refused = pd.DataFrame({"unsuited": pd.Series(all_brains.refused, dtype=object), "used": False})
    return pd.concat([table, refused]).rename_axis(index=table.index.name)


# ---- what is kept ----

ABOUT = "report.json"  # in a report's folder: of which brains it is, and what was asked
FORMAT, SEALED = 1, ("format", "files", "sha256")  # which reports of old have not
ANEW = "a report of these brains is written anew beside it"


def save(p, name: str, files: Mapping[str, object], made_from: Mapping | None = None) -> Path:
    """Write tables, pictures and arrays of a report to a folder, which appears when all are there.

    Beside them, and in the pictures, stands with which versions they were made, and from what: a
    cohort, a model.

    The folder has the ``name``, with a number where there is a report of other brains under it. Of
    files, by their name, are DataFrames, Figures or mappings of arrays written; what is None is
    not.
    """
    reports, brains = Path(p.places.reports), p.lab.brains
    if brains != "simulated":
        brains = os.path.realpath(os.path.expandvars(brains))
    about = {"brains": brains, "group": p.lab.group, "covariates": p.lab.covariates}
    about |= {"orientation": p.lab.orientation, "profile": p.profile}
    about |= {"made": made_with(), "made_from": made_from}
    with writing_report(reports, name) as own:
        new = own / name
        new.mkdir()
        for file, content in files.items():
            if isinstance(content, pd.DataFrame):
                content.to_csv(new / file, index=not isinstance(content.index, pd.RangeIndex))
            elif isinstance(content, Mapping):
                np.savez_compressed(new / file, **content)
            elif content is not None:
                is_png = file.endswith(".png")  # which takes any words
                metadata = {"Description": json.dumps(about)} if is_png else None
                content.savefig(new / file, metadata=metadata)
        seal(new, ABOUT, {"format": FORMAT} | about)
        return publish_report(new, reports)


def add_page(folder: Path, page: str) -> None:
    """Put ``report.html`` into a report's folder, whose checksums are then of that too."""
    about = read_report(folder)
    Path(folder, "report.html").write_text(page, encoding="utf-8")
    seal(folder, ABOUT, {"format": FORMAT} | {n: about[n] for n in about if n not in SEALED})


def read_report(folder: Path) -> dict:
    """What a report's folder says of itself, once every file of it is what was written.

    Damage is a ValueError that names the file.
    """
    return read_sealed(folder, ABOUT, FORMAT, ANEW)


@contextmanager
def writing_report(reports: Path, name: str) -> Iterator[Path]:
    """A hidden folder to write a report of this name in, one process at a time."""
    message = f"waiting for another process that writes a report of {name}"
    with file_lock(reports / name, message), scratch_path(reports / name) as own:
        ours = re.compile(rf"\.({(of := re.escape(name))}(-\d+)?)~{of}~before")
        for earlier in filter(ours.fullmatch, os.listdir(reports)):  # a kill between two renames
            _put_back(reports / earlier, reports / ours.fullmatch(earlier)[1])
        own.mkdir()
        yield own


def publish_report(new: Path, reports: Path) -> Path:
    """Put a report among others, with a number where one of other brains or questions has its name.

    An earlier one of the same stays as it was until this one has its place.
    """
    number, folder = 1, reports / new.name
    while folder.exists() and _report_identity(folder) != _report_identity(new):
        number += 1
        folder = reports / f"{new.name}-{number}"
    earlier = folder.with_name(f".{folder.name}~{new.name}~before")
    if folder.exists():
        os.replace(folder, earlier)
    try:
        os.replace(new, folder)
    finally:
        _put_back(earlier, folder)
    return folder


def _put_back(earlier, folder):
    """An earlier report in its place, unless another one has that."""
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    elif earlier.exists():
        os.replace(earlier, folder)


def _report_identity(folder):
    """Of which brains a report is, and what was asked; None of what is no report or damaged."""
    if not Path(folder, ABOUT).exists():
        return None
    try:
        about = read_report(folder)
    except ValueError as error:
        print(f"warning: {error}", file=sys.stderr)
        return None
    identity = ("brains", "group", "covariates", "orientation", "profile")
    return {name: about.get(name) for name in identity}

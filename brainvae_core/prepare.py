"""A profile's cohorts, atlas and lab's brains: made once, kept, and read from then on."""

from __future__ import annotations

import ast
import hashlib
import os
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from brainvae_core import cohorts
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.brain_table import brain_ids
from brainvae_core.cohorts.files import content_hashes, files_below
from brainvae_core.cohorts.preprocess import check_parts
from brainvae_core.cohorts.read import brain_files, brain_id, is_one_brain, source_files
from brainvae_core.disk import file_lock, whole
from brainvae_core.models import ReleasedConfig, Run, import_runs, load_run, run_name
from brainvae_core.models.kept import copy_run

SAVED = "cohort"  # in a folder that `make authors` left: the cohort, and beside it the run
DESCRIBED = "cohort.json"  # what every saved cohort has
# Modules of cohorts/ that ask, fetch, or are of a lab's brains alone.
NO_MAKERS = ("__init__", "allen", "ask_allen", "ask_files", "authors", "fetch", "web")
NO_MAKERS += ("freeform", "groups", "lab")
EXAMPLE = {"n_a": 12, "n_b": 12, "effect": "brightness HPF", "size": 2.0}  # in place of a lab's


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


def cohort_folder(p) -> Path:
    """Where the profile's cohort is kept, whether it was made or not.

    Its name carries a hash of what it is made from: the settings, the content of the files of its
    brains and its atlas, and the code that makes it.
    """
    s = p.cohort
    if saved := _saved(s.brains):
        return saved
    made_from = [_atlas_files(p), s.plane, s.shape, s.seed]
    if s.brains == "simulated":
        name = f"simulated-{s.n_brains}"
        made_from += [s.n_brains, s.artefact_share]
    else:
        folder = Path(os.path.abspath(_expanded(s.brains)))
        name = folder.name
        made_from += [s.orientation, s.clip_pixels, s.drop_brains, s.outlier_limit]
        made_from += _contents(p, folder)
    digest = hashlib.sha256(repr(made_from).encode() + _code(Path(cohorts.__file__).parent))
    return Path(p.places.data) / f"{name}-{digest.hexdigest()[:8]}"


@cache
def _code(folder) -> bytes:
    """The code of a folder that makes cohorts, without docstrings and comments."""
    modules = [m for m in sorted(folder.glob("*.py")) if m.stem not in NO_MAKERS]
    trees = [ast.parse(module.read_bytes()) for module in modules]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return "".join(map(ast.unparse, trees)).encode()


def cohort_content(p) -> str:
    """What tells whether the profile's cohort, or the authors' model beside it, has changed."""
    if not (saved := _saved(p.cohort.brains)):
        return str(cohort_folder(p))  # its name tells
    brains = Path(_expanded(p.cohort.brains))
    runs = sorted(brains.glob(f"{ReleasedConfig.kind}-*/config.json"))
    return repr([_atlas_files(p), _hashed(p, [saved / DESCRIBED, *runs], brains)])


def lab_content(p) -> str:
    """What tells whether the lab's brains have changed."""
    if p.lab.brains == "simulated":
        return p.lab.brains
    given = Path(_expanded(p.lab.brains))
    if is_one_brain(given):
        return repr(_hashed(p, brain_files(given)))
    return repr(_hashed(p, source_files(given) if given.is_dir() else []))


def prepare_cohort(p) -> cohorts.Cohort:
    """The profile's cohort: read from ``data`` where it was made before, else made and kept there.

    Runs of it that come with the project are put among the profile's. What is wrong with how its
    brains lie is printed.
    """
    path = cohort_folder(p)
    if not whole(path):
        with ExitStack() as stack:
            with _keeping(path):
                message = f"waiting for another process that makes {path.name}"
                stack.enter_context(file_lock(path, message))
            if not path.exists():
                made = _made(p)
                with _keeping(path):
                    made.save(path)
    cohort = _as_saved(p, path) if path == _saved(p.cohort.brains) else cohorts.open_cohort(path)
    import_runs(cohort, p.places.results, p.places.runs)
    if line := cohorts.describe_orientation(cohort):
        print(line)
    return cohort


@contextmanager
def _keeping(path):
    """Say what to do where a cohort cannot be written."""
    try:
        yield
    except OSError as error:
        if not path.exists():  # another process may have made it meanwhile
            why = f"the cohort cannot be kept in {path.parent} ({error.strerror or error}); make"
            raise ValueError(f"{why} room there, or give another folder with -p data") from error


def released_run(p) -> Run | None:
    """The run of the authors' model beside the profile's brains; None where there is none.

    ValueError where the profile's L or β is another: that would be another model.
    """
    saved = _saved(p.cohort.brains)
    if saved is None or saved == Path(_expanded(p.cohort.brains)):
        return None
    found = sorted(saved.parent.glob(f"{ReleasedConfig.kind}-*"))
    if len(found) != 1:
        raise ValueError(
            f"{saved.parent} has {len(found)} runs of the authors' model; run `make authors` again"
        )
    run = load_run(found[0])
    for name in ("latent_dim", "beta"):
        theirs, given = getattr(run.config, name), getattr(p.model, name)
        if theirs != given:
            raise ValueError(
                f"{name}={given:g}: the authors' model in {saved.parent} has {theirs:g} and is not "
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
    for name in ("plane", "seed", "orientation", "clip_pixels", "drop_brains", "outlier_limit"):
        if (wanted := getattr(p.cohort, name)) != (left := getattr(usual, name)):
            raise ValueError(
                f"{name}={wanted}: the cohort in {saved} is as it was saved; leave {left}"
            )
    own = _saved(p.cohort.atlas)
    if p.cohort.atlas != "drawn" and not (own and own.samefile(saved)):
        raise ValueError(
            f"atlas={p.cohort.atlas}: the cohort in {saved} keeps the atlas that it was made with; "
            f"give atlas={saved}, or make the cohort anew with another"
        )
    cohort, run = cohorts.open_cohort(saved), released_run(p)
    if run is not None:
        if run.folder.name != run_name(run.config, cohort.fingerprint):
            raise ValueError(
                f"{run.folder} is of another cohort than {saved}; run `make authors` again"
            )
        copy_run(run.folder, cohort, p.places.runs)
    return cohort if cohort.atlas.shape == p.cohort.shape else cohort.resampled(p.cohort.shape)


@lru_cache(maxsize=len(cohorts.SIMULATORS))
def truth_cohort(p, simulator: str) -> cohorts.Cohort:
    """As many brains of one of `SIMULATORS` at the grid's size, of one brightness (chapter 10).

    Those of "planted" are the profile's own where it simulates them. Runs that come with the
    project are put among the profile's.
    """
    s, shape = p.cohort, p.grid.shape
    if simulator == "planted":
        cohort = prepare_cohort(p.changed({"cohort.brains": "simulated"})).resampled(shape)
    else:
        of = cohorts.SIMULATORS[simulator]
        made = of.cohort(s.n_brains, open_atlas(p), shape, s.artefact_share, s.seed)
        cohort = cohorts.equalise_brightness(made)
    import_runs(cohort, p.places.results, p.places.runs)
    return cohort


def lab_brains(p, reference: cohorts.Cohort) -> cohorts.Cohort:
    """A lab's brains, of a folder or one alone, on the reference cohort's grid and greys.

    Those that cannot be brought there are ``refused``, as are rows of the table without a brain.
    Simulated ones are `EXAMPLE`. ValueError where a folder has no table and groups are asked about.
    """
    s = p.lab
    if s.brains == "simulated":
        made = cohorts.simulate_groups(
            **EXAMPLE, atlas=open_atlas(p), shape=reference.atlas.shape, seed=p.cohort.seed + 1
        )
        return cohorts.comparable_brains(made.images, made.metadata, reference, name="example")
    if "drawn" in reference.atlas.name:  # in the CCF's place too, beside a release without it
        print(
            f"the atlas of profile {p.profile} is drawn: of real brains its regions are not the "
            "CCF's; give a profile on the CCF, such as ccf or paper"
        )
    given = Path(_expanded(s.brains))
    if is_one_brain(given):
        if s.group:
            raise ValueError(f"{given} is one brain, which has no groups: leave group empty")
        metadata = pd.DataFrame(index=pd.Index([brain_id(given)], name="id"))
        sections, refused = cohorts.read_section(given, p.cohort.plane, s.orientation)[None], {}
    else:
        table, wanted = given / "metadata.csv", [name for name in (s.group, *s.covariates) if name]
        if wanted and given.is_dir() and not os.path.lexists(table):
            raise ValueError(
                f"{given} has no metadata.csv, which is to tell {', '.join(wanted)} of each brain; "
                "add it, or give group='' and no covariates to compare nothing"
            )
        sections, metadata, refused = cohorts.read_sections(given, p.cohort.plane, s.orientation)
        if table.is_file():
            rows = [brain for brain in brain_ids(table) if brain not in {*metadata.index, *refused}]
            refused |= dict.fromkeys(rows, "no brain here, only a row in metadata.csv")
    return cohorts.comparable_brains(
        sections, metadata, reference, refused=refused, name=given.name
    )


def neighbouring_planes(p) -> dict[int, np.ndarray]:
    """Templates of planes around the profile's own, as far as its atlas's folder has them."""
    if p.cohort.atlas == "drawn" or _saved(p.cohort.atlas):
        return {}
    return cohorts.ccf_templates(_expanded(p.cohort.atlas), p.cohort.plane)


def plane_change(p, mean: np.ndarray, atlas: cohorts.Atlas) -> np.ndarray:
    """What a section from a little further along the axis adds to a mean section.

    By the templates beside the profile's plane; where there are none as the simulator moves tissue.
    """
    planes, own = neighbouring_planes(p), p.cohort.plane
    before, after = [q for q in planes if q < own], [q for q in planes if q > own]
    if not before or not after:
        return cohorts.displaced(mean[None], atlas, "ap_position", 1.0)[0] - mean
    change = (planes[min(after)] - planes[max(before)]) * (mean.mean() / planes[own].mean())
    return block_mean(change, len(change) // len(mean))


def lab_truth(p, reference: cohorts.Cohort) -> dict[str, np.ndarray]:
    """What was planted between the groups, by name, (height, width); nothing of real brains.

    Of sections of one brightness, as those are in which it is looked for.
    """
    if p.lab.brains != "simulated":
        return {}
    effect, size = EXAMPLE["effect"], EXAMPLE["size"]
    of = reference.atlas, "anatomical", cohorts.Preprocessing.of(reference)
    return {effect: cohorts.planted_difference(effect, size, *of)}


def _made(p):
    """The cohort that is simulated, or of a folder that `acquire` left, or of one's own brains."""
    s = p.cohort
    if s.brains == "simulated":
        made = cohorts.simulate(s.n_brains, open_atlas(p), s.shape, s.artefact_share, s.seed)
        return cohorts.equalise_brightness(made)
    folder = Path(_expanded(s.brains))
    if (folder / "experiments.csv").exists():
        sections, metadata = cohorts.read_acquired(folder, s.plane)
        ledger = cohorts.read_ledger(folder)
        refused = {i: cohorts.cause(why) for i, why in ledger.refused.items()}
        refused |= dict.fromkeys(ledger.not_tried, "not tried yet; run make acquire again")
    else:
        sections, metadata, refused = cohorts.read_sections(folder, s.plane, s.orientation)
    made = cohorts.preprocess(
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
    if s.drop_brains:
        found, brains = made.metadata, made.metadata.index.to_series()
        original, outlier = found.get("copy_of", brains).fillna(brains), found["outlier"]
        aside = "set aside by drop_brains as an outlier: " + outlier[outlier != "none"]
        check_parts(found["split"], original, made.refused | aside.to_dict())
    return made


def _contents(p, folder):
    """What tells whether a folder of brains has changed."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder of brains at {folder}; `make acquire` or `make authors` leaves one"
        )
    if (folder / "experiments.csv").exists():  # the manifest holds every section's sha256
        names = ("experiments.csv", "manifest.jsonl", "refused.csv")
        return [(folder / n).read_bytes() for n in names if (folder / n).exists()]
    # Entries that are no brain are listed with the cohort.
    entries = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [entries, _hashed(p, source_files(folder), folder)]


def _atlas_files(p):
    """What tells whether the atlas has changed."""
    if p.cohort.atlas == "drawn":
        return p.cohort.atlas
    if saved := _saved(p.cohort.atlas):
        return _hashed(p, [saved / DESCRIBED], saved)
    folder = Path(_expanded(p.cohort.atlas))
    names = ("annotation_25.nrrd", "average_template_25*", "struct*.json")
    return _hashed(p, files_below(folder, *names), folder)


def _hashed(p, files, folder="/"):
    """Each file by its path in a folder and its content."""
    hashes = content_hashes(files, Path(p.places.data, ".hashes.json"))
    return [(os.path.relpath(f, folder), h) for f, h in zip(files, hashes, strict=True)]


def _expanded(path: str) -> str:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise ValueError(f"{path} names an environment variable that is not set")
    return expanded

"""A small valid example of every kind of file that is read, and how it is read."""

import json
import shutil
import tempfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from authors_release import AuthorsNetwork, checkpoint
from chapters import quoted_of, read_notebook, record_of, stamp_of
from test_atlas import write_ccf
from test_exchanged import packed
from test_own import VOLUME, brainreg_folder, save_array, save_nifti, save_nrrd, save_tiff
from test_volumes import metaimage

from brainvae_core import lab
from brainvae_core.cohorts import (
    allen,
    ccf_atlas,
    open_cohort,
    read_acquired,
    read_ledger,
    read_section,
    read_sections,
    simulate,
)
from brainvae_core.cohorts.authors import read_authors_array
from brainvae_core.cohorts.brain_table import read_brain_table
from brainvae_core.cohorts.ccf import read_ontology
from brainvae_core.cohorts.fetch import read_metaimage
from brainvae_core.cohorts.files import content_hashes
from brainvae_core.cohorts.orientation import VolumeError
from brainvae_core.cohorts.volumes import in_atlas_space
from brainvae_core.disk import digest_of, sha256_of
from brainvae_core.models import (
    BetaVAEConfig,
    PCAConfig,
    export_runs,
    fit,
    import_runs,
    load_run,
    read_released,
    train_together,
)
from brainvae_core.models.training import read_checkpoint
from brainvae_core.results import measured, read_rows, write_measured, write_rows
from brainvae_core.settings import Settings, read_profile, read_settings

ROOT = Path(__file__).parent.parent
CONFIG = BetaVAEConfig(latent_dim=2, steps=2, batch_size=4, validate_every=1, precision="float32")
ABOUT = {"format": 1, "table": "grid", "cohort": "of this one", "settings": {"fd_dim": 3}}
PROFILE = """cohort:
  n_brains: 40
  shape: [40, 56]
  artefact_share: 0.1
model:
  beta: 2.0
  steps: "40x56: 5"
  likelihood: gaussian
grid:
  betas: [1, 3]
  seeds: [0, 1]
fields:
  rois: [SSp, HPF]
  c_max: 5.0
"""


@cache
def cohort():
    return simulate(17, shape=(40, 56), seed=4)


@cache
def example(kind) -> Path:
    """A small valid folder of a kind, made once."""
    folder = Path(tempfile.mkdtemp(prefix="example-")) / kind.replace(" ", "-")
    folder.mkdir()
    KINDS[kind][0](folder)
    folder.parent.chmod(0o755)
    return folder


def make_acquired(folder):
    table = pd.DataFrame({"id": ["303", "101"], "sex": "F", "injection_volume": 0.1})
    table["url"], table["refused"] = "http://x/" + table["id"], ""
    table.to_csv(folder / "experiments.csv", index=False)
    (folder / "sections").mkdir()
    allen.check_request(folder, 286, "red")
    for i, id in enumerate(table["id"]):
        section = np.random.default_rng(i).integers(0, 60_000, (320, 456), dtype=np.uint16)
        facts = {"id": id, "bytes": 10 + i, "zip_bytes": 100, "plane": 286, "channel": "red"}
        allen.save_section(folder, section, facts)
    pd.DataFrame(columns=["id", "url", "reason"]).to_csv(folder / "refused.csv", index=False)
    allen.list_checksums(folder, "experiments.csv", "request.json", "refused.csv")


def read_acquisition(folder):
    sections, ledger = read_acquired(folder, 286), read_ledger(folder)
    if ledger.not_tried:  # as the cohort lists them
        raise ValueError(f"{folder / 'manifest.jsonl'} lists not yet: {ledger.not_tried}")
    return sections, ledger


def make_atlas(folder, is_sealed=True):
    write_ccf(folder)
    if is_sealed:
        sums = {file.name: sha256_of(file) for file in folder.iterdir()}
        sealed = sums | {"sha256": digest_of(sums)}
        (folder / "checksums.json").write_text(json.dumps(sealed))


def make_brain_table(folder):
    (folder / "metadata.csv").write_text("id,sex,age\na,F,1.5\nb,M,2\nc,F,7\n")


def make_lab(folder):
    for i, name in enumerate(["a", "b", "c"]):
        np.save(folder / f"{name}.npy", VOLUME[20 + i])
    make_brain_table(folder)


def read_lab(folder):
    *found, refused = read_sections(folder, 160)
    if refused:  # as the cohort lists them
        raise ValueError("; ".join(f"{folder}/{brain}: {why}" for brain, why in refused.items()))
    return found


def make_kept(folder):
    export_runs(cohort(), [fit(cohort(), CONFIG, folder.parent / "runs", "cpu")], folder / "own")


def read_kept(folder):
    with tempfile.TemporaryDirectory() as runs:
        return [load_run(Path(runs, name)) for name in import_runs(cohort(), folder, runs)]


def read_open(folder):
    found = open_cohort(folder / "cohort")
    return found, found.images, found.clean, found.artefact_masks


def make_table(folder):
    rows = pd.DataFrame({"fit": ["a", "b"], "score": "rate", "value": [0.5, 1.25]})
    write_rows(folder / "grid.csv.gz", rows, ABOUT)


def read_table(folder):
    told, text = read_rows(folder / "grid.csv.gz")
    return text if {n: told.get(n) for n in ABOUT} == ABOUT else None  # of another cohort


def make_measured(folder):
    for name in ("training", "realism"):
        rows = pd.DataFrame({"of": [name, "b"], "value": [0.5, 1.25]})
        write_measured(name, rows, {"seed": 0}, folder)


def read_measured(folder):
    return [measured(name, folder) for name in ("training", "realism")]


def read_meta(folder):
    contents = {name: (folder / name).read_bytes() for name in ("a.mhd", "a.raw")}
    return read_contents(folder / "a.mhd", contents)


def read_packed_meta(folder):
    return read_contents(folder / "a.mha", {"a.mha": (folder / "a.mha").read_bytes()})


def read_contents(file, contents):
    try:
        volume = read_metaimage(contents)
        return in_atlas_space(volume), volume
    except VolumeError as error:  # the acquisition puts the brain and its address before it
        raise VolumeError(f"{file}: {error}") from error


def read_text_settings(folder):
    text = (folder / "settings.yaml").read_text(encoding="utf-8", errors="replace")
    lines = ", ".join(line.strip().replace(": ", "=", 1) for line in text.splitlines())
    return read_settings({"profile": "demo", "settings": lines}, show=False).flat()


def read_chapter(folder):
    notebook = read_notebook(folder / "01_brains.ipynb")
    return record_of(notebook), quoted_of(notebook), stamp_of(notebook)


def read_hashes(folder):
    return content_hashes([ROOT / "README.md", ROOT / "LICENSE"], folder / ".hashes.json")


def make_report(folder):
    p = Settings().changed({"reports": f"{folder}", "lab.brains": "/a/lab"})
    table = pd.DataFrame({"overall": [0.5, 1.25]}, pd.Index(["a", "b"], name="brain"))
    report = lab.save(p, "lab", {"brains.csv": table, "cleaned.npz": {"a": np.eye(2)}})
    lab.add_page(report, "<html></html>")


def one(write, name):
    """A kind of a single file."""
    return lambda folder: write(folder / name)


def of_section(name, write):
    """A volume or section that `read_section` reads."""
    return one(write, name), lambda folder: read_section(folder / name, 160), True


# Of each kind how an example is made, how it is read, and whether nothing can tell that a value in
# it was exchanged for another that is allowed, such as a pixel's in a file of somebody else's.
KINDS = {
    "cohort": (lambda folder: cohort().save(folder / "cohort"), read_open, False),
    "run": (
        lambda folder: fit(cohort(), PCAConfig(2), folder, "cpu"),
        lambda folder: load_run(next(folder.glob("pca*"))),
        False,
    ),
    "run of a VAE": (
        lambda folder: fit(cohort(), CONFIG, folder, "cpu"),
        lambda folder: load_run(next(folder.glob("beta*"))),
        False,
    ),
    "unfinished fit": (
        lambda folder: train_together(
            [CONFIG], cohort().images, cohort().images, checkpoints=[folder / "c.safetensors"]
        ),
        lambda folder: read_checkpoint(folder / "c.safetensors", CONFIG),
        False,
    ),
    "kept runs": (make_kept, read_kept, False),
    "table of scores": (make_table, read_table, False),
    "measured tables": (make_measured, read_measured, False),
    "report": (make_report, lambda folder: lab.read_report(folder / "lab"), False),
    "acquisition": (make_acquired, read_acquisition, False),
    "acquired atlas": (make_atlas, lambda folder: ccf_atlas(folder, 1), False),
    "hashes": (read_hashes, read_hashes, False),
    "atlas": (lambda folder: make_atlas(folder, False), lambda folder: ccf_atlas(folder, 1), True),
    "ontology": (
        lambda f: shutil.copy(example("atlas") / "structures.json", f / "structures.json"),
        lambda folder: read_ontology(folder / "structures.json"),
        True,
    ),
    "profile": (
        one(lambda path: path.write_text(PROFILE), "own.yaml"),
        lambda folder: read_profile(folder / "own.yaml").flat(),
        True,
    ),
    "settings": (
        one(lambda p: p.write_text("beta: 2.0\ngrid.seeds: [0, 1]\nn_read: 20"), "settings.yaml"),
        read_text_settings,
        True,
    ),
    "table of brains": (
        make_brain_table,
        lambda folder: read_brain_table(folder / "metadata.csv", ["a", "b", "c"]),
        True,
    ),
    "lab": (make_lab, read_lab, True),
    "chapter": (
        lambda folder: shutil.copy(ROOT / "notebooks/02_model.ipynb", folder / "01_brains.ipynb"),
        read_chapter,
        True,
    ),
    "authors' array": (
        one(lambda p: np.save(p, cohort().images.transpose(0, 2, 1)), "a.npy"),
        lambda folder: np.array(read_authors_array(folder / "a.npy")),
        True,
    ),
    "authors' checkpoint": (
        one(lambda p: p.write_bytes(checkpoint(AuthorsNetwork(2, 1))), "checkpoint"),
        lambda folder: read_released(folder / "checkpoint"),
        True,
    ),
    "brainreg": (
        lambda folder: brainreg_folder(folder / "mouse"),
        lambda folder: read_section(folder / "mouse", 160),
        True,
    ),
    "MetaImage": (
        lambda folder: [(folder / n).write_bytes(c) for n, c in metaimage().items()],
        read_meta,
        True,
    ),
    "packed MetaImage": (
        lambda f: (f / "a.mha").write_bytes(
            packed((m := metaimage()), zlib.compress(m["a.raw"]))["a.mha"]
        ),
        read_packed_meta,
        True,
    ),
    "NPY": of_section("a.npy", save_array),
    "NPZ": of_section("a.npz", save_array),
    "NRRD": of_section("a.nrrd", save_nrrd),
    "NIfTI": of_section("a.nii", save_nifti),
    "packed NIfTI": of_section("a.nii.gz", save_nifti),
    "TIFF": of_section("a.tif", save_tiff),
}

"""What a cohort is made from is known by content, through links; brains that lie wrong are told."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import grimp
import numpy as np
import pandas as pd
import pytest
from lab_folder import asymmetric_brains
from scipy.ndimage import shift

from brainvae_core import cohorts, prepare
from brainvae_core.cohorts import (
    describe_orientation,
    drawn_atlas,
    preprocess,
    run_quality_control,
    simulate,
)
from brainvae_core.cohorts.files import content_hashes, files_below
from brainvae_core.cohorts.orientation import section_orientations
from brainvae_core.prepare import cohort_folder, lab_content
from brainvae_core.settings import Settings


def farm(root, lab, n=3, seed=0):
    """A folder of links to n brains, brainreg's and sections, that lie in the lab's store."""
    rng, brains, store = np.random.default_rng(seed), root / lab / "brains", root / lab / "store"
    brains.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        if i % 2:
            path = store / f"m{i}.npy"
            path.write_bytes(rng.bytes(200))
        else:
            path = store / f"m{i}"
            path.mkdir(parents=True)
            (path / "brainreg.json").write_text("{}")
            (path / "downsampled_standard.tiff").write_bytes(rng.bytes(200))
        (brains / path.name).symlink_to(path)
    return brains


@pytest.fixture
def p(tmp_path):
    """A profile of linked brains and a linked atlas; nothing of them can be read, only hashed."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/annotation_25.nrrd").write_bytes(b"labels")
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas/ccf").symlink_to(tmp_path / "far")
    brains, places = farm(tmp_path, "A"), {"data": str(tmp_path / "data")}
    return Settings().changed({"brains": str(brains), "atlas": str(tmp_path / "atlas"), **places})


def rewritten(path):
    """Another content of the same size and time of last change."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "another brain": lambda at: farm(at, "A", 0) and (at / "A/brains/m9.npy").write_bytes(b"x"),
    "a section's pixels": lambda at: rewritten(at / "A/store/m1.npy"),
    "a brainreg image": lambda at: rewritten(at / "A/store/m0/downsampled_standard.tiff"),
    "a second image": lambda at: (at / "A/store/m0/downsampled_standard_1.tiff").write_bytes(b"x"),
    "a brainreg.json": lambda at: (at / "A/store/m2/brainreg.json").write_text("[]"),
    "a lost brain": lambda at: (at / "A/store/m1.npy").unlink(),
    "what is known": lambda at: (at / "A/brains/metadata.csv").write_text("id\n"),
    "what is refused": lambda at: (at / "A/brains/notes.txt").write_text("x"),
    "the atlas": lambda at: rewritten(at / "far/annotation_25.nrrd"),
    "an atlas file": lambda at: (at / "far/structures.json").write_text("[]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_content_is_another_cohort(p, tmp_path, change):
    before = cohort_folder(p)
    CHANGES[change](tmp_path)
    assert cohort_folder(p) != before


@pytest.mark.parametrize(
    "switch", [{"clip_pixels": False}, {"outlier_limit": 5.0}, {"cohort.seed": 1}]
)
def test_another_switch_is_another_cohort(p, switch):
    assert cohort_folder(p.changed(switch)) != cohort_folder(p)


EDITS = {  # of a module, and whether it makes another cohort
    "a docstring": ("simulated", '"""', '"""Of late, ', False),
    "a comment": ("atlas", "\nimport", "\n# as ever\nimport", False),
    "a fetch's code": ("web", "REDIRECTS = 5", "REDIRECTS = 6", False),
    "the simulator's code": ("simulated", "clip(-3, 3)", "clip(-2, 3)", True),
    "a reader's code": ("brain_table", '"none", "null"', '"null"', True),
}


@pytest.mark.parametrize("edit", EDITS)
def test_another_code_is_another_cohort_and_another_docstring_is_not(
    p, tmp_path, edit, monkeypatch
):
    before, (module, old, new, is_other) = cohort_folder(p), EDITS[edit]
    code = shutil.copytree(Path(cohorts.__file__).parent, tmp_path / "cohorts")
    monkeypatch.setattr(cohorts, "__file__", str(code / "__init__.py"))
    assert cohort_folder(p) == before
    prepare._code.cache_clear()
    text = (code / f"{module}.py").read_text()
    assert old in text
    (code / f"{module}.py").write_text(text.replace(old, new, 1))
    assert (cohort_folder(p) != before) == is_other


def test_what_makes_a_cohort_imports_nothing_that_its_name_leaves_out():
    graph = grimp.build_graph("brainvae_core", cache_dir=None)
    room = graph.find_children("brainvae_core.cohorts")
    out = {f"brainvae_core.cohorts.{name}" for name in prepare.NO_MAKERS}
    assert out - room == {"brainvae_core.cohorts.__init__"}
    assert not any(graph.find_modules_directly_imported_by(m) & out for m in room - out)


def test_the_same_content_is_the_same_cohort_and_another_labs_folder_is_not(p, tmp_path):
    before = cohort_folder(p)
    for file in files_below(tmp_path / "A", "*.npy", "*.tiff"):
        os.utime(file)
    (tmp_path / "A/store/m0/downsampled.tiff").write_bytes(b"what no cohort reads")
    (tmp_path / "A/brains/.DS_Store").write_bytes(b"nor this")
    (tmp_path / "far/notes.txt").write_text("nothing of the atlas")
    assert cohort_folder(p) == before
    others = [p.changed({"brains": str(farm(tmp_path, *of))}) for of in (("B", 3, 1), ("C",))]
    of_b, again = map(cohort_folder, others)
    assert of_b.name.startswith("brains-") and of_b != before == again
    new = [
        p.changed({"lab.brains": str(tmp_path / "A/brains" / name), "lab.group": ""})
        for name in ("m0", "m1.npy")
    ]
    contents = [lab_content(q) for q in new]
    rewritten(tmp_path / "A/store/m0/downsampled_standard.tiff")
    rewritten(tmp_path / "A/store/m1.npy")
    assert all(lab_content(q) != c for q, c in zip(new, contents, strict=True))


def test_files_are_found_through_links_each_once_and_a_loop_ends(tmp_path):
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "far/deep/a.txt").write_text("x")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/link").symlink_to(tmp_path / "far")
    (tmp_path / "far/deep/up").symlink_to(tmp_path / "near")
    (tmp_path / "near/b.txt").symlink_to(tmp_path / "far/deep/a.txt")
    (tmp_path / "near/gone.txt").symlink_to(tmp_path / "nothing")
    found = files_below(tmp_path / "near", "*.txt")
    assert found == [tmp_path / "near/b.txt", tmp_path / "near/link/deep/a.txt"]


def test_what_was_hashed_and_is_as_it_was_is_not_read_again(tmp_path, monkeypatch):
    file, known = tmp_path / "a", tmp_path / "data/known.json"
    file.write_bytes(b"x")
    right = [hashlib.sha256(b"x").hexdigest()]
    assert content_hashes([tmp_path / "none"], known) == ["No such file or directory"]
    assert content_hashes([file], known) == right
    assert not known.exists()  # it may change within the clock's tick
    monkeypatch.setattr("brainvae_core.cohorts.files.SETTLED_NS", -1)
    assert content_hashes([file], known) == right
    kept = json.loads(known.read_text())["files"]
    monkeypatch.setattr("brainvae_core.cohorts.files.sha256_of", None)  # nothing is read again
    assert content_hashes([file], known) == right and kept[str(file)][-1] == right[0]
    monkeypatch.undo()
    rewritten(file)
    assert content_hashes([file], known) == content_hashes([file], file / "none.json") != right


# ---- brains that lie wrong ----

SHAPE = (80, 112)


@pytest.fixture(scope="module")
def asymmetric():
    atlas, images = asymmetric_brains(24, 1, 0.3, 0.15)
    return atlas, np.maximum(images, 0)


@pytest.mark.parametrize("which", [[4], [1, 3, 8, 20], range(24)])
def test_turned_brains_are_told_one_some_and_all(asymmetric, which):
    atlas, images = asymmetric
    sections = [s[::-1] if i in which else s for i, s in enumerate(images)]
    metadata = pd.DataFrame(index=[f"m{i}" for i in range(24)])
    cohort = preprocess(np.array(sections) * 20_000, metadata, atlas, outlier_limit=50)
    line, n = describe_orientation(cohort), len(which)
    first = f"warning: {n} of 24 brains fit the atlas's template better turned: "
    assert line.startswith(f"{first}m{which[0]} (upside down)") and "\n" not in line
    assert ("and 19 more. " in line) == (n == 24) and "set orientation" in line


def test_sides_are_told_only_where_they_differ_and_what_is_simulated_lies_right(asymmetric):
    atlas, images = asymmetric
    rng, reference = np.random.default_rng(0), np.ones(24, dtype=bool)
    mirrored = np.where(rng.random((24, 1, 1)) < 0.5, images, images[..., ::-1])
    symmetric = (mirrored + mirrored[..., ::-1]) / 2 + rng.normal(0, 0.05, images.shape)
    assert set(section_orientations(symmetric, atlas, reference)) == {"none"}
    assert set(section_orientations(images, drawn_atlas().resampled(SHAPE), reference)) == {"none"}
    simulated = simulate(60, shape=SHAPE, artefact_share=0.9, seed=1)
    brains = np.array([shift(image, [0, 0.4], order=1) for image in simulated.images])
    assert set(section_orientations(brains, atlas, np.ones(60, dtype=bool))) == {"none"}
    assert {describe_orientation(c) for c in (simulated, run_quality_control(simulated))} == {None}

"""Registered brains, acquired or a lab's own, become a profile's cohort by parameters alone."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from brainvae_core import prepare
from brainvae_core.cohorts import drawn_atlas, known_factors, simulate
from brainvae_core.cohorts.allen import add_to_manifest, save_section
from brainvae_core.cohorts.atlas import AUTHORS_CROP
from brainvae_core.prepare import new_section, prepare_cohort
from brainvae_core.settings import Settings

N = 14


@pytest.fixture(scope="module")
def brains():
    """Sections as a microscope leaves them, (n, 320, 456) uint16, and the truth."""
    truth = simulate(N, drawn_atlas(), seed=3)
    gain = np.random.default_rng(0).uniform(0.6, 1.6, N)
    raw = np.zeros((N, 320, 456), dtype=np.uint16)
    raw[:, :, AUTHORS_CROP] = 2000 * gain[:, None, None] * truth.images
    return raw, truth


@pytest.fixture
def own(brains, tmp_path):
    folder = tmp_path / "lab"
    folder.mkdir()
    for i, section in enumerate(brains[0]):
        np.save(folder / f"mouse-{i:02}.npy", section)
    table = pd.DataFrame({"mouse": [f"mouse-{i:02}" for i in range(N)], "sex": ["F", "M"] * 7})
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture
def acquired(brains, tmp_path):
    folder = tmp_path / "allen"
    (folder / "sections").mkdir(parents=True)
    ids = [str(1000 - i) for i in range(N + 1)]
    table = pd.DataFrame({"id": ids, "sex": "F", "injection_dv": np.arange(N + 1.0)})
    table.assign(url="http://x/1", refused="").to_csv(folder / "experiments.csv", index=False)
    request = {"format": 1, "plane": 286, "channel": "red"}
    (folder / "request.json").write_text(json.dumps(request))
    for i, section in zip(ids[:N], brains[0], strict=True):
        save_section(folder, i, section)
        facts = {"id": i, "url": "http://x/1", "crc32": 1, "bytes": 1, "zip_bytes": 3}
        add_to_manifest(folder, facts)
    why = f"brain {ids[N]}: no red volume at http://x/1"
    (folder / "refused.csv").write_text(f"id,url,reason\n{ids[N]},http://x/1,{why}\n")
    return folder


@pytest.fixture
def slice_of_the_drawn_atlas(monkeypatch):
    """What the simulated sections were drawn on, in place of a folder with the CCF."""
    monkeypatch.setattr(prepare, "open_atlas", lambda p: drawn_atlas())


atlas_of_the_brains = pytest.mark.usefixtures("slice_of_the_drawn_atlas")


def told(tmp_path, atlas="a folder", **changes):
    given = {"cohort.shape": [80, 112], "data": str(tmp_path / "data"), "atlas": atlas}
    return Settings().changed(given | changes)


@atlas_of_the_brains
def test_a_labs_own_brains_become_the_cohort(own, brains, tmp_path):
    cohort = prepare_cohort(told(tmp_path, brains=str(own)))
    assert cohort.images.shape == (N, 80, 112) and cohort.name == "lab"
    assert list(cohort.metadata.index) == [f"mouse-{i:02}" for i in range(N)]
    assert cohort.metadata["sex"].tolist() == ["F", "M"] * 7
    inside = cohort.images[:, cohort.atlas.brain_mask].mean(axis=1)
    assert np.ptp(inside) < 0.03 * inside.mean()  # the gains are undone, but for clipped pixels
    truth = brains[1].resampled((80, 112)).images
    for mine, true in zip(cohort.images, truth, strict=True):
        assert np.corrcoef(mine.ravel(), true.ravel())[0, 1] > 0.99


@atlas_of_the_brains
def test_acquired_brains_become_the_cohort_with_what_was_refused(acquired, tmp_path):
    cohort = prepare_cohort(told(tmp_path, brains=str(acquired)))
    assert list(cohort.metadata.index) == [str(1000 - i) for i in range(N)]
    assert cohort.refused == {str(1000 - N): "no red volume"}
    assert {"log_gain", "injection_dv"} <= set(known_factors(cohort))


@atlas_of_the_brains
def test_both_ways_give_the_same_images(own, acquired, tmp_path):
    cohorts = [prepare_cohort(told(tmp_path, brains=str(folder))) for folder in (own, acquired)]
    assert np.array_equal(cohorts[0].images, cohorts[1].images)


@atlas_of_the_brains
def test_a_cohort_of_other_switches_planes_or_brains_is_another(own, tmp_path):
    first = told(tmp_path, brains=str(own))
    prepare_cohort(first)
    prepare_cohort(first)
    data = tmp_path / "data"
    assert len(list(data.iterdir())) == 1
    for change in ({"clip_pixels": False}, {"outlier_limit": 5.0}, {"cohort.seed": 1}):
        prepare_cohort(told(tmp_path, brains=str(own), **change))
    assert len(list(data.iterdir())) == 4
    np.save(own / "mouse-00.npy", np.load(own / "mouse-00.npy") + 1)
    os.utime(own / "mouse-00.npy", ns=(0, 1))
    prepare_cohort(first)
    assert len(list(data.iterdir())) == 5


@atlas_of_the_brains
def test_another_atlas_in_the_same_folder_makes_another_cohort(own, tmp_path):
    atlas = tmp_path / "atlas" / "deep"
    atlas.mkdir(parents=True)
    p = told(tmp_path, brains=str(own), atlas=str(atlas.parent))
    for content in ("one", "another"):
        (atlas / "annotation_25.nrrd").write_text(content)
        (atlas / "notes.txt").write_text(content)
        prepare_cohort(p)
    (atlas / "notes.txt").write_text("nothing of the atlas")
    prepare_cohort(p)
    assert len(list((tmp_path / "data").iterdir())) == 2


@atlas_of_the_brains
def test_a_new_brain_goes_through_what_the_cohort_went_through(own, tmp_path):
    p = told(tmp_path, brains=str(own), new_brain=str(own / "mouse-03.npy"))
    cohort = prepare_cohort(p)
    assert np.array_equal(new_section(p, cohort), cohort.images[3])


@atlas_of_the_brains
def test_brains_not_tried_yet_are_listed(acquired, tmp_path):
    (acquired / "refused.csv").unlink()
    cohort = prepare_cohort(told(tmp_path, brains=str(acquired)))
    assert cohort.refused == {str(1000 - N): "not tried yet; run make acquire again"}


def test_an_acquisition_that_kept_nothing_says_so(tmp_path):
    folder = tmp_path / "allen"
    folder.mkdir()
    (folder / "experiments.csv").write_text("id,url,refused\n1,http://x/1,\n")
    (folder / "request.json").write_text('{"format": 1, "plane": 286, "channel": "red"}')
    with pytest.raises(ValueError, match="no brain is kept in .*; run python -m"):
        prepare_cohort(told(tmp_path, brains=str(folder)))


@atlas_of_the_brains
def test_the_same_sections_acquired_otherwise_are_the_same_cohort_byte_for_byte(acquired, tmp_path):
    """Interrupted or in one go, in any order, on any day."""
    other = shutil.copytree(acquired, tmp_path / "other" / "allen")
    lines = [json.loads(x) for x in (acquired / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        line["date"] = "2026-01-01T00:00:00+00:00"
    (other / "manifest.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines[::-1]))
    files = []
    for folder in (acquired, other):
        data = tmp_path / f"data-{folder.parent.name}"
        prepare_cohort(told(tmp_path, brains=str(folder)).changed({"data": str(data)}))
        (cohort,) = data.iterdir()
        files.append(
            {str(f.relative_to(cohort)): f.read_bytes() for f in cohort.rglob("*") if f.is_file()}
        )
    assert len(files[0]) == 5 and files[0] == files[1]


def test_acquired_brains_of_another_plane_are_refused(acquired, tmp_path):
    (acquired / "request.json").write_text('{"format": 1, "plane": 250, "channel": "red"}')
    with pytest.raises(ValueError, match="holds plane 250, not plane 286"):
        prepare_cohort(told(tmp_path, brains=str(acquired)))
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_not_there_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make acquire"):
        prepare_cohort(told(tmp_path, brains=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("change", [{"plane": 250}, {"brains": "own"}])
def test_the_drawn_atlas_is_for_simulated_brains_of_one_plane(own, tmp_path, change):
    change = {k: str(own) if v == "own" else v for k, v in change.items()}
    with pytest.raises(ValueError, match="the drawn atlas is for simulated brains at plane 286"):
        prepare_cohort(told(tmp_path, atlas="drawn", **change))


def test_another_plane_of_the_real_atlas(brains, real_data, tmp_path):
    folder = tmp_path / "lab"
    folder.mkdir()
    for i, section in enumerate(brains[0]):
        np.save(folder / f"mouse-{i:02}.npy", section)
    cohort = prepare_cohort(told(tmp_path, brains=str(folder), atlas=str(real_data), plane=300))
    assert "plane 300" in cohort.atlas.name

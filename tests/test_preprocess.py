"""A brain of one's own made comparable, and the rule for brains without artefacts."""

import pickle

import numpy as np
import pandas as pd
import pytest
import tifffile

from brainvae_core.cohorts import (
    clean_brains,
    comparable_section,
    drawn_atlas,
    open_section,
    simulate,
)
from brainvae_core.cohorts.preprocess import CLEAN_LIMIT, artefact_scores

SHAPE = (80, 112)


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled(SHAPE)


@pytest.fixture(scope="module")
def cohort():
    return simulate(300, shape=SHAPE, seed=4)


@pytest.fixture(scope="module")
def is_train(cohort):
    return (cohort.metadata["split"] == "train").to_numpy()


# ---- a file ----

SECTION = np.random.default_rng(0).integers(0, 60_000, (5, 7), dtype=np.uint16)
WRITERS = {
    "a.npy": np.save,
    "a.npz": np.savez,
    "zipped.npz": np.savez_compressed,
    "a.tif": tifffile.imwrite,
    "a.tiff": tifffile.imwrite,
    "A.TIF": tifffile.imwrite,
}


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
@pytest.mark.filterwarnings("error")
def test_a_section_is_read_in_its_own_greys(tmp_path, name, write):
    write(tmp_path / name, SECTION)
    section = open_section(str(tmp_path / name))
    assert section.dtype == np.float32
    assert np.array_equal(section, SECTION)


def assert_unreadable(path, words):
    with pytest.raises(ValueError, match=words) as refusal:
        open_section(path)
    assert str(refusal.value).startswith(str(path)) and "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no section at .*none.npy"):
        open_section(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError, match="no section at"):
        open_section(tmp_path)


def test_another_format_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert_unreadable(tmp_path / "a.png", "format that is not read; .npy, .npz and .tif are")


def test_two_arrays_in_one_file_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", left=SECTION, right=SECTION)
    assert_unreadable(tmp_path / "two.npz", "arrays left, right; a file with one is read")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_nothing_is_unpickled(tmp_path, name):
    fired = tmp_path / "fired"

    class Trap:
        def __reduce__(self):
            return (type(fired).touch, (fired,))

    (tmp_path / f"raw_{name}").write_bytes(pickle.dumps(Trap()))
    WRITERS[name](tmp_path / name, np.array([[Trap()]], dtype=object))
    fired.unlink(missing_ok=True)
    assert_unreadable(tmp_path / name, "no readable section: .*allow_pickle")
    assert_unreadable(tmp_path / f"raw_{name}", "no readable section: .*pickle")
    assert not fired.exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.tif"])
@pytest.mark.parametrize("damage", ["half", "empty", "html"])
def test_a_damaged_file_is_refused(tmp_path, name, damage):
    path = tmp_path / name
    WRITERS[name](path, SECTION)
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "html": b"<html>"}[damage])
    assert_unreadable(path, "no readable section: .")


@pytest.mark.parametrize(
    "content",
    [np.zeros((2, 5, 7)), np.zeros(5), np.zeros((5, 7), complex), np.array([["a", "b"]])],
    ids=["3-D", "1-D", "complex", "text"],
)
def test_what_is_no_section_is_refused(tmp_path, content):
    np.save(tmp_path / "a.npy", content)
    words = rf"holds .* of shape \({content.shape[0]},.*one \(height, width\) section"
    assert_unreadable(tmp_path / "a.npy", words)


def test_a_volume_of_planes_is_refused(tmp_path):
    planes = np.stack([SECTION] * 3)
    tifffile.imwrite(tmp_path / "volume.tif", planes, photometric="minisblack")
    assert_unreadable(tmp_path / "volume.tif", r"shape \(3, 5, 7\)")


# ---- a comparable section ----


def registered(width=456, seed=0):
    """A section on the 25 µm grid in 16-bit greys, by columns that are told apart."""
    section = np.zeros((320, width))
    start = (width - 448) // 2
    section[:, start : start + 448] = 20_000 * drawn_atlas().template + 100
    return section + np.random.default_rng(seed).random((320, width)) * 50


def test_columns_4_to_452_are_kept_and_averaged_in_blocks(atlas):
    section = registered()
    found = comparable_section(section, atlas, brightness=0.2)
    by_hand = np.array(
        [
            [section[4 * i : 4 * i + 4, 4 + 4 * j : 8 + 4 * j].mean() for j in range(112)]
            for i in range(80)
        ]
    )
    assert found.dtype == np.float32 and found.shape == SHAPE
    scale = 0.2 / by_hand[atlas.brain_mask].mean()
    np.testing.assert_allclose(found, by_hand * scale, rtol=1e-4)


def test_brightness_is_exact_where_nothing_is_clipped(atlas):
    found = comparable_section(registered(), atlas, brightness=0.31)
    assert found.max() < 1
    assert found[atlas.brain_mask].mean() == pytest.approx(0.31, rel=1e-5)


def test_brighter_pixels_are_clipped(atlas):
    section = registered()
    section[100:108, 200:208] = 60_000
    section[0, 0] = -30
    found = comparable_section(section, atlas, brightness=0.4)
    assert found.max() == 1 and found.min() >= 0


def test_grey_values_may_be_in_any_unit(atlas):
    section = registered()
    once, again = (comparable_section(section * s, atlas, 0.3) for s in (1, 1e-4))
    np.testing.assert_allclose(once, again, rtol=1e-5)
    of_integers = comparable_section(section.astype(np.uint16), atlas, 0.3)
    np.testing.assert_allclose(of_integers, once, atol=2e-3)


def test_a_cropped_section_and_the_atlas_own_grid_fit_too(atlas):
    section = registered()
    expected = comparable_section(section, atlas, 0.3)
    assert np.array_equal(comparable_section(section[:, 4:452], atlas, 0.3), expected)
    again = comparable_section(expected, atlas, 0.3)
    np.testing.assert_allclose(again, expected, rtol=1e-5)
    full = comparable_section(section, drawn_atlas(), 0.3)
    assert full.shape == (320, 448)


@pytest.mark.parametrize("shape", [(456, 320), (320, 450), (40, 56), (100, 112), (320,), (3, 4, 5)])
def test_a_section_that_does_not_fit_is_refused(atlas, shape):
    section = np.random.default_rng(0).random(shape)
    with pytest.raises(ValueError, match=r"does not fit the cohort's \(80, 112\); 320 × 456"):
        comparable_section(section, atlas, 0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_section_with_a_hole_is_refused(atlas, value):
    section = registered()
    section[7, 300] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        comparable_section(section, atlas, 0.3)


@pytest.mark.parametrize("grey", [0.0, 5.0, -1.0])
def test_an_empty_section_is_refused(atlas, grey):
    with pytest.raises(ValueError, match="no brightness inside the brain; is it registered?"):
        comparable_section(np.full((320, 456), grey), atlas, 0.3)


@pytest.mark.parametrize("brightness", [np.nan, 0, -0.2, 130])
def test_a_brightness_outside_its_range_is_refused(atlas, brightness):
    with pytest.raises(ValueError, match=r"^brightness=.* is outside \(0, 1\]"):
        comparable_section(registered(), atlas, brightness)


# ---- clean brains ----


def test_planted_artefacts_are_found_and_clean_brains_are_kept(cohort, is_train):
    flagged = pd.Series(~clean_brains(cohort.images, is_train, cohort.atlas))
    share = flagged.groupby(cohort.metadata["artefact"].to_numpy()).mean()
    assert share["breakage"] >= 0.85 and share["grid"] >= 0.85
    assert share["leak"] >= 0.5  # weak leaks over bright tissue stay hidden
    assert share["none"] <= 0.05


def test_the_rule_never_sees_the_truth(cohort, is_train):
    untouched = clean_brains(cohort.clean, is_train, cohort.atlas)
    assert untouched.mean() >= 0.95


def test_brains_that_are_judged_do_not_change_the_rule(cohort, is_train):
    judged = np.flatnonzero(~is_train)
    apart = np.concatenate([np.flatnonzero(is_train), judged[:5]])
    together = artefact_scores(cohort.images, is_train, cohort.atlas)[apart]
    alone = artefact_scores(cohort.images[apart], is_train[apart], cohort.atlas)
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-3)


def test_each_score_answers_to_its_artefact(cohort, is_train):
    brain = np.flatnonzero((cohort.metadata["artefact"] == "none").to_numpy() & ~is_train)[0]
    planted = np.repeat(cohort.clean[brain][None], 4, axis=0)
    planted[1, 42:52, 48:58] = 1.0
    planted[2, 42:52, 48:58] = 0.0
    planted[3, :, ::9] *= 0.5
    images = np.concatenate([cohort.images, planted])
    reference = np.concatenate([is_train, np.zeros(4, dtype=bool)])
    base, *scores = artefact_scores(images, reference, cohort.atlas)[-4:]
    assert (base < CLEAN_LIMIT).all()
    assert (np.diag(scores) > CLEAN_LIMIT).all()
    assert np.argmax(scores, axis=1).tolist() == [0, 1, 2]
    clean = clean_brains(images, reference, cohort.atlas)[-4:]
    assert clean.tolist() == [True, False, False, False]


def test_scores_are_in_robust_deviations_of_the_reference(cohort, is_train):
    scores = artefact_scores(cohort.images, is_train, cohort.atlas)
    assert scores.shape == (300, 3) and np.isfinite(scores).all()
    reference = scores[is_train]
    np.testing.assert_allclose(np.median(reference, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(1.4826 * np.median(np.abs(reference), axis=0), 1, rtol=1e-6)


def test_a_reference_that_is_no_mask_is_refused(cohort, is_train):
    for wrong in (np.flatnonzero(is_train), is_train[:-1], is_train.astype(int)):
        with pytest.raises(ValueError, match="is_reference must be 300 booleans, one a brain"):
            clean_brains(cohort.images, wrong, cohort.atlas)


def test_too_few_reference_brains_are_refused(cohort):
    only_two = np.arange(300) < 2
    with pytest.raises(ValueError, match="2 reference brains have no spread.*3 or more"):
        clean_brains(cohort.images, only_two, cohort.atlas)

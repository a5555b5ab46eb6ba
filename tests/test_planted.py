"""Brains with a known change: their own artefacts, planted ones at every strength, moved tissue."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from brainvae_core.cohorts import (
    ARTEFACTS,
    Cohort,
    artefact_free,
    clean_brains,
    clean_part,
    corrupted_brains,
    displaced,
    drawn_atlas,
    graded_artefacts,
    simulate,
)
from brainvae_core.cohorts.artefacts import leak, plant
from brainvae_core.cohorts.preprocess import preprocess
from brainvae_core.cohorts.simulated import DISPLACEMENT_MM, displacement_maps

SHAPE = (80, 112)

STRENGTHS = (0.3, 0.6, 1.0)


@pytest.fixture(scope="module")
def simulated():
    return simulate(120, shape=SHAPE, artefact_share=0.3, seed=1)


@pytest.fixture(scope="module")
def unknown(simulated):
    """The same images without their truth."""
    metadata = simulated.metadata.drop(columns=["artefact", "artefact_strength"])
    return Cohort(simulated.images, metadata, simulated.atlas, name="unknown")


def test_a_simulated_cohort_gives_its_own(simulated):
    found = corrupted_brains(simulated)
    test = simulated.split("test")
    kind = test.metadata["artefact"] != "none"
    assert found.metadata.equals(test.metadata[kind])
    assert np.array_equal(found.images, test.images[kind])
    assert np.array_equal(found.clean, test.clean[kind])
    assert np.array_equal(found.artefact_masks, test.artefact_masks[kind])


def test_without_truth_clean_test_brains_are_planted(simulated, unknown):
    found = corrupted_brains(unknown)
    is_train = (unknown.metadata["split"] == "train").to_numpy()
    clean = clean_brains(unknown.images, is_train, unknown.atlas)
    expected = clean & (unknown.metadata["split"] == "test").to_numpy()
    assert found.metadata.index.tolist() == unknown.metadata.index[expected].tolist()
    assert np.array_equal(found.clean, unknown.images[expected])
    kinds = found.metadata["artefact"].value_counts()
    assert set(kinds.index) == set(ARTEFACTS) and kinds.max() - kinds.min() <= 1
    strength = found.metadata["artefact_strength"]
    assert strength.between(0.4, 1).all() and strength.nunique() == len(found)
    changed = np.abs(found.images - found.clean) > 0.02
    assert np.array_equal(found.artefact_masks, changed) and changed.any(axis=(1, 2)).all()


def test_planting_follows_from_the_seed(unknown):
    once, again, other = (corrupted_brains(unknown, seed) for seed in (5, 5, 6))
    assert np.array_equal(once.images, again.images)
    assert not np.array_equal(once.images, other.images)


def test_the_cohort_is_left_alone(unknown):
    before, columns = unknown.images.copy(), list(unknown.metadata)
    corrupted_brains(unknown)
    assert np.array_equal(unknown.images, before) and list(unknown.metadata) == columns


def test_a_simulated_cohort_without_artefacts_is_planted():
    found = corrupted_brains(simulate(40, shape=SHAPE, artefact_share=0, seed=0))
    assert len(found) >= 6 and found.artefact_masks.any(axis=(1, 2)).all()
    assert found.factors.index.equals(found.metadata.index)


def test_outliers_are_never_planted_in(simulated):
    clean = corrupted_brains(simulate(120, shape=SHAPE, artefact_share=0, seed=1)).metadata.index
    intact = clean[(simulated.metadata["artefact"] == "none")[clean]]
    ruined = simulated.metadata.index.get_indexer(intact[:3])
    raw = simulated.images * 900
    raw[ruined[:2], :, :56] = 0
    raw[ruined[2]] /= 50  # no artefact to see
    metadata = simulated.metadata[["sex"]]
    for drop in (True, False):
        cohort = preprocess(raw, metadata, simulated.atlas, seed=1, drop_brains=drop)
        found = corrupted_brains(cohort)
        assert not set(found.metadata.index) & set(metadata.index[ruined])
        assert found.preprocessing == cohort.preprocessing


def test_nothing_clean_is_refused(unknown):
    train = unknown.split("train")
    with pytest.raises(ValueError, match="no test brain of cohort 'unknown' is clean"):
        corrupted_brains(train)


def test_planting_is_what_each_artefact_does(simulated):
    images = simulated.clean[:3]
    found, masks = plant(
        images, ["leak"] * 3, [0.5, 0.7, 0.9], pixel_um=100.0, seed=4, sites=[(40, 50), None, None]
    )
    image, mask = leak(images[0], strength=0.5, seed=4, pixel_um=100.0, site=(40, 50))
    assert np.array_equal(found[0], image) and np.array_equal(masks[0], mask)
    assert found.dtype == np.float32 and masks.dtype == bool


def test_lengths_must_agree(simulated):
    with pytest.raises(ValueError, match="shorter"):
        plant(simulated.clean[:2], ["leak", "grid"], [0.5], pixel_um=100.0, seed=0)


def test_the_clean_part_of_a_simulated_cohort_is_every_brain_before_its_artefact(simulated):
    for split in ("validation", "test"):
        part, clean = simulated.split(split), clean_part(simulated, split)
        assert np.array_equal(clean.images, part.clean)
        assert clean.metadata.index.equals(part.metadata.index)
        assert (clean.metadata["artefact"] == "none").all() and clean.factors.equals(part.factors)


def test_without_truth_it_is_what_the_rule_passes(unknown):
    clean = clean_part(unknown, "validation")
    passed = artefact_free(unknown) & (unknown.metadata["split"] == "validation").to_numpy()
    assert 0 < len(clean) < len(unknown.split("validation"))
    assert np.array_equal(clean.images, unknown.images[passed])


@pytest.mark.parametrize("truth", ["simulated", "unknown"])
def test_every_kind_at_every_strength_in_the_same_brains(truth, request):
    cohort = request.getfixturevalue(truth)
    found, before = graded_artefacts(cohort, STRENGTHS, 4), clean_part(cohort)
    assert (found.kinds, found.strengths) == (tuple(ARTEFACTS), STRENGTHS)
    assert found.images.shape == found.masks.shape == (3, 3, 4, *SHAPE)
    assert np.array_equal(found.clean, before.images[:4])
    assert np.array_equal(found.masks, np.abs(found.images - found.clean) > 0.02)
    assert found.masks.any(axis=(3, 4)).all()
    leaks, breakages, _ = found.images[:, -1] - found.clean
    assert leaks.min() >= 0 and breakages.max() <= 0


def test_an_artefact_grows_where_it_is(simulated):
    found = graded_artefacts(simulated, STRENGTHS, 3)
    weak, middle, strong = found.masks.swapaxes(0, 1)
    assert not (weak & ~middle).any() and not (middle & ~strong).any()
    change = np.abs(found.images - found.clean).sum(axis=(3, 4))
    assert (np.diff(change, axis=1) > 0).all()
    # Each brain has its own, and another seed another.
    assert not np.array_equal(strong[0, 0], strong[0, 1])
    other = graded_artefacts(simulated, STRENGTHS, 3, seed=100)
    assert not np.array_equal(other.images, found.images)


def test_more_brains_than_there_are_is_all_of_them(simulated):
    n = len(simulated.split("validation"))
    assert len(graded_artefacts(simulated, [0.5], 10_000, "validation").clean) == n


def test_fewer_pixels_are_those_of_a_cohort(simulated):
    found = graded_artefacts(simulated, STRENGTHS, 3)
    small = found.resampled((40, 56))
    assert small.images.shape == small.masks.shape == (3, 3, 3, 40, 56)
    wanted = found.images[1, 2, 0].reshape(40, 2, 56, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(small.images[1, 2, 0], wanted, atol=1e-6)
    half = found.masks[1, 2, 0].reshape(40, 2, 56, 2).mean(axis=(1, 3)) >= 0.5
    assert np.array_equal(small.masks[1, 2, 0], half)
    assert small.pixel_um == 2 * found.pixel_um
    grids = small.of_kind("grid")
    assert grids.kinds == ("grid",) and np.array_equal(grids.images[0], small.images[2])
    assert np.array_equal(grids.masks[0], small.masks[2])
    last = small.strongest()
    assert last.strengths == (1.0,) and np.array_equal(last.images[:, 0], small.images[:, 2])
    assert np.array_equal(last.masks[:, 0], small.masks[:, 2])


def test_what_cannot_be_planted_is_refused(simulated, unknown):
    with pytest.raises(ValueError, match="artefact strength 1.2 is outside"):
        graded_artefacts(simulated, [0.5, 1.2], 2)
    with pytest.raises(ValueError, match=r"strengths=\[\], n_brains=2: give at least 1"):
        graded_artefacts(simulated, [], 2)
    with pytest.raises(ValueError, match=r"a leak of strength 0.01 changes no pixel .* of brain 0"):
        graded_artefacts(simulated, [0.01, 1], 2)
    found = graded_artefacts(simulated, STRENGTHS, 2)
    for shape in ((60, 84), (40, 50), (0, 0), (320, 448)):
        with pytest.raises(ValueError, match="does not divide sections of 80 × 112"):
            found.resampled(shape)
    with pytest.raises(ValueError, match="no test brain of cohort 'unknown' is clean"):
        graded_artefacts(unknown.split("train"), [0.5], 2)


ATLAS = drawn_atlas().resampled(SHAPE)
TEMPLATE = (0.7 * ATLAS.template)[np.newaxis].astype(np.float32)


@pytest.mark.parametrize("factor", DISPLACEMENT_MM)
def test_small_steps_are_the_simulators_displacement(factor):
    field = displacement_maps(ATLAS)[factor]
    wanted = map_coordinates(TEMPLATE[0], np.indices(SHAPE) - 0.25 * field, order=1, mode="nearest")
    found = displaced(TEMPLATE, ATLAS, factor, 0.25)
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)
    np.testing.assert_array_equal(displaced(TEMPLATE, ATLAS, factor, 0.0), TEMPLATE)
    assert found.dtype == np.float32 and np.abs(found - TEMPLATE).max() > 0.005


def test_five_standard_deviations_widen_the_ventricles_and_fold_nothing():
    (ventricles,) = ATLAS.roi_masks(["VS"])
    widths = []
    for amount in (0, 1, 3, 5):
        mask = displaced(ventricles[np.newaxis].astype(np.float32), ATLAS, "ventricle_size", amount)
        widths.append(float(mask.sum()))
    assert (np.diff(widths) > 0).all() and widths[-1] > 2 * widths[0]
    assert displaced(ventricles[None] * 1.0, ATLAS, "ventricle_size", -3).sum() < widths[0]
    # A ramp stays a ramp: no coordinate is read twice along a row.
    rows, columns = np.indices(SHAPE, dtype=np.float32) / 200
    for ramp, axis in ((rows, 0), (columns, 1)):
        moved = displaced(ramp[np.newaxis], ATLAS, "brain_width", 5)[0]
        assert (np.diff(moved, axis=axis) > -1e-6).all()


def test_going_there_and_back_is_where_one_was():
    smooth = gaussian_filter(TEMPLATE, (0, 2, 2))
    there = displaced(smooth, ATLAS, "brain_height", 2)
    back = displaced(there, ATLAS, "brain_height", -2)
    assert np.abs(back - smooth).mean() < 0.1 * np.abs(there - smooth).mean()


def test_what_cannot_be_moved_is_refused():
    with pytest.raises(ValueError, match="factor='brightness' moves no tissue; cortical_thickness"):
        displaced(TEMPLATE, ATLAS, "brightness", 1)
    with pytest.raises(ValueError, match=r"\(1, 112, 80\); this atlas takes \(n, 80, 112\)"):
        displaced(TEMPLATE.transpose(0, 2, 1), ATLAS, "brain_width", 1)
    with pytest.raises(ValueError, match="amount=nan must be finite"):
        displaced(TEMPLATE, ATLAS, "brain_width", float("nan"))

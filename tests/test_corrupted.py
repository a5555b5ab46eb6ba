"""Brains with a known artefact: a simulated cohort's own, else planted in clean test brains."""

import numpy as np
import pytest

from brainvae_core.cohorts import ARTEFACTS, Cohort, clean_brains, simulate
from brainvae_core.cohorts.artefacts import corrupted_brains, leak, plant
from brainvae_core.cohorts.preprocess import preprocess

SHAPE = (80, 112)


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

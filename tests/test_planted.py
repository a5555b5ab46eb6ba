"""Brains with a known change: their own artefacts, planted ones at every strength, moved tissue."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy.ndimage import map_coordinates

from brainvae_core.cohorts import (
    ARTEFACTS,
    Cohort,
    clean_part,
    corrupted_brains,
    displaced,
    drawn_atlas,
    equalise_brightness,
    factor_extremes,
    graded_artefacts,
    known_factors,
    simulate,
)
from brainvae_core.cohorts.artefacts import artefact_scores, plant
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.preprocess import preprocess
from brainvae_core.cohorts.simulated import DISPLACEMENT_MM, displacement_maps

SHAPE = (80, 112)
STRENGTHS = (0.3, 0.6, 1.0)
SHAPES = ((60, 84), (40, 50), (0, 0), (320, 448))  # that do not divide it


@pytest.fixture(scope="module")
def simulated():
    return simulate(120, shape=SHAPE, artefact_share=0.3, seed=1)


@pytest.fixture(scope="module")
def unknown(simulated):
    """The same images without their truth."""
    metadata = simulated.metadata.drop(columns=["artefact", "artefact_strength"])
    return Cohort(simulated.images, metadata, simulated.atlas, name="unknown")


def test_a_simulated_cohort_has_its_own_truth(simulated):
    found, test = corrupted_brains(simulated), simulated.split("test")
    kind = (test.metadata["artefact"] != "none").to_numpy()
    assert found.metadata.equals(test.metadata[kind]) and 0 < len(found) < len(test)
    for part in ("images", "clean", "artefact_masks"):
        assert np.array_equal(getattr(found, part), getattr(test, part)[kind])
    clean = clean_part(simulated)
    assert np.array_equal(clean.images, test.clean) and clean.factors.equals(test.factors)
    assert clean.metadata.index.equals(test.metadata.index)
    assert (clean.metadata["artefact"] == "none").all()


def test_without_truth_clean_test_brains_are_planted(simulated, unknown):
    before, columns = unknown.images.copy(), list(unknown.metadata)
    found, again = (corrupted_brains(unknown) for _ in range(2))
    assert np.array_equal(found.images, again.images)
    assert np.array_equal(unknown.images, before) and list(unknown.metadata) == columns
    is_train = (unknown.metadata["split"] == "train").to_numpy()
    clean = (artefact_scores(unknown.images, is_train, unknown.atlas) < 4).all(axis=1)
    expected = clean & (unknown.metadata["split"] == "test").to_numpy()
    assert found.metadata.index.tolist() == unknown.metadata.index[expected].tolist()
    kinds = found.metadata["artefact"].value_counts()
    assert set(kinds.index) == set(ARTEFACTS) and kinds.max() - kinds.min() <= 1
    strength = found.metadata["artefact_strength"]
    assert strength.between(0.4, 1).all() and strength.nunique() == len(found)
    usual, inside = unknown.images[expected], found.atlas.brain_mask
    now, then = (x[:, inside].mean(axis=1) for x in (found.images, usual))
    np.testing.assert_allclose(now, then, rtol=0.01)  # adjusted after the damage, then cut at 1
    # The truth is the brain before, of the gain of what is seen.
    pairs = zip(found.clean, usual, strict=True)
    gains = [np.median(c[u > 0.1] / u[u > 0.1]) for c, u in pairs]
    gains = np.reshape(gains, (-1, 1, 1))
    np.testing.assert_allclose(found.clean, np.minimum(gains * usual, 1), atol=1e-5)
    changed = np.abs(found.images - found.clean) > 0.02 * gains
    assert (found.artefact_masks == changed).mean() > 0.9999 and changed.any(axis=(1, 2)).all()


def test_the_truth_of_an_equalised_brain_is_as_bright_beside_its_artefact(simulated):
    found = corrupted_brains(equalise_brightness(simulated))
    kinds = found.metadata["artefact"].to_numpy()
    beside = ~found.artefact_masks
    assert np.abs(found.images - found.clean)[beside].max() < 0.03
    inside = found.atlas.brain_mask
    own = (
        found.clean[:, inside].mean(axis=1)
        / equalise_brightness(simulated).split("train").images[:, inside].mean()
    )
    assert (own[kinds == "leak"] < 1).all() and (own[kinds == "grid"] > 1).all()


@pytest.mark.parametrize("shape", [(20, 28), (10, 14)])
def test_artefacts_are_scored_however_large_the_pixels_are(unknown, shape):
    coarse, is_train = unknown.resampled(shape), (unknown.metadata["split"] == "train").to_numpy()
    scores = artefact_scores(coarse.images, is_train, coarse.atlas)
    assert scores.shape == (len(unknown), 3) and np.isfinite(scores).all()


def test_outliers_are_never_planted_in(simulated):
    metadata = simulated.metadata[["sex"]]
    ruined = np.flatnonzero((simulated.metadata["split"] == "test").to_numpy())[:3]
    raw = simulated.clean * 900
    raw[ruined[:2], :, :56] = 0
    raw[ruined[2]] /= 50  # no artefact to see
    cohort = preprocess(raw, metadata, simulated.atlas, seed=1)
    found = corrupted_brains(cohort)
    assert not set(found.metadata.index) & set(metadata.index[ruined])
    assert found.preprocessing == cohort.preprocessing and len(found) > 10


def test_every_kind_at_every_strength_in_the_same_brains(unknown):
    found, before = graded_artefacts(unknown, STRENGTHS, 4), clean_part(unknown)
    assert (found.kinds, found.strengths) == (tuple(ARTEFACTS), STRENGTHS)
    assert found.images.shape == (3, 3, 4, *SHAPE)
    assert np.array_equal(found.clean, before.images[:4])
    for k, s, i in np.ndindex(3, 3, 4):  # each brain has its own, of one form at every strength
        own = {"strength": STRENGTHS[s], "seed": i, "pixel_um": 100.0}
        image, mask = ARTEFACTS[found.kinds[k]](found.clean[i], **own)
        assert np.array_equal(found.masks[k, s, i], mask)
        # As acquired: no brighter or darker on average than before, and beside the artefact all of
        # one gain.
        gain, inside = found.gains[k, s, i], unknown.atlas.brain_mask
        assert (gain < 1) == (found.kinds[k] == "leak")
        np.testing.assert_allclose(gain * image[inside].mean(), found.clean[i][inside].mean(), 1e-5)
        np.testing.assert_allclose(found.images[k, s, i], np.minimum(gain * image, 1), atol=1e-6)
        bare = np.minimum(gain * found.clean[i], 1)
        np.testing.assert_allclose(found.undamaged(k)[s, i], bare, atol=1e-6)
    n = len(clean_part(unknown, "validation"))
    assert len(graded_artefacts(unknown, [0.5], 10_000, "validation").clean) == n
    small = found.resampled((40, 56))
    np.testing.assert_allclose(small.images, block_mean(found.images, 2), atol=1e-6)
    np.testing.assert_allclose(small.clean, block_mean(found.clean, 2), atol=1e-6)
    assert np.array_equal(small.masks, block_mean(found.masks, 2) >= 0.5)
    assert small.pixel_um == 2 * found.pixel_um


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


def test_five_standard_deviations_fold_nothing():
    """A ramp stays a ramp: no coordinate is read twice along a row."""
    for axis, ramp in enumerate(np.indices(SHAPE, dtype=np.float32) / 200):
        moved = displaced(ramp[np.newaxis], ATLAS, "brain_width", 5)[0]
        assert (np.diff(moved, axis=axis) > -1e-6).all()


# ---- each artefact: what it keeps, grows with, and refuses ----

PIXEL_UM = 100.0


IMAGE = np.clip(0.75 * ATLAS.template + np.random.default_rng(0).normal(0, 0.02, SHAPE), 0, 1)
IMAGE = IMAGE.astype(np.float32)
every_artefact = pytest.mark.parametrize("name", ARTEFACTS)


def make(name, strength=0.8, seed=3, image=IMAGE, **options):
    return ARTEFACTS[name](image, strength=strength, seed=seed, pixel_um=PIXEL_UM, **options)


def test_a_leak_lies_at_its_site_and_is_as_wide_as_stated():
    black = np.zeros((90, 140), dtype=np.float32)
    image, mask = make("leak", 0.5, image=black, site=(30, 100))
    assert np.unravel_index(image.argmax(), image.shape) == (30, 100)
    assert image[30, 100] == pytest.approx(0.6)
    rows, columns = np.nonzero(mask)
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 100), abs=0.5)
    # exp(-(d/r)²)·0.6 falls to 0.02 at 1.84 r, with r = 0.375 mm, stretched up to 1.6 times.
    reach = np.hypot(rows - 30, columns - 100).max() * PIXEL_UM / 1000
    assert 0.9 * 1.84 * 0.375 < reach < 1.6 * 1.84 * 0.375 + 0.1
    assert make("leak", 1.0, site=(40, 60))[0][40, 60] == 1  # saturated


def test_a_breakage_is_black_around_its_site_and_about_as_wide_as_stated():
    grey = np.full((90, 140), 0.5, dtype=np.float32)
    radii = []
    for seed in range(20):
        image, mask = make("breakage", 0.8, seed, image=grey, site=(40, 70))
        assert set(np.unique(image)) == {0.0, 0.5}
        assert mask[40, 70]
        radii.append(np.sqrt(mask.sum() / np.pi) * PIXEL_UM / 1000)
    assert np.mean(radii) == pytest.approx(0.8, rel=0.2)


def test_a_grid_has_seams_every_900_um_through_its_site():
    grey = np.full((90, 144), 0.5, dtype=np.float32)
    image, _ = make("grid", 1.0, image=grey, site=(4, 7))
    middle_of_tiles = image[4 + 9 // 2 :: 9].max(axis=0)
    seams = np.flatnonzero(middle_of_tiles == middle_of_tiles.min())
    assert np.array_equal(seams, np.arange(7, 144, 9))
    assert image.min() == pytest.approx(0.5 * 0.4)
    assert image.max() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("name", "sign"), [("leak", 1), ("breakage", -1), ("grid", -1)])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_an_artefact_changes_greys_its_way_where_its_mask_says(name, sign, strength):
    assert list(ARTEFACTS) == ["leak", "breakage", "grid"]
    before, drawn = IMAGE.copy(), [make(name, strength, seed)[0] for seed in range(4)]
    assert not np.array_equal(drawn[0], drawn[1])
    image, mask = make(name, strength, np.random.default_rng(3))
    assert np.array_equal(image, drawn[3]) and np.array_equal(IMAGE, before)
    assert image.dtype == np.float32 and mask.dtype == bool
    assert image.min() >= 0 and image.max() <= 1
    change = sign * (image - IMAGE)
    assert np.array_equal(mask, np.abs(change) > 0.02) and mask.any() and not mask.all()
    assert (change[mask] > 0.02).all() and change.min() >= -1e-6
    planted = plant(IMAGE[None], [name], [strength], pixel_um=PIXEL_UM, seed=3)
    assert np.array_equal(planted[0][0], image) and np.array_equal(planted[1][0], mask)


def test_what_takes_no_artefact_and_cannot_be_moved_is_refused(simulated, unknown):
    graded, none = graded_artefacts(simulated, STRENGTHS, 2), unknown.split("train")
    black = np.zeros((8, 12), dtype=np.float32)
    too_bright = (np.where(np.eye(*SHAPE) > 0, value, IMAGE) for value in (np.nan, 1.5, -0.2))
    strengths = (0, -0.5, 1.1, np.nan)
    refused(
        [
            *((r"^artefact strength .* is outside \(0, 1\]$", make, "grid", s) for s in strengths),
            *((r"needs greys in \[0, 1\], not .* to", make, "leak", 1, 3, i) for i in too_bright),
            ("black.*give a site", make, "breakage", 0.8, 3, black),
            *(("does not divide sections of 80 × 112", graded.resampled, s) for s in SHAPES),
            (r"strengths=\[\], n_brains=2: give at least 1", graded_artefacts, simulated, [], 2),
            (
                "a leak of strength 0.01 changes no pixel .* of brain 0",
                *(graded_artefacts, simulated, [0.01, 1], 2),
            ),
            ("no test brain of cohort 'unknown' is clean", corrupted_brains, none),
            ("'brightness' moves no tissue; cort", displaced, TEMPLATE, ATLAS, "brightness", 1),
            (r"takes \(n, 80, 112\)", displaced, TEMPLATE[0].T[None], ATLAS, "brain_width", 1),
        ]
    )


# ---- what is known of each brain ----


@pytest.fixture(scope="module")
def nine():
    return simulate(9, shape=SHAPE, artefact_share=0, seed=2)


def recorded(nine, **columns):
    metadata = pd.DataFrame(columns, index=nine.metadata.index)
    return Cohort(nine.images, metadata, nine.atlas)


def test_what_is_recorded_becomes_numbers(nine):
    gain = np.linspace(0.5, 2, 9)
    found = known_factors(
        recorded(
            nine,
            sex=["M", "F", "M", "F", None, "M", "M", "F", "F"],
            treated=[1, 0, 0, 1, 1, 0, 0, 1, 1],
            strain=["a", "b", "c"] * 3,
            gain=gain,
            injection_structure=["SSp"] * 9,
            injection_volume=["0.25", None, *["0.5"] * 7],
            injection_ap=[5.0] * 9,
            injection_dv=np.arange(9),
            age_days=[None] * 9,
            outlier=["none"] * 9,
        )
    )
    assert list(found) == ["sex M", "treated", "injection_volume", "injection_dv", "log_gain"]
    assert found["sex M"].tolist() == [1, 0, 1, 0, 0.5, 1, 1, 0, 0]
    np.testing.assert_allclose(found["log_gain"], np.log(gain))
    assert found["injection_volume"].iloc[1] == pytest.approx((0.25 + 7 * 0.5) / 8)
    assert set(found.dtypes) == {np.dtype(float)} and np.isfinite(found).all(axis=None)
    assert found.index.equals(nine.metadata.index)


def test_planted_factors_come_first_and_nothing_may_be_known(nine):
    pd.testing.assert_frame_equal(known_factors(nine), nine.factors.astype(float))
    for columns in ({}, {"strain": ["a"] * 9}, {"sex": [None] * 9, "gain": [1.0] * 9}):
        assert known_factors(recorded(nine, **columns)).shape == (9, 0)
    split = [*["train"] * 4, "validation", *["test"] * 4]
    dv = [1.0, 2.0, 2.5, 7.0, 7.0, *[7.0] * 4]  # one value among the test brains
    cohort = recorded(nine, gain=np.arange(1.0, 10), injection_dv=dv, split=split)
    assert list(known_factors(cohort)) == ["log_gain"]
    assert list(known_factors(cohort.split("train"))) == ["injection_dv", "log_gain"]


def test_extremes_are_the_means_at_either_end():
    images = np.random.default_rng(0).random((40, 3, 5))
    values = np.random.default_rng(1).permutation(40).astype(float)
    male = np.tile([0, 1, 1, 0, 0.5, 1, 0, 1, 1, 1.0], 4)  # its two groups
    found = factor_extremes(pd.DataFrame({"a": values, "b": -values, "male": male}), images)
    order = np.argsort(values)
    np.testing.assert_allclose(found["a"][0], images[order[:2]].mean(axis=0))
    np.testing.assert_allclose(found["a"][1], images[order[-2:]].mean(axis=0))
    np.testing.assert_array_equal(found["a"], found["b"][::-1])
    np.testing.assert_allclose(found["male"][0], images[male == 0].mean(axis=0))
    np.testing.assert_allclose(found["male"][1], images[male == 1].mean(axis=0))
    five = pd.DataFrame({"a": range(5)})
    refused([("5 rows of factors and 4 images", factor_extremes, five, images[:4])])

"""The artefacts' contract: what every one of them keeps, grows with, and refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainvae_core.cohorts import ARTEFACTS, drawn_atlas
from brainvae_core.cohorts.artefacts import VISIBLE

PIXEL_UM = 100.0


def section():
    template = drawn_atlas().resampled((80, 112)).template
    noise = np.random.default_rng(0).normal(0, 0.02, template.shape)
    return np.clip(0.75 * template + noise, 0, 1).astype(np.float32)


IMAGE = section()
every_artefact = pytest.mark.parametrize("name", ARTEFACTS)


def make(name, strength=0.8, seed=3, image=IMAGE, **options):
    return ARTEFACTS[name](image, strength=strength, seed=seed, pixel_um=PIXEL_UM, **options)


def test_the_artefacts_are_the_papers():
    assert list(ARTEFACTS) == ["leak", "breakage", "grid"]


@every_artefact
def test_an_artefact_stays_an_image_and_leaves_its_input_alone(name):
    before = IMAGE.copy()
    image, mask = make(name)
    assert np.array_equal(IMAGE, before)
    assert image.shape == mask.shape == IMAGE.shape
    assert image.dtype == np.float32 and mask.dtype == bool
    assert image.min() >= 0 and image.max() <= 1


@every_artefact
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_mask_is_where_the_change_is_visible(name, strength, seed):
    image, mask = make(name, strength, seed)
    change = np.abs(image - IMAGE)
    assert np.array_equal(mask, change > 0.02) and VISIBLE == 0.02
    assert mask.any() and not mask.all()


@every_artefact
def test_an_artefact_follows_its_seed(name):
    first, again, other = make(name, seed=1), make(name, seed=1), make(name, seed=2)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    drawn = make(name, seed=np.random.default_rng(1))
    assert np.array_equal(first[0], drawn[0])


@every_artefact
@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
)
def test_a_stronger_artefact_covers_and_changes_more(name, seed, strengths):
    weak, strong = (make(name, strength, seed) for strength in strengths)
    assert not (weak[1] & ~strong[1]).any()
    weak_change, strong_change = (np.abs(image - IMAGE) for image, _ in (weak, strong))
    assert (strong_change >= weak_change - 1e-6).all()


@every_artefact
def test_the_full_range_of_strength_is_used(name):
    energy = [np.square(make(name, strength)[0] - IMAGE).sum() for strength in (0.25, 0.5, 1.0)]
    assert energy[0] < energy[1] / 2 < energy[2] / 4


@pytest.mark.parametrize(("name", "sign"), [("leak", 1), ("breakage", -1), ("grid", -1)])
@pytest.mark.parametrize("seed", range(4))
def test_a_leak_is_brighter_and_the_others_are_darker(name, sign, seed):
    image, mask = make(name, seed=seed)
    change = sign * (image - IMAGE)
    assert (change[mask] > VISIBLE).all() and change.min() >= -1e-6


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


def test_a_full_leak_is_saturated():
    image, _ = make("leak", 1.0, site=(40, 60))
    assert image[40, 60] == 1


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


@every_artefact
def test_an_artefact_has_one_size_in_mm(name):
    fine = np.full((180, 240), 0.5, dtype=np.float32)
    coarse = fine[::2, ::2]
    change = [
        np.mean(
            [
                ARTEFACTS[name](image, strength=0.8, seed=seed, pixel_um=pixel_um, site=site)[0]
                - image
                for seed in range(10)
            ]
        )
        for image, pixel_um, site in ((fine, 50, (80, 120)), (coarse, 100, (40, 60)))
    ]
    # A breakage's rough edge is drawn on pixels, so only its average is the same.
    assert change[0] == pytest.approx(change[1], rel=0.15 if name == "breakage" else 0.03)


@every_artefact
@pytest.mark.parametrize("strength", [0, -0.5, 1.1, np.nan])
def test_a_strength_outside_its_range_is_refused(name, strength):
    with pytest.raises(ValueError, match=r"^artefact strength .* is outside \(0, 1\]$"):
        make(name, strength)


@every_artefact
@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.2])
def test_a_value_that_is_no_grey_is_refused(name, value):
    image = IMAGE.copy()
    image[3, 5] = value
    with pytest.raises(ValueError, match=r"needs grey values in \[0, 1\]; these are .* to .*$"):
        make(name, image=image)


@every_artefact
def test_a_stack_of_images_is_refused(name):
    with pytest.raises(ValueError, match=r"one \(height, width\) image, not shape \(2, 80, 112\)"):
        make(name, image=np.stack([IMAGE, IMAGE]))


@pytest.mark.parametrize("name", ["leak", "breakage"])
def test_a_site_cannot_be_drawn_from_a_black_image(name):
    black = np.zeros((8, 12), dtype=np.float32)
    with pytest.raises(ValueError, match="black.*give a site"):
        make(name, image=black)
    make(name, image=black, site=(4, 5))

"""What stored numbers mean: TIFFs of every kind, rescaled, wrapped, and turned greys."""

import re

import nrrd
import numpy as np
import pandas as pd
import pytest
import tifffile
from refusals import refused
from scipy.ndimage import gaussian_filter, zoom

from brainvae_core.cohorts import (
    comparable_section,
    drawn_atlas,
    preprocess,
    read_section,
    simulate,
)
from brainvae_core.cohorts.greys import nrrd_scaling, unwrapped
from brainvae_core.cohorts.preprocess import Preprocessing

RNG = np.random.default_rng(0)
SECTION = RNG.integers(0, 200, (5, 7), dtype=np.uint8)
VOLUME = RNG.integers(0, 60_000, (33, 40, 57), dtype=np.uint16)  # 400 × 200 × 200 µm
BLACK = {"photometric": "minisblack", "metadata": None}
GREEN = np.zeros((3, 256), dtype=np.uint16)
GREEN[1] = 257 * np.arange(256)
RAMP = np.tile(257 * np.arange(256, dtype=np.uint16)[::-1], (3, 1))


def imagej(*lines):
    return {"metadata": None, "description": "\n".join(["ImageJ=1.54f", *lines, ""])}


def written(path, array=SECTION, **options):
    tifffile.imwrite(path / "a.tif", array, **options)
    return path / "a.tif"


MEANT = {
    "black is 0": (SECTION, BLACK, SECTION),
    "white is 0": (255 - SECTION, {"photometric": "miniswhite"}, SECTION),
    "white is 0, 16 bits": (65535 - VOLUME[0], {"photometric": "miniswhite"}, VOLUME[0]),
    "white is 0, 1 bit": (SECTION < 99, {"photometric": "miniswhite"}, SECTION >= 99),
    "a palette of greys": (255 - SECTION, {"photometric": "palette", "colormap": RAMP}, None),
    "ImageJ's colours for greys": (
        SECTION,
        {"photometric": "palette", "colormap": GREEN, **imagej()},
        SECTION,
    ),
    "ImageJ's signed 16 bits": (
        (SECTION.astype(int) + 32_700).astype(">u2"),
        {"byteorder": ">", **imagej("cf=0", "c0=-32768.0", "c1=1.0", "vunit=Gray Value")},
        SECTION - 68.0,
    ),
    "ImageJ's straight line": (SECTION, imagej("cf=0", "c0=-3.0", "c1=0.5"), SECTION / 2 - 3),
    "ImageJ, not calibrated": (SECTION, imagej("cf=20", "c0=-3.0", "c1=0.5"), SECTION),
    **{
        f"packed by {how}": (VOLUME[0], {"compression": how, "predictor": how != "packbits"}, None)
        for how in ("lzw", "zlib", "packbits", "zstd", "lzma")
    },
}


@pytest.mark.parametrize(("stored", "options", "meant"), MEANT.values(), ids=MEANT)
def test_a_tiff_is_read_as_it_means(tmp_path, stored, options, meant):
    options = {"photometric": "minisblack", **options}
    path = written(tmp_path, stored, **options)
    if meant is None:
        meant = 257 * SECTION.astype(int) if "colormap" in options else stored
    found = read_section(path)
    if meant.shape == (5, 7):
        np.testing.assert_allclose(found, meant)
    else:  # the whole plane, enlarged
        np.testing.assert_allclose(found[::8, ::8], meant)


def test_a_tiff_of_an_unknown_white_or_with_a_smaller_copy_is_read(tmp_path):
    path = written(tmp_path, **BLACK)
    tag = np.array([262, 3], "<u2").tobytes()
    assert (content := path.read_bytes()).count(tag) == 1
    path.write_bytes(content.replace(tag, np.array([65_000, 3], "<u2").tobytes()))
    np.testing.assert_array_equal(read_section(path), SECTION)
    big = RNG.integers(0, 200, (64, 96), dtype=np.uint8)
    for options in ({}, {"subfiletype": 1}):
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(big, **BLACK)
            tiff.write(big[::4, ::4], **BLACK, **options)
        np.testing.assert_array_equal(read_section(path), big)


def test_what_has_no_one_meaning_is_refused_with_its_cause(tmp_path):
    colours = RNG.integers(0, 65_536, (3, 256), dtype=np.uint16)
    straight = r"calibration \(function 3, c0 = 1, c1 = 2\).*32-bit"
    of_colours = {"photometric": "palette", "colormap": colours}
    cases = [
        (r"colours or channels \(RGB\), shape \(5, 7, 3\)", np.stack([SECTION] * 3, -1), {}),
        ("a palette of colours", SECTION, {**of_colours, "colormap": GREEN}),
        ("a palette of colours", SECTION, {**of_colours, **imagej()}),
        ("lowest value is white.*float32", np.float32(SECTION), {"photometric": "miniswhite"}),
        (straight, SECTION, imagej("cf=3", "c0=1", "c1=2")),
        ("says that it holds 9 planes and 1 is", SECTION, imagej("images=9", "slices=9")),
    ]
    for i, (words, array, options) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        refused([(f"a.tif .*{words}", read_section, written(tmp_path / str(i), array, **options))])
    with tifffile.TiffWriter(tmp_path / "two.tif") as tiff:
        tiff.write(SECTION, **BLACK)
        tiff.write(SECTION[:, :3], **BLACK)
    refused(
        [("two.tif .*holds 2 images .5 × 7, 5 × 3. and one is", read_section, tmp_path / "two.tif")]
    )


# ---- voxels that are no cubes ----


def ome(**sizes):
    return {"metadata": {"axes": "ZYX", **{f"PhysicalSize{k}": v for k, v in sizes.items()}}}


def ij(resolution, spacing, unit):
    about = {"axes": "ZYX", "spacing": spacing, "unit": unit}
    return {"imagej": True, "resolution": (resolution, resolution), "metadata": about}


SIZED = {
    "ImageJ": ij(0.005, 400, "um"),
    "ImageJ in mm": ij(5, 0.4, "mm"),
    "OME in mm": {"ome": True, **ome(X=0.2, XUnit="mm", Y=200, Z=0.4, ZUnit="mm")},
}


@pytest.mark.parametrize("options", SIZED.values(), ids=SIZED)
def test_voxels_that_are_no_cubes_are_as_large_as_the_tiff_says(tmp_path, options):
    found = read_section(written(tmp_path, VOLUME, **options), 160)
    np.testing.assert_allclose(found[::8, ::8], VOLUME[10])


def test_sizes_are_asked_only_where_cubes_do_not_fill_the_atlas(tmp_path):
    cubes = np.repeat(VOLUME, 2, axis=0)
    found = read_section(written(tmp_path, cubes, **SIZED["ImageJ"]), 160)  # of the raw images
    np.testing.assert_allclose(found[::8, ::8], VOLUME[10])
    other = SIZED["ImageJ"] | {"resolution": (0.01, 0.01)}
    for options, words in (
        ({}, "voxels, taken as cubes of .* µm since the file gives them no size, .*a format that"),
        (other, r"voxels extend over 13\.20 × 4\.00 × 5\.70 mm"),
    ):
        refused([(words, read_section, written(tmp_path, VOLUME, **options))])


# ---- rescaled NRRD ----


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
def test_the_range_that_an_nrrd_was_quantised_from_is_brought_back(tmp_path, kind):
    info, (low, high) = np.iinfo(kind), (-1.5, 6.5)
    meant = np.linspace(low, high, VOLUME.size).reshape(VOLUME.shape)
    n = info.max - info.min + 1
    stored = np.minimum(np.floor((meant - low) / (high - low) * n), n - 1) + info.min
    directions = np.diag([400.0, 200, 200])
    header = {"space": "LPS", "space directions": directions, "old min": low, "old max": high}
    nrrd.write(str(tmp_path / "a.nrrd"), stored.astype(kind), header)
    found = read_section(tmp_path / "a.nrrd", 160)
    np.testing.assert_allclose(found[::8, ::8], meant[10], atol=8 / n * 0.51)


def test_an_nrrd_without_a_range_keeps_its_values_and_an_empty_one_is_refused():
    of = {"oldmin": 0.0, "oldmax": 512.0}
    kinds = [({}, "u1"), ({"old min": 0.0}, "u1"), (of, "f4"), (of, "u1")]
    found = [nrrd_scaling(header, np.dtype(kind)) for header, kind in kinds]
    assert found == [(1, 0), (1, 0), (1, 0), (2, 1)]
    same = {"old min": 3.0, "old max": 3.0}
    refused([("old min 3 and old max 3 are no range", nrrd_scaling, same, np.dtype("u1"))])


# ---- a sign that was lost ----


@pytest.fixture(scope="module")
def tissue():
    """A bright disc on black, as whole numbers that reach a quarter of 16 bits."""
    rows, columns = np.indices((80, 96))
    disc = np.hypot(rows - 40, columns - 48) < 30
    noise = np.random.default_rng(3).normal(0, 300, disc.shape)
    return np.rint(np.where(disc, 12_000 + noise, 0)).astype(np.int32)


def test_undershoot_and_a_background_that_was_taken_off_get_their_sign_back(tissue):
    noise = np.rint(np.random.default_rng(4).normal(0, 20, tissue.shape)).astype(np.int32)
    for meant in (
        np.rint(zoom(tissue.astype(float), 1.5, order=3)).astype(np.int32),
        tissue + noise,  # half of the background is below 0
        np.where((tissue == 0) & (np.arange(96) < 40), -9, tissue),
    ):
        assert meant.min() < 0
        for kind, scale in (("u1", 200), ("u2", 1), ("u4", 50_000)):
            whole = meant // scale if kind == "u1" else meant.astype(np.int64) * scale
            wrapped = whole.astype(kind)
            np.testing.assert_array_equal(unwrapped(wrapped), whole)
            if kind != "u4":
                np.testing.assert_array_equal(unwrapped(wrapped.astype(np.float32)), whole)


def test_what_is_too_bright_for_a_sign_is_bright_again(tissue):
    noise = np.rint(np.random.default_rng(4).normal(0, 3, tissue.shape)).astype(np.int32)
    blurred = np.rint(gaussian_filter(tissue.astype(float), 2)).astype(np.int32)
    for kind, scale in (("i1", 1 / 64), ("i2", 3.5)):
        whole = np.rint(blurred * scale).astype(np.int32) + noise
        for wrapped in (whole.astype(kind), whole.astype(kind).astype(np.float32)):
            np.testing.assert_array_equal(unwrapped(wrapped), whole)


def test_what_is_bright_stays_bright(tissue):
    leak = tissue.astype(float)
    leak[30:40, 40:60] = 90_000
    blurred = gaussian_filter(leak, 1.5).clip(0, 65_535).astype(np.uint16)
    assert (blurred == 65_535).any()
    noisy = np.random.default_rng(5).integers(0, 65_536, (80, 96), dtype=np.uint16)
    mask = (tissue > 0).astype(np.uint8) * 255
    stained = np.where(mask, 130 + tissue % 126, 0).astype(np.uint8)
    signed = (noisy - 32_768.0, blurred.astype(int) - 32_768, tissue - 5_000)
    cells = tissue.astype(np.uint16)
    cells[20:60:4, 30:66:4] = 65_535  # each alone in tissue
    halves = (np.float16(tissue), np.where(tissue, np.inf, 0).astype(np.float16))
    same = (cells, blurred, noisy, mask, stained, tissue, tissue / 12_000, tissue - 99.5)
    for section in (*same, *signed, *halves):
        assert unwrapped(section) is section


# ---- cohorts ----


@pytest.fixture(scope="module")
def raw():
    brains = simulate(16, shape=(80, 112), artefact_share=0, seed=2)
    return np.rint(brains.images * 3000).astype(int), pd.DataFrame(index=brains.metadata.index)


@pytest.fixture(scope="module")
def atlas():
    return drawn_atlas().resampled((80, 112))


def test_wrapped_pixels_do_not_darken_a_cohort(raw, atlas):
    sections, brains = raw
    bad = np.random.default_rng(0).random(sections.shape) < 0.002
    wrapped = np.where(bad, -6, sections).astype(np.uint16)
    right = preprocess(np.where(bad, -6, sections), brains, atlas)
    found = preprocess(wrapped, brains, atlas)
    np.testing.assert_allclose(found.images, right.images, atol=1e-6)
    one = comparable_section(wrapped[3], atlas, Preprocessing.of(found))
    np.testing.assert_allclose(one, found.images[3], atol=1e-6)
    hidden = np.where(bad, 65_530.5, sections)  # no whole numbers: nothing tells what they were
    refused([("brightest pixels are .* times as bright .*sign", preprocess, hidden, brains, atlas)])


def test_greys_with_an_offset_or_the_wrong_way_round_are_refused(raw, atlas):
    sections, brains = raw
    no_dark = "is .* outside the brain and .* inside; outside has to be dark"
    for words, turned in (
        (no_dark, sections + 32_768),
        (no_dark, 3000 - sections),
        (no_dark, (sections - sections.mean()) / sections.std()),
        ("-3.277e.04 to .*no brightness is negative", sections - 32_768),
    ):
        of_one = (comparable_section, turned[0], atlas, Preprocessing(0.3, 1.0))
        refused([(f"^section .*{words}", *of_one)])
        found = preprocess([turned[0], *sections[1:]], brains, atlas)
        assert len(found) == 15 and re.search(words, found.refused["sim-00000"])
    right = preprocess(sections, brains, atlas).images
    for small in (sections - 60, sections + 100):  # undershoot, a camera's offset
        assert np.abs(preprocess(small, brains, atlas).images - right).mean() < 0.05

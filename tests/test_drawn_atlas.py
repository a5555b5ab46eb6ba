"""The drawn atlas: sound as a drawing, and like the real slice it imitates."""

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, label

from brainvae_core.cohorts import ccf_atlas, drawn_atlas
from brainvae_core.cohorts.drawn_regions import BRIGHTNESS, CEREBRUM, CURVES, STRUCTURES

NAMED = [
    *["RSP", "PTLp", "SSp", "SSs", "AUD", "TEa", "ECT", "PERI", "PIR", "COA", "HPF", "CA", "DG"],
    *["STR", "CP", "sAMY", "CTXsp", "TH", "HY", "VS", "VL", "V3"],
    *["fiber tracts", "cc", "ec", "int", "fi"],
]


@pytest.fixture(scope="module")
def drawn():
    return drawn_atlas()


@pytest.fixture(scope="module")
def real(real_data):
    return ccf_atlas(real_data)


def test_it_is_a_section_at_25_um_of_nobody_else(drawn):
    assert drawn.shape == drawn.template.shape == (320, 448)
    assert (drawn.pixel_um, drawn.name, drawn.terms) == (25.0, "drawn atlas", "")
    assert drawn.annotation.dtype == np.uint32 and drawn.template.dtype == np.float32


def test_it_is_exactly_mirror_symmetric(drawn):
    assert np.array_equal(drawn.annotation, drawn.annotation[:, ::-1])
    assert np.array_equal(drawn.template, drawn.template[:, ::-1])


def test_every_call_gives_the_same_arrays_and_nobody_can_change_them(drawn):
    assert drawn_atlas() is drawn
    with pytest.raises(ValueError, match="read-only"):
        drawn.annotation[0, 0] = 8
    with pytest.raises(ValueError, match="read-only"):
        drawn.template[0, 0] = 1


def test_the_brain_is_one_piece_without_holes_inside_the_frame(drawn):
    brain = drawn.brain_mask
    assert label(brain)[1] == 1
    assert np.array_equal(binary_fill_holes(brain), brain)
    assert label(~brain)[1] == 1
    assert not np.concatenate([brain[[0, -1]].ravel(), brain[:, [0, -1]].ravel()]).any()


def test_no_region_has_stray_pixels(drawn):
    half = drawn.annotation[:, :224]
    for structure_id in np.unique(half):
        pieces, _ = label(half == structure_id)
        assert np.bincount(pieces.ravel())[1:].min() >= 30, STRUCTURES.get(structure_id)


@pytest.mark.parametrize("acronym", NAMED)
def test_every_named_region_is_on_both_sides(drawn, acronym):
    (mask,) = drawn.roi_masks([acronym])
    assert mask[:, :224].sum() == mask[:, 224:].sum() > 0


def test_parents_contain_exactly_their_children(drawn):
    masks = dict(zip(drawn.acronyms, drawn.roi_masks(drawn.acronyms), strict=True))
    assert np.array_equal(masks["HPF"], masks["CA"] | masks["DG"])
    assert np.array_equal(masks["STR"] & ~masks["CP"] & ~masks["sAMY"], drawn.annotation == 477)
    assert np.array_equal(masks["VS"], masks["VL"] | masks["V3"])
    assert np.array_equal(masks["OLF"], masks["PIR"] | masks["COA"])
    areas = ["RSP", "PTLp", "SSp", "SSs", "AUD", "TEa", "ECT", "PERI"]
    assert np.array_equal(masks["Isocortex"], np.any([masks[a] for a in areas], axis=0))
    assert np.array_equal(masks["root"], drawn.brain_mask)
    assert np.array_equal(masks["root"], masks["grey"] | masks["fiber tracts"] | masks["VS"])


def test_every_structure_of_its_table_has_pixels(drawn):
    assert drawn.acronyms == drawn.structures["acronym"].tolist()
    assert set(CURVES) == set(BRIGHTNESS) <= set(drawn.acronyms)


def test_at_most_twelve_points_draw_a_region():
    for acronym, curves in {**CURVES, "outline": [CEREBRUM]}.items():
        assert sum(len(set(points)) for points in curves) <= 12, acronym


def test_points_are_whole_pixels():
    points = [point for curves in CURVES.values() for curve in curves for point in curve]
    assert all(isinstance(value, int) for point in [*points, *CEREBRUM] for value in point)


def test_brightness_is_that_of_a_section(drawn):
    template, brain = drawn.template, drawn.brain_mask
    assert template.min() >= 0 and template.max() <= 1
    assert template[~brain].mean() < 0.01 and template[0].max() == 0
    grey = drawn.roi_masks(["grey"])[0]
    assert 0.4 < template[grey].mean() < 0.8
    mean = {
        a: template[drawn.roi_masks([a])[0]].mean() for a in ["fiber tracts", "VS", "TH", "SSp"]
    }
    assert mean["VS"] < mean["fiber tracts"] < mean["TH"] - 0.2 < mean["SSp"] - 0.2


def test_cortical_layers_brighten_to_the_middle_and_darken_to_white_matter(drawn):
    # Column 83 runs down through the barrel field.
    profile = drawn.template[:, 83]
    cortex = np.flatnonzero(drawn.roi_masks(["SSp"])[0][:, 83])
    surface, middle, deep = profile[cortex[[2, len(cortex) // 2, -2]]]
    assert middle > surface + 0.1 and middle > deep + 0.1


@pytest.mark.parametrize("shape", [(160, 224), (80, 112)])
def test_it_keeps_every_named_region_when_resampled(drawn, shape):
    small = drawn.resampled(shape)
    assert small.shape == small.template.shape == shape
    assert small.pixel_um == 25.0 * 320 / shape[0]
    share = small.roi_masks(NAMED).mean(axis=(1, 2)) / drawn.roi_masks(NAMED).mean(axis=(1, 2))
    assert np.all(np.abs(share - 1) < 0.25)


def test_an_acronym_of_another_plane_is_refused_with_what_there_is(drawn):
    with pytest.raises(ValueError, match="no structure 'SSpp' in atlas 'drawn atlas'; did"):
        drawn.roi_masks(["HPF", "SSpp"])


def test_names_and_parents_are_those_of_the_ontology(real):
    table = real.structures.set_index("id")
    for structure_id, (acronym, name, parent) in STRUCTURES.items():
        row = table.loc[structure_id]
        assert (row["acronym"], row["name"], row["parent_id"]) == (acronym, name, parent)


@pytest.mark.parametrize("acronym", ["SSp", "RSP", "HPF", "STR", "TH", "HY"])
def test_regions_lie_where_the_real_plane_has_them(drawn, real, acronym):
    a, b = drawn.roi_masks([acronym])[0], real.roi_masks([acronym])[0]
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.70


def test_the_template_looks_like_the_real_one(drawn, real):
    brain = real.brain_mask
    assert np.corrcoef(drawn.template[brain], real.template[brain])[0, 1] >= 0.65

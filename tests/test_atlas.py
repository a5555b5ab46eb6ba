"""The atlas slice: regions with their descendants, fewer pixels, and the real files."""

import json

import nrrd
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from brainvae_core.cohorts import Atlas, ccf_atlas, drawn_atlas
from brainvae_core.cohorts.atlas import block_mean, read_ontology

ROWS = [
    (1, "root", "root", 0),
    (2, "CTX", "cortex", 1),
    (3, "SSp", "primary somatosensory", 2),
    (4, "SSs", "supplemental somatosensory", 2),
    (5, "TH", "thalamus", 1),
    (6, "MO", "motor", 2),
]


def table(rows=ROWS):
    return pd.DataFrame(rows, columns=["id", "acronym", "name", "parent_id"])


def tiny(height=4, width=8):
    annotation = np.zeros((height, width), dtype=np.uint32)
    annotation[:2, 2:5], annotation[:2, 5:], annotation[2:, 1:4] = 3, 4, 5
    annotation[2, 6] = 2
    template = np.arange(height * width, dtype=np.float32).reshape(height, width) / 100
    return Atlas(annotation, template, table(), pixel_um=25.0, name="tiny")


def test_a_region_holds_its_descendants_and_nothing_else():
    atlas = tiny()
    cortex, ssp, everything = atlas.roi_masks(["CTX", "SSp", "root"])
    assert np.array_equal(cortex, np.isin(atlas.annotation, [2, 3, 4]))
    assert np.array_equal(ssp, atlas.annotation == 3)
    assert np.array_equal(everything, atlas.brain_mask)
    assert atlas.roi_masks(["TH"]).shape == (1, 4, 8)


def test_acronyms_are_those_with_pixels_of_their_own_or_below():
    assert tiny().acronyms == ["root", "CTX", "SSp", "SSs", "TH"]


def test_an_unknown_acronym_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no structure 'SSq' in atlas 'tiny'; did you mean SS"):
        tiny().roi_masks(["TH", "SSq"])


def test_a_region_of_another_slice_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="MO exists but has no pixel in atlas 'tiny'.*root, CTX"):
        tiny().roi_masks(["TH", "MO"])


@pytest.mark.parametrize("acronyms", ["SSp", []])
def test_roi_masks_wants_a_list_of_acronyms(acronyms):
    with pytest.raises(ValueError, match="must be a list such as"):
        tiny().roi_masks(acronyms)


def test_sides_divide_a_region_and_name_what_they_lack():
    atlas = tiny(width=9)
    names = ["CTX", "TH", "root"]
    left, right, both = (atlas.roi_masks(["root"], side)[0] for side in ("left", "right", "both"))
    assert np.array_equal(left, atlas.brain_mask & (np.arange(9) < 5))
    assert np.array_equal(left | right, both) and not (left & right).any()
    assert np.array_equal(atlas.roi_masks(names), atlas.roi_masks(names, side="both"))
    with pytest.raises(ValueError, match="^SSs exists .* 'tiny' on its left side; this .*root, C"):
        atlas.roi_masks(["CTX", "SSs"], side="left")
    with pytest.raises(ValueError, match="^TH exists .* 'tiny' on its right side; this"):
        atlas.roi_masks(names, side="right")
    with pytest.raises(ValueError, match="side='top' must be one of both, left, right"):
        atlas.roi_masks(names, side="top")
    with pytest.raises(ValueError, match="in atlas 'tiny'; this slice has"):
        atlas.roi_masks(["MO"])


@given(st.integers(0, 10_000), st.integers(2, 13))
def test_left_and_right_make_both(seed, width):
    rng = np.random.default_rng(seed)
    annotation = rng.choice([0, 2, 3, 4, 5], (7, width)).astype(np.uint32)
    annotation[0, :2] = annotation[0, -2:] = 3
    atlas = Atlas(annotation, np.zeros((7, width), np.float32), table(), 25.0, "noise")
    left, right = (atlas.roi_masks(["SSp", "CTX"], side) for side in ("left", "right"))
    assert np.array_equal(left | right, atlas.roi_masks(["SSp", "CTX"]))
    assert not (left & right).any()
    assert not left[:, :, -1].any() and not right[:, :, 0].any()


AREAS = [
    (1, "root", "root", 0),
    (2, "CTX", "cortex", 1),
    (3, "SS", "Somatosensory areas", 2),
    (4, "SS1", "Somatosensory areas, layer 1", 3),
    (5, "SSp", "Primary somatosensory area", 3),
    (6, "SSp1", "Primary somatosensory area,layer 1", 5),
    (7, "SSp23", "Primary somatosensory area, Layer 2/3", 5),
    (8, "SSs", "Supplemental somatosensory area", 3),
    (9, "PIR", "Piriform area", 2),
    (10, "PIR1-3", "Piriform area, layers 1-3", 9),
    (11, "BS", "player and slayer", 1),
    (12, "TH", "thalamus, multilayered", 11),
    (13, "HY", "hypothalamus", 11),
]


def areas(pixels):
    """A slice of 20 × 25 with so many pixels of each id, the rest outside."""
    flat = np.zeros(500, dtype=np.uint32)
    flat[: sum(pixels.values())] = np.repeat(list(pixels), list(pixels.values()))
    annotation = flat.reshape(20, 25)
    return Atlas(annotation, np.zeros((20, 25), np.float32), table(AREAS), 25.0, "areas")


def test_regions_are_the_finest_that_are_large_enough():
    """Of 400 pixels: SSp 100, SSs 12, PIR 80, TH 150, HY 40, SS's own layer 18."""
    atlas = areas({4: 18, 6: 50, 7: 50, 8: 12, 10: 80, 12: 150, 13: 40})
    assert atlas.regions(0.03) == ["SSp", "SSs", "PIR", "TH", "HY"]
    assert atlas.regions(0.031) == ["SSp", "PIR", "TH", "HY"]
    assert atlas.regions(0.2) == ["SSp", "PIR", "TH"]
    assert atlas.regions(0.26) == ["SS", "TH"]
    assert atlas.regions(0.4) == ["CTX", "BS"]
    assert atlas.regions(0.5) == ["CTX"]
    assert atlas.regions(1.0) == ["root"]
    assert atlas.regions() == ["SSp", "SSs", "PIR", "TH", "HY"]


def test_regions_count_pixels_of_their_own_and_those_outside_the_brain_do_not():
    """A third of CTX is in none of its parts; the brain is 120 of 500 pixels."""
    atlas = areas({2: 40, 5: 40, 9: 40})
    assert atlas.regions(1 / 3) == ["SSp", "PIR"]
    assert atlas.regions(0.34) == ["CTX"]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 5, float("nan")])
def test_regions_refuse_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=rf"least_share={share} must lie in \(0, 1\]") as error:
        tiny().regions(share)
    assert "\n" not in str(error.value)


def test_regions_of_two_trees_may_all_be_too_small():
    rows = [(1, "L", "left tree", 0), (2, "R", "right tree", 0)]
    annotation = np.array([[1, 1, 2, 2, 0]], dtype=np.uint32)
    atlas = Atlas(annotation, np.zeros((1, 5), np.float32), table(rows), 25.0, "two")
    assert atlas.regions(0.5) == ["L", "R"]
    with pytest.raises(ValueError, match=r"no region of atlas 'two' has 60.0% of its pixels$"):
        atlas.regions(0.6)


def by_definition(atlas, least_share):
    """Large enough, no layer nor part of one, and without a part that is large enough."""
    rows = atlas.structures.set_index("id")
    parent = rows["parent_id"].to_dict()
    layers = set(rows.index[rows["name"].str.contains(r"\blayers?\b", case=False)])
    own = dict(zip(*np.unique(atlas.annotation, return_counts=True), strict=True))
    pixels, in_layer = dict.fromkeys(parent, 0), {}
    for structure in parent:
        lineage, up = [], structure
        while up:
            lineage.append(up)
            up = parent[up]
        in_layer[structure] = any(a in layers for a in lineage)
        for ancestor in lineage:
            pixels[ancestor] += own.get(structure, 0)
    least = least_share * atlas.brain_mask.sum()
    large = [s for s in parent if pixels[s] >= least and not in_layer[s]]
    divided = {parent[s] for s in large}
    return rows.loc[[s for s in large if s not in divided], "acronym"].tolist()


def check_regions(atlas, least_share):
    regions = atlas.regions(least_share)
    assert regions == by_definition(atlas, least_share)
    masks = atlas.roi_masks(regions)
    assert masks.sum(axis=0).max() == 1
    assert masks.sum(axis=(1, 2)).min() >= least_share * atlas.brain_mask.sum()
    return masks


@pytest.mark.parametrize(
    ("shape", "n"), [((320, 448), 21), ((160, 224), 21), ((80, 112), 21), ((40, 56), 20)]
)
def test_regions_of_the_drawn_atlas(shape, n):
    atlas = drawn_atlas().resampled(shape)
    fine = check_regions(atlas, 0.01)
    assert len(fine) == n
    for side in ("left", "right"):
        assert atlas.roi_masks(atlas.regions(), side).any(axis=(1, 2)).all()
    for least_share in (0.03, 0.1, 0.3):
        coarse = check_regions(atlas, least_share)
        assert len(coarse) < len(fine)
        shared = np.einsum("chw,fhw->cf", coarse, fine, dtype=int)
        # Each coarse region holds whole fine ones, and no fine one lies astride.
        assert np.all((shared == 0) | (shared == fine.sum(axis=(1, 2))))
        assert (shared > 0).any(axis=1).all()
        fine = coarse


def test_an_atlas_whose_arrays_disagree_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 8\) and template \(8, 4\)"):
        Atlas(np.zeros((4, 8), np.uint32), np.zeros((8, 4), np.float32), table(), 25.0, "askew")


def test_an_atlas_with_ids_its_table_lacks_is_refused():
    with pytest.raises(ValueError, match=r"structure ids \[77\]"):
        Atlas(np.full((2, 3), 77, np.uint32), np.zeros((2, 3), np.float32), table(), 25.0, "odd")


def test_resampled_keeps_the_mean_brightness_and_the_extent():
    atlas = tiny(height=8, width=24)
    small = atlas.resampled((2, 6))
    assert small.shape == (2, 6) and small.pixel_um == 100.0
    assert set(np.unique(small.annotation)) <= set(np.unique(atlas.annotation))
    by_hand = [
        [atlas.template[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for j in range(6)]
        for i in range(2)
    ]
    np.testing.assert_allclose(small.template, by_hand, rtol=1e-5)
    assert np.array_equal(atlas.resampled(atlas.shape).annotation, atlas.annotation)


def test_resampled_reads_labels_at_the_middle_of_odd_blocks():
    annotation = np.repeat(np.repeat([[3, 4], [5, 2], [4, 3]], 3, axis=0), 3, axis=1)
    atlas = Atlas(annotation, np.zeros((9, 6), np.float32), table(), 25.0, "blocks")
    assert atlas.resampled((3, 2)).annotation.tolist() == [[3, 4], [5, 2], [4, 3]]


@pytest.mark.parametrize("shape", [(3, 8), (2, 8), (8, 16), (8, 4), (0, 0), (-2, -4), (2,), ()])
def test_resampled_refuses_other_than_whole_number_reductions(shape):
    with pytest.raises(ValueError, match="cannot resample.*such as 4×8, 2×4, 1×2 are possible"):
        tiny().resampled(shape)


def test_block_mean_leaves_leading_axes():
    images = np.random.default_rng(0).random((3, 4, 6)).astype(np.float32)
    assert block_mean(images, 2).shape == (3, 2, 3)
    np.testing.assert_allclose(block_mean(images, 2)[1, 0, 2], images[1, :2, 4:].mean(), rtol=1e-6)


def write_ccf(folder, n_planes=3, template="average_template_25_ap001-002.tif"):
    """A CCF of three planes: plane p is SSp, SSs or TH on a frame as wide as the real one."""
    volume = np.zeros((n_planes, 320, 456), dtype=np.uint32)
    for plane in range(n_planes):
        volume[plane, 10:300, 20:420] = 3 + plane
    nrrd.write(str(folder / "annotation_25.nrrd"), volume)
    nodes = [
        {"id": i, "acronym": a, "name": n, "structure_id_path": [p, i] if p else [i]}
        for i, a, n, p in ROWS
    ]
    (folder / "structures.json").write_text(json.dumps(nodes))
    grey = np.zeros((2, 320, 456), dtype=np.uint16)
    grey[0, 100, 4], grey[1, 100, 451] = 500, 300
    tifffile.imwrite(folder / template, grey, photometric="minisblack")


def test_ccf_atlas_reads_the_plane_asked_for(tmp_path):
    write_ccf(tmp_path)
    one, two = ccf_atlas(tmp_path, plane=1), ccf_atlas(tmp_path, plane=2)
    assert one.shape == two.shape == (320, 448)
    assert one.acronyms == ["root", "CTX", "SSs"] and two.acronyms == ["root", "TH"]
    assert one.template[100, 0] == 1 and two.template[100, 447] == 1
    assert one.template.sum() == two.template.sum() == 1
    assert one.name == "CCFv3 plane 1" and "Allen Institute" in one.terms


def test_ccf_atlas_names_the_planes_it_could_read(tmp_path):
    write_ccf(tmp_path)
    with pytest.raises(ValueError, match="plane 3 is outside the annotation volume; 0 to 2 exist"):
        ccf_atlas(tmp_path, plane=3)
    with pytest.raises(ValueError, match="plane -1 is outside"):
        ccf_atlas(tmp_path, plane=-1)
    with pytest.raises(ValueError, match="no template of plane 0 .*1–2"):
        ccf_atlas(tmp_path, plane=0)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("annotation_25.nrrd", "no annotation_25.nrrd in"),
        ("structures.json", "no structure_graph_1.json or structures.json in"),
        ("average_template_25_ap001-002.tif", "no average template in"),
    ],
)
def test_ccf_atlas_says_which_file_is_missing(tmp_path, missing, message):
    write_ccf(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        ccf_atlas(tmp_path, plane=1)


def test_ccf_atlas_of_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="annotation_25.nrrd"):
        ccf_atlas(tmp_path / "nowhere")


def test_both_kinds_of_ontology_file_say_the_same(tmp_path):
    nodes = {
        i: {"id": i, "acronym": a, "name": n, "parent_structure_id": p or None, "children": []}
        for i, a, n, p in ROWS
    }
    for i, _, _, parent in ROWS[1:]:
        nodes[parent]["children"].append(nodes[i])
    graph = tmp_path / "structure_graph_1.json"
    graph.write_text(json.dumps({"msg": [nodes[1]]}))
    write_ccf(tmp_path)
    by_id = [
        read_ontology(path).sort_values("id").reset_index(drop=True)
        for path in (graph, tmp_path / "structures.json")
    ]
    pd.testing.assert_frame_equal(by_id[0], by_id[1])
    pd.testing.assert_frame_equal(by_id[0], table(), check_dtype=False)


@pytest.fixture(scope="module")
def real(real_data):
    return ccf_atlas(real_data)


@pytest.mark.parametrize(("acronym", "pixels"), [("SSp", 5640), ("HPF", 10241), ("TH", 18017)])
def test_region_sizes_on_the_real_plane(real, acronym, pixels):
    assert real.roi_masks([acronym]).sum() == pixels


def test_region_sizes_agree_with_a_walk_up_the_ontology(real):
    parent = dict(zip(real.structures["id"], real.structures["parent_id"], strict=True))

    def lineage(structure_id):
        return {structure_id} | (lineage(parent[structure_id]) if parent[structure_id] else set())

    ids, counts = np.unique(real.annotation[real.brain_mask], return_counts=True)
    for acronym, root in {"SSp": 322, "HPF": 1089, "TH": 549, "STR": 477, "RSP": 254}.items():
        walked = sum(n for i, n in zip(ids, counts, strict=True) if root in lineage(int(i)))
        assert real.roi_masks([acronym]).sum() == walked


def test_the_real_plane_as_it_is_described(real):
    assert real.shape == (320, 448) and real.pixel_um == 25.0
    assert real.template.min() >= 0 and real.template.max() <= 1
    assert real.template.dtype == np.float32
    assert not real.brain_mask[:, [0, -1]].any()
    with pytest.raises(ValueError, match="MO exists but has no pixel in atlas 'CCFv3 plane 286'"):
        real.roi_masks(["MO"])
    assert real.resampled((160, 224)).roi_masks(["SSp", "HPF", "STR", "TH"]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("shape", [(320, 448), (80, 112)])
def test_layers_of_the_real_plane_are_no_regions_and_hide_none(real, shape):
    """SS, SSp-bfd and others have layers beside their parts, or instead of them."""
    atlas = real.resampled(shape)
    for least_share in (0.005, 0.01, 0.05):
        check_regions(atlas, least_share)
    regions = atlas.regions(0.01)
    assert {"SSp-bfd", "SSs", "RSPd", "DG", "CP"} <= set(regions) and len(regions) >= 30
    names = atlas.structures.set_index("acronym")["name"]
    assert not names[regions].str.contains("layer", case=False).any()

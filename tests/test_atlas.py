"""The atlas slice: regions with their descendants, fewer pixels, and the real files."""

import json

import nrrd
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.cohorts import Atlas, ccf_atlas, ccf_templates, drawn_atlas
from brainvae_core.cohorts.ccf import read_ontology
from brainvae_core.cohorts.drawn import STRUCTURES

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
    assert atlas.acronyms == ["root", "CTX", "SSp", "SSs", "TH"]


def made(template=(2, 3), label=0):
    return Atlas(np.full((2, 3), label), np.zeros(template), table(), 25.0, "odd")


def test_what_is_no_atlas_or_region_is_refused_in_one_line():
    atlas, elsewhere = tiny(width=9), "^MO exists but has no pixel in atlas 'tiny'; this .*root"
    cases = [
        ("no structure 'SSq' in atlas 'tiny'; did you mean SS", atlas.roi_masks, ["TH", "SSq"]),
        (elsewhere, atlas.roi_masks, ["TH", "MO"]),
        ("must be a list such as", atlas.roi_masks, "SSp"),
        ("must be a list such as", atlas.roi_masks, []),
        ("^SSs exists .* on its left side; this .*root, C", atlas.roi_masks, ["SSs"], "left"),
        ("side='top' must be one of both, left, right", atlas.roi_masks, ["CTX"], "top"),
        (r"\(2, 3\) and template \(3, 2\)", made, (3, 2)),
        (r"structure ids \[77\]", made, (2, 3), 77),
        (r"no region of atlas 'tiny' has 60.0% of it$", two_trees().regions, 0.6),
    ]
    for share in (0, float("nan")):
        cases.append((rf"least_share={share} must lie in \(0, 1\]", atlas.regions, share))
    for shape in ((2, 8), (8, 16), (8, 4), (0, 0), (2,)):
        cases.append(("cannot resample.*such as 4×8, 2×4, 1×2 are", tiny().resampled, shape))
    refused(cases)


@given(st.integers(0, 10_000), st.integers(2, 13))
def test_left_and_right_make_both(seed, width):
    rng = np.random.default_rng(seed)
    annotation = rng.choice([0, 2, 3, 4, 5], (7, width)).astype(np.uint32)
    annotation[0, :2] = annotation[0, -2:] = 3
    atlas = Atlas(annotation, np.zeros((7, width), np.float32), table(), 25.0, "noise")
    left, right = (atlas.roi_masks(["SSp", "CTX"], side) for side in ("left", "right"))
    assert np.array_equal(left | right, atlas.roi_masks(["SSp", "CTX"]))
    middle = (width + 1) // 2
    assert not left[:, :, middle:].any() and not right[:, :, :middle].any()


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
    for share, regions in (
        (0.03, ["SSp", "SSs", "PIR", "TH", "HY"]),
        (0.031, ["SSp", "PIR", "TH", "HY"]),
        (0.2, ["SSp", "PIR", "TH"]),
        (0.26, ["SS", "TH"]),
        (0.4, ["CTX", "BS"]),
        (0.5, ["CTX"]),
        (1.0, ["root"]),
    ):
        assert atlas.regions(share) == regions
    assert two_trees().regions(0.5) == ["L", "R"]
    a_third = areas({2: 40, 5: 40, 9: 40})  # of the cortex is in none of its parts
    assert (a_third.regions(1 / 3), a_third.regions(0.34)) == (["SSp", "PIR"], ["CTX"])


def two_trees():
    rows = [(1, "L", "left tree", 0), (2, "R", "right tree", 0)]
    annotation = np.array([[1, 1, 2, 2, 0]], dtype=np.uint32)
    return Atlas(annotation, np.zeros((1, 5), np.float32), table(rows), 25.0, "tiny")


def check_regions(atlas, least_share):
    regions = atlas.regions(least_share)
    masks = atlas.roi_masks(regions)
    assert masks.sum(axis=0).max() == 1
    assert masks.sum(axis=(1, 2)).min() >= least_share * atlas.brain_mask.sum()
    return masks


@pytest.mark.parametrize(
    ("shape", "n"), [((320, 448), 21), ((160, 224), 21), ((80, 112), 21), ((40, 56), 20)]
)
def test_regions_of_the_drawn_atlas(shape, n):
    atlas = drawn_atlas().resampled(shape)
    assert len(check_regions(atlas, 0.01)) == n
    for least_share in (0.03, 0.1, 0.3):
        check_regions(atlas, least_share)
    for side in ("left", "right"):
        assert atlas.roi_masks(atlas.regions(), side).any(axis=(1, 2)).all()


def test_resampled_is_the_mean_brightness_and_the_most_frequent_label():
    atlas = tiny(height=8, width=24)
    small = atlas.resampled((2, 6))
    assert small.shape == (2, 6) and small.pixel_um == 100.0
    by_hand = atlas.template.reshape(2, 4, 6, 4).mean((1, 3))
    np.testing.assert_allclose(small.template, by_hand, rtol=1e-5)
    blocks = np.kron([[3, 4], [5, 2], [4, 3]], np.ones((3, 3), np.uint32)).astype(np.uint32)
    blocks[0, :2] = blocks[8, 4:] = 5  # not most of their blocks
    odd = Atlas(blocks, np.zeros((9, 6), np.float32), table(), 25.0, "blocks")
    assert odd.resampled((3, 2)).annotation.tolist() == [[3, 4], [5, 2], [4, 3]]


def write_ccf(folder, n_planes=3, template="average_template_25_ap001-002.tif"):
    """A CCF of three planes: plane p is SSp, SSs or TH on a frame as wide as the real one."""
    volume = np.zeros((n_planes, 320, 456), dtype=np.uint32)
    for plane in range(n_planes):
        volume[plane, 10:300, 20:420] = 3 + plane
    nrrd.write(str(folder / "annotation_25.nrrd"), volume)
    (folder / "structures.json").write_text(json.dumps(flat()))
    grey = np.zeros((2, 320, 456), dtype=np.uint16)
    grey[0, 100, 4], grey[1, 100, 451] = 500, 300
    tifffile.imwrite(folder / template, grey, photometric="minisblack")


def test_ccf_atlas_reads_the_plane_asked_for_and_names_what_is_not_there(tmp_path):
    write_ccf(tmp_path)
    one, two = ccf_atlas(tmp_path, plane=1), ccf_atlas(tmp_path, plane=2)
    ((number, template),) = ccf_templates(tmp_path, plane=1).items()  # of -39, -35, …
    assert number == 1 and np.array_equal(template / template.max(), one.template)
    assert one.shape == two.shape == (320, 448)
    assert one.acronyms == ["root", "CTX", "SSs"] and two.acronyms == ["root", "TH"]
    assert one.template[100, 0] == 1 and two.template[100, 447] == 1
    assert one.template.sum() == two.template.sum() == 1
    assert one.name == "CCFv3 plane 1" and "Allen Institute" in one.terms
    refused(
        [
            ("plane 3 is outside; 0 to 2 exist", ccf_atlas, tmp_path, 3),
            ("plane -1 is outside", ccf_atlas, tmp_path, -1),
            ("no template of plane 0 .*1–2", ccf_atlas, tmp_path, 0),
        ]
    )
    volume = np.zeros((3, 320, 456), dtype=np.uint16)
    volume[1, 100, 4] = 500
    nrrd.write(str(tmp_path / "average_template_25.nrrd"), volume)  # wins over planes
    assert np.array_equal(ccf_atlas(tmp_path, 1).template, one.template)
    for pattern, words in (
        ("struct*", "no structure_graph_1.json or structures.json in"),
        ("average*", "no average template in"),
        ("annotation*", "no annotation_25.nrrd in"),
    ):
        for path in tmp_path.glob(pattern):
            path.unlink()
        with pytest.raises(FileNotFoundError, match=words):
            ccf_atlas(tmp_path, plane=1)


def flat(path=lambda p, i: [p, i] if p else [i]):
    return [
        {"id": i, "acronym": a, "name": n, "structure_id_path": path(p, i)} for i, a, n, p in ROWS
    ]


def nested():
    nodes = {
        i: {"id": i, "acronym": a, "name": n, "parent_structure_id": p or None, "children": []}
        for i, a, n, p in ROWS
    }
    for i, _, _, parent in ROWS[1:]:
        nodes[parent]["children"].append(nodes[i])
    return {"msg": [nodes[1]]}


@pytest.mark.parametrize(
    "content",
    [
        nested(),
        flat(),
        flat(lambda p, i: f"/1/{p}/{i}/" if p else "/1/"),
        {"success": True, "msg": flat(lambda p, i: f"{p}/{i}" if p else "1")},
    ],
)
def test_every_kind_of_ontology_file_says_the_same(tmp_path, content):
    path = tmp_path / "structures.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    found = read_ontology(path).sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, table(), check_dtype=False)


def test_two_files_of_a_kind_are_refused_unless_they_say_the_same(tmp_path):
    """Copied below, through a link, in other folders: never the first that is found."""
    write_ccf(tmp_path)
    copy, (annotation, ontology) = tmp_path / "copy", ("annotation_25.nrrd", "structures.json")
    copy.mkdir()
    (tmp_path / "linked").symlink_to(copy)
    (copy / "again").symlink_to(tmp_path)  # a circle
    for file in list(tmp_path.glob("*.*")):
        (copy / file.name).write_bytes(file.read_bytes())
    assert ccf_atlas(tmp_path, 1).acronyms == ["root", "CTX", "SSs"]
    nrrd.write(str(copy / annotation), np.ones((3, 320, 456), np.uint32))
    (tmp_path / "structure_graph_1.json").write_text(json.dumps(flat()[:5]))
    for name, other in (
        (annotation, f"copy/{annotation}"),
        ("structure_graph_1.json", f"copy/{ontology}"),
    ):
        message = rf"^{name} and {other} in .* differ; leave the one that is meant$"
        refused([(message, ccf_atlas, tmp_path, 1)])
        (tmp_path / other).unlink()
    (tmp_path / ontology).unlink()
    assert ccf_atlas(tmp_path, 1).structures.shape == (5, 4)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


@pytest.mark.promise("what is damaged is refused with its name")
def test_damaged_files_of_the_atlas_are_named_in_a_line(tmp_path, monkeypatch):
    write_ccf(tmp_path)
    annotation, ontology = tmp_path / "annotation_25.nrrd", tmp_path / "structures.json"
    template = tmp_path / "average_template_25_ap001-002.tif"

    def changed(path, voxels):
        whole = path.read_bytes()
        if path == annotation:
            nrrd.write(str(path), voxels)
        else:
            tifffile.imwrite(path, voxels, photometric="minisblack")
        found = path.read_bytes()
        path.write_bytes(whole)
        return found

    loose = [{**node, "structure_id_path": [9, node["id"]]} for node in flat()]
    failed = {"success": False, "msg": "Error"}
    unread = "cannot be read as a file of the atlas: .*"
    cases = [
        (ontology, json.dumps(failed), rf"{unread}the answer of a query that failed \(Error\)"),
        (ontology, "<html>503</html>", f"{unread}it is a web page; fetch it again"),
        (ontology, '{"msg": [{"id": 1}]}', f"{unread}no 'acronym'"),
        (ontology, b"\xff\xfe[", unread),
        (ontology, "[" * 100_000, unread),
        (ontology, json.dumps(loose), rf"{unread}structures \[1, 2, 3\] hang from no root"),
        (ontology, json.dumps(flat() * 2), f"{unread}ids or acronyms twice"),
        (ontology, json.dumps(flat(lambda p, i: f"{p};{i}")), f"{unread}'0;1' is none such as /99"),
        (ontology, json.dumps(flat(lambda p, i: [i, 1])), f"{unread}2 has a path that ends in 1"),
        (annotation, LFS, f"{unread}a pointer to content that was not fetched; run git lfs pull"),
        (annotation, annotation.read_bytes()[:-500], unread),
        (template, LFS, f"{unread}git lfs pull"),
    ]
    of_voxels = [
        (annotation, np.zeros((456, 3, 320), np.uint32), "voxels are 456 × 3 × 320; AP × 320"),
        (annotation, np.zeros((3, 320, 456), np.float32), "holds float32, no structure ids"),
        (template, np.zeros((2, 320, 456), np.uint16), "has no greys from 0 up in plane 1"),
        (template, np.ones((320, 456), np.uint16), "voxels are 320 × 456; 2 × 320 × 456"),
    ]
    cases += [(path, changed(path, voxels), words) for path, voxels, words in of_voxels]
    for path, content, words in cases:
        whole = path.read_bytes()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        refused([(f"{path.name} .*{words}", ccf_atlas, tmp_path, 1)])
        path.write_bytes(whole)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("brainvae_core.cohorts.ccf.read_volume", forbidden)
    refused([("annotation_25.nrrd cannot be read: Permission denied", ccf_atlas, tmp_path, 1)])


@pytest.fixture(scope="module")
def real(real_data):
    return ccf_atlas(real_data)


def test_the_real_plane_as_it_is_described(real):
    assert real.shape == (320, 448) and real.pixel_um == 25.0
    for acronym, pixels in {"SSp": 5640, "HPF": 10241, "TH": 18017}.items():
        assert real.roi_masks([acronym]).sum() == pixels
    assert real.template.min() >= 0 and real.template.max() <= 1
    assert real.template.dtype == np.float32
    assert not real.brain_mask[:, [0, -1]].any()


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


# ---- the drawn atlas: sound as a drawing, and like the real slice it imitates ----


@pytest.fixture(scope="module")
def drawn():
    return drawn_atlas()


def test_the_drawn_atlas_is_symmetric_and_nobodys_to_change(drawn):
    assert drawn_atlas() is drawn
    for array in (drawn.annotation, drawn.template):
        assert array.shape == (320, 448) and np.array_equal(array, array[:, ::-1])
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_regions_and_template_lie_where_the_real_plane_has_them(drawn, real):
    for acronym in ("SSp", "RSP", "HPF", "STR", "TH", "HY"):
        a, b = drawn.roi_masks([acronym])[0], real.roi_masks([acronym])[0]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.70, acronym
    brain = real.brain_mask
    assert np.corrcoef(drawn.template[brain], real.template[brain])[0, 1] >= 0.65


def test_names_and_parents_are_those_of_the_ontology(real):
    table = real.structures.set_index("id")
    for structure_id, (acronym, name, parent) in STRUCTURES.items():
        row = table.loc[structure_id]
        assert (row["acronym"], row["name"], row["parent_id"]) == (acronym, name, parent)

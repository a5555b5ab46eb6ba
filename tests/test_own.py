"""A lab's own brains: every file a section can come from, one grid, and clear refusals."""

import json
import shutil

import nibabel as nib
import nrrd
import numpy as np
import pandas as pd
import pytest
import tifffile

from brainvae_core.cohorts.read import read_section, read_sections

SHAPE = (66, 40, 57)  # the atlas at 200 µm
VOLUME = np.random.default_rng(0).integers(0, 60_000, SHAPE, dtype=np.uint16)
PLANE = 160  # 4 mm from the front: voxel 20 at 200 µm


def enlarged(section, voxel_um=200.0):
    """Linear interpolation at i × 25 µm, by hand."""
    rows = np.minimum(np.arange(320) * 25 / voxel_um, section.shape[0] - 1)
    columns = np.minimum(np.arange(456) * 25 / voxel_um, section.shape[1] - 1)
    tall = [np.interp(rows, np.arange(section.shape[0]), c) for c in section.T.astype(float)]
    across = np.arange(section.shape[1])
    return np.array([np.interp(columns, across, r) for r in np.array(tall).T])


def brainreg_folder(folder, image=VOLUME, atlas="allen_mouse_200um", name="downsampled_standard"):
    folder.mkdir(parents=True, exist_ok=True)
    # Orientation and voxel sizes that brainreg writes are those of the raw images.
    about = {"atlas": atlas, "orientation": "psl", "voxel_sizes": ["50.0", "40.0", "40.0"]}
    (folder / "brainreg.json").write_text(json.dumps(about))
    tifffile.imwrite(folder / f"{name}.tiff", image)
    return folder


def save_nifti(path, volume=VOLUME, spacing_mm=0.2, codes="PIL", order=(0, 1, 2)):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for i, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(codes)):
        affine[int(axis), i] = sign * spacing_mm
    nib.save(nib.Nifti1Image(volume, affine), path)
    return path


def save_nrrd(path, volume=VOLUME, spacing=200.0):
    directions = np.eye(3) * spacing
    nrrd.write(str(path), volume, {"space": "LPS", "space directions": directions})
    return path


def save_tiff(path, volume=VOLUME, **options):
    tifffile.imwrite(path, volume, photometric="minisblack", **options)
    return path


SOURCES = {
    "brainreg": lambda folder: brainreg_folder(folder / "mouse"),
    "a channel": lambda folder: brainreg_folder(folder / "m", name="downsampled_standard_1"),
    "tif": lambda folder: save_tiff(folder / "a.tif"),
    "packed tif": lambda folder: save_tiff(folder / "a.tiff", compression="zlib"),
    "ImageJ tif": lambda folder: save_tiff(folder / "a.tif", imagej=True),
    "nii": lambda folder: save_nifti(folder / "a.nii"),
    "nii.gz": lambda folder: save_nifti(folder / "a.nii.gz"),
    "nrrd": lambda folder: save_nrrd(folder / "a.nrrd"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_volume_gives_the_same_section(tmp_path, source):
    found = read_section(SOURCES[source](tmp_path), PLANE)
    assert found.shape == (320, 456) and found.dtype == np.float32
    np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5, atol=0.01)
    assert np.array_equal(found[::8, ::8], VOLUME[20])


def test_a_plane_between_two_is_between_them(tmp_path):
    for path in (save_tiff(tmp_path / "a.tif"), save_nifti(tmp_path / "a.nii.gz")):
        found = read_section(path, PLANE + 3)
        expected = enlarged(VOLUME[20] * (5 / 8) + VOLUME[21] * (3 / 8))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.01)
        np.testing.assert_allclose(read_section(path, 527), enlarged(VOLUME[65]), rtol=1e-5)


def turned(code):
    """The volume with its axes as a code says."""
    order = ["ap si rl".find(letter) // 3 for letter in code]
    flips = tuple(slice(None, None, -1 if letter in "pil" else 1) for letter in code)
    return np.ascontiguousarray(VOLUME.transpose(order)[flips])


@pytest.mark.parametrize("code", ["asr", "psl", "ras", "sal", "lip", "ira"])
def test_an_orientation_wins_over_the_header(tmp_path, code):
    expected = enlarged(VOLUME[20])
    volume = turned(code)
    paths = [
        save_tiff(tmp_path / "a.tif", volume),
        save_tiff(tmp_path / "packed.tif", volume, compression="zlib"),
        save_nifti(tmp_path / "lies.nii", volume, codes="RAS"),
        save_nrrd(tmp_path / "a.nrrd", volume),
        brainreg_folder(tmp_path / "mouse", volume),
    ]
    for path in paths:
        found = read_section(path, PLANE, orientation=code)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("code", ["asr", "psl", "ras", "lip"])
def test_a_nifti_affine_is_believed(tmp_path, code):
    codes = code.translate(str.maketrans("apsirl", "PAISLR"))
    path = save_nifti(tmp_path / "a.nii", turned(code), codes=codes)
    np.testing.assert_allclose(read_section(path, PLANE), enlarged(VOLUME[20]), rtol=1e-5)


def test_a_nifti_that_says_nothing_takes_an_orientation(tmp_path):
    path = save_nifti(tmp_path / "a.nii", spacing_mm=1, codes="RAS")
    found = read_section(path, PLANE, orientation="asr")
    np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5)
    with pytest.raises(ValueError, match="atlas.* along axes 'lpi'; give its orientation"):
        read_section(path, PLANE)


def test_nifti_scaling_is_applied(tmp_path):
    values = VOLUME / 7 - 100
    image = nib.Nifti1Image(values, nib.load(save_nifti(tmp_path / "a.nii")).affine)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii")
    found = read_section(tmp_path / "scaled.nii", PLANE)
    np.testing.assert_allclose(found, enlarged(values[20]), atol=0.2)


def test_a_finer_volume_is_smoothed_before_it_is_sampled(tmp_path):
    fine = np.zeros((2, 640, 912), dtype=np.float32)
    fine[:, 100, 200] = 1
    fine[:, 101, 301] = 1
    np.save(tmp_path / "fine.npy", fine[0])
    found = read_section(tmp_path / "fine.npy")
    # σ of half a source pixel: the point itself, and a neighbour of the point between samples
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    kernel /= kernel.sum()
    assert found[50, 100] == pytest.approx(kernel[2] ** 2, rel=1e-4)
    assert found[50, 150] == pytest.approx(kernel[1] ** 2, rel=1e-4)


# ---- single sections ----


@pytest.mark.parametrize("shape", [(320, 456), (320, 448), (80, 112), (5, 7)])
@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npy", np.save), ("a.npz", np.savez), ("a.tif", tifffile.imwrite)],
)
def test_a_section_is_returned_as_it_is(tmp_path, name, write, shape):
    section = np.random.default_rng(1).integers(0, 60_000, shape, dtype=np.uint16)
    write(tmp_path / name, section)
    found = read_section(str(tmp_path / name))
    assert found.dtype == np.float32 and np.array_equal(found, section)


def test_a_section_of_another_voxel_size_is_brought_to_the_grid(tmp_path):
    np.save(tmp_path / "a.npy", VOLUME[20])
    np.testing.assert_allclose(read_section(tmp_path / "a.npy"), enlarged(VOLUME[20]), rtol=1e-5)
    np.save(tmp_path / "turned.npy", VOLUME[20, ::-1, ::-1].T)
    found = read_section(tmp_path / "turned.npy", orientation="lai")
    np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5)


# ---- the real brain ----


def test_a_real_brainreg_folder_gives_the_plane_made_from_it(real_data, tmp_path):
    folder = brainreg_folder(tmp_path / "swcA", VOLUME[:1], atlas="allen_mouse_50um")
    (folder / "downsampled_standard.tiff").unlink()
    brain = real_data / "individuals" / "swcA_stpt_ccf50.tif"
    (folder / "downsampled_standard.tiff").symlink_to(brain)
    with np.load(real_data / "individuals" / "individuals_ccf25_ap286.npz") as kept:
        expected = kept["swcA"]
    found = read_section(folder, 286)
    assert np.abs(found - expected).max() <= 0.5
    assert np.array_equal(np.round(found), expected)
    with pytest.raises(
        ValueError, match=r"over 13\.20 × 8\.00 × 11\.40 mm.*register it to the atlas"
    ):
        read_section(real_data / "individuals" / "swcA_stpt_sample50.tif")


def test_a_real_section_is_returned_as_it_is(real_data):
    path = real_data / "individuals" / "swcC_section_ccf25_ap293.tif"
    found = read_section(path, 293)
    assert found.shape == (320, 456) and found.min() < 0
    assert np.array_equal(found, tifffile.imread(path))


# ---- refusals ----


def assert_refused(path, words, **options):
    with pytest.raises(ValueError, match=words) as refusal:
        read_section(path, **options)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


@pytest.mark.parametrize("code", ["", "as", "asa", "asx", "asrr", "ASR", "rps ", None, "headers"])
def test_no_orientation_is_refused(tmp_path, code):
    with pytest.raises(ValueError, match="is none; give 'header' or three letters"):
        read_section(save_tiff(tmp_path / "a.tif"), orientation=code)
    with pytest.raises(ValueError, match="is none; give 'header' or three letters"):
        read_sections(tmp_path, orientation=code)


@pytest.mark.parametrize("plane", [-1, 528])
def test_a_plane_outside_is_refused(tmp_path, plane):
    for path in (save_tiff(tmp_path / "a.tif"), save_nifti(tmp_path / "a.nii")):
        assert_refused(path, f"plane {plane} is outside the atlas; 0 to 527 exist", plane=plane)


@pytest.mark.parametrize("shape", [(60, 40, 57), (66, 57, 40), (3, 5, 7), (40, 66, 57)])
def test_a_volume_that_is_not_in_atlas_space_is_refused(tmp_path, shape):
    path = save_tiff(tmp_path / "a.tif", np.zeros(shape, np.uint16))
    assert_refused(path, r"extend over .*13\.20 × 8\.00 × 11\.40 mm.*brainreg")


def test_a_voxel_more_is_still_the_atlas(tmp_path):
    more = np.pad(VOLUME, ((0, 1), (0, 0), (0, 1)))
    found = read_section(save_tiff(tmp_path / "a.tif", more), PLANE)
    np.testing.assert_allclose(found[:, :448], enlarged(VOLUME[20])[:, :448], rtol=1e-5)


def test_a_voxel_size_that_contradicts_the_shape_is_refused(tmp_path):
    folder = brainreg_folder(tmp_path / "mouse", atlas="allen_mouse_100um")
    assert_refused(folder, r"extend over 6\.60 × 4\.00 × 5\.70 mm")
    assert_refused(save_nifti(tmp_path / "a.nii", spacing_mm=0.1), r"6\.60 × 4\.00 × 5\.70")
    assert_refused(save_nrrd(tmp_path / "a.nrrd", spacing=190.0), r"12\.54 × 7\.60 × 10\.83")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_hole_is_refused(tmp_path, value):
    volume = VOLUME.astype(np.float32)
    volume[20, 3, 4] = value
    assert_refused(save_tiff(tmp_path / "a.tif", volume), "NaN or infinite", plane=PLANE)
    assert_refused(save_nifti(tmp_path / "a.nii", volume), "NaN or infinite", plane=PLANE)
    np.save(tmp_path / "a.npy", volume[20])
    assert_refused(tmp_path / "a.npy", "NaN or infinite")
    read_section(tmp_path / "a.tif", PLANE + 80)


def test_what_is_no_section_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no section at .*none.npy"):
        read_section(tmp_path / "none.npy")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert_refused(tmp_path / "a.png", "format that is not read; .npy, .npz and .tif are")
    np.savez(tmp_path / "two.npz", left=VOLUME[0], right=VOLUME[0])
    assert_refused(tmp_path / "two.npz", "arrays left, right; a file with one is read")
    np.save(tmp_path / "volume.npy", VOLUME)
    assert_refused(tmp_path / "volume.npy", r"of shape \(66, 40, 57\); one \(height, width\)")
    np.save(tmp_path / "complex.npy", VOLUME[0] * 1j)
    assert_refused(tmp_path / "complex.npy", "holds complex128")
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    assert_refused(tmp_path / "objects.npy", "no readable section: .*allow_pickle")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((40, 57, 3), np.uint8), photometric="rgb")
    assert_refused(tmp_path / "rgb.tif", "colours")
    save_tiff(tmp_path / "channels.tif", np.zeros((2, 6, 4, 5), np.uint8))
    assert_refused(tmp_path / "channels.tif", r"shape \(2, 6, 4, 5\)")


@pytest.mark.parametrize("source", ["tif", "packed tif", "ImageJ tif", "nii", "nii.gz", "nrrd"])
@pytest.mark.parametrize("damage", ["half", "empty", "html"])
def test_a_damaged_volume_is_refused(tmp_path, source, damage):
    path = SOURCES[source](tmp_path)
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "html": b"<html>"}[damage])
    assert_refused(path, "no readable section: .", plane=500)


def test_a_folder_that_brainreg_did_not_finish_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "no brainreg.json; a brainreg output folder")
    folder = brainreg_folder(tmp_path / "mouse", name="downsampled")
    assert_refused(folder, "no downsampled_standard.tiff")
    for channel in "ab":
        brainreg_folder(folder, name=f"downsampled_standard_{channel}")
    assert_refused(folder, "downsampled_standard_a.tiff, downsampled_standard_b.tiff")
    for text in ("[1]", "{", ""):
        (folder / "brainreg.json").write_text(text)
        assert_refused(folder, "not what brainreg writes")


# ---- a folder of brains ----


@pytest.fixture
def lab(tmp_path):
    """Three brains of three kinds, and files that are none."""
    brainreg_folder(tmp_path / "mouse.1")
    save_nifti(tmp_path / "007.nii.gz")
    np.save(tmp_path / "c.npy", VOLUME[20])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "figures").mkdir()
    return tmp_path


def test_every_brain_of_a_folder_is_read(lab):
    sections, metadata, refused = read_sections(lab, PLANE)
    assert sections.shape == (3, 320, 456) and sections.dtype == np.float32
    assert list(metadata.index) == ["007", "c", "mouse.1"] and metadata.empty
    others = {"figures": "a folder without brainreg.json", "notes.txt": "of no format that is read"}
    assert refused == others
    for section in sections:
        np.testing.assert_allclose(section, enlarged(VOLUME[20]), rtol=1e-5)


def test_metadata_is_matched_by_id(lab):
    rows = "mouse,sex,weight\nc,F,21.5\nmouse.1,M,25\n007,M,24\n"
    (lab / "metadata.csv").write_text(rows)
    sections, metadata, _ = read_sections(lab, PLANE)
    assert metadata.index.tolist() == sorted(metadata.index) and len(sections) == 3
    assert metadata.loc["007"].to_dict() == {"sex": "M", "weight": 24.0}
    assert metadata.loc["c", "weight"] == 21.5
    assert pd.api.types.is_float_dtype(metadata["weight"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("id,sex\nc,F\n007,M\n", "no row for brains mouse.1"),
        (
            "id,sex\nc,F\n007,M\nmouse-1,M\n",
            "brains mouse.1: .*no brain here are mouse-1",
        ),
        ("id;sex\nc;F\n007;M\nmouse.1;M\n", "commas between columns"),
        ("id,gain,a_z\nc,1,2\n007,1,2\nmouse.1,1,2\n", "a_z, gain, which quality control writes"),
        ("id,sex\nc,F\n007,M\nmouse.1,M\nc,M\n", "ids twice: c"),
        ("", "no table of brains"),
    ],
)
def test_metadata_of_other_brains_is_refused(lab, rows, words):
    (lab / "metadata.csv").write_text(rows)
    with pytest.raises(ValueError, match=words):
        read_sections(lab, PLANE)


def test_one_bad_brain_does_not_stop_the_others(lab):
    (lab / "bad.tif").write_bytes(b"<html>")
    (lab / "metadata.csv").write_text("id,sex\nc,F\nmouse.1,M\n007,M\nbad,F\n")
    sections, metadata, refused = read_sections(lab, PLANE)
    assert len(sections) == 3 and "bad" not in metadata.index
    assert len(refused) == 3 and refused["bad"].startswith("no readable section: ")


def test_rows_of_other_brains_are_passed_over_and_black_sections_refused(lab):
    np.save(lab / "black.npy", np.zeros((320, 456)))
    (lab / "metadata.csv").write_text("id,sex\nblack,F\nc,F\n8,F\nmouse.1,M\n007,M\n9,M\n")
    _, metadata, refused = read_sections(lab, PLANE)
    assert metadata.index.tolist() == ["007", "c", "mouse.1"]
    assert refused["black"] == "it has the one grey value 0 everywhere"


def test_folders_that_give_no_cohort_are_refused(lab, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match="no brain in .*; a brainreg output folder, a volume in"):
        read_sections(empty)
    with pytest.raises(FileNotFoundError, match="no folder of brains"):
        read_sections(empty / "none")
    with pytest.raises(ValueError, match="is one brain; give the folder that holds it"):
        read_sections(lab / "mouse.1")
    (empty / "bad.tif").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="none of the 1 brains in .*no readable section"):
        read_sections(empty)
    np.save(lab / "cropped.npy", np.arange(320.0 * 448).reshape(320, 448))
    with pytest.raises(ValueError, match="differ in shape .*c is 320 × 456|cropped is 320 × 448"):
        read_sections(lab, PLANE)
    (lab / "cropped.npy").unlink()
    shutil.copy(lab / "c.npy", lab / "007.npy")
    with pytest.raises(ValueError, match="007.nii.gz and 007.npy|007.npy and 007.nii.gz"):
        read_sections(lab, PLANE)


@pytest.mark.parametrize("sizes", [(400, 200, 200), (200, 400, 200), (200, 200, 400)])
def test_voxels_that_are_no_cubes(tmp_path, sizes):
    """A volume linear along every axis is the same section at any voxel size."""
    shape = [round(e / s) for e, s in zip((13200, 8000, 11400), sizes, strict=True)]
    ap, dv, ml = np.indices(shape, dtype=np.float32) * np.float32(sizes)[:, None, None, None]
    volume = ap + 2 * dv + 3 * ml
    affine = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    affine[:3, :3] *= np.float32(sizes) / 1000
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "a.nii")
    directions = np.diag(np.float64(sizes))
    nrrd.write(str(tmp_path / "a.nrrd"), volume, {"space": "LPS", "space directions": directions})
    rows, columns = np.indices((320, 456)) * 25.0
    expected = PLANE * 25 + 2 * rows + 3 * columns
    inside = (rows <= (shape[1] - 1) * sizes[1]) & (columns <= (shape[2] - 1) * sizes[2])
    for name in ("a.nii", "a.nrrd"):
        found = read_section(tmp_path / name, PLANE)
        np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-5)

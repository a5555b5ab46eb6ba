"""A lab's own brains: every file a section can come from, one grid, and clear refusals."""

import json
import re
import shutil

import nibabel as nib
import nrrd
import numpy as np
import pytest
import tifffile
from refusals import refused
from test_volumes import affine_of, turned

from brainvae_core.cohorts import read_section, read_sections

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


def save_nifti(path, volume=VOLUME, axes="asr"):
    nib.save(nib.Nifti1Image(volume, affine_of(axes, 0.2)), path)
    return path


def save_nrrd(path, volume=VOLUME, spacing=200.0):
    directions = np.eye(3) * spacing  # which does not say where the axes of "asr" come from
    nrrd.write(str(path), volume, {"space": "LPS", "space directions": directions})
    return path


def save_tiff(path, volume=VOLUME, **options):
    tifffile.imwrite(path, volume, photometric="minisblack", **options)
    return path


def save_array(path):
    (np.savez if path.suffix == ".npz" else np.save)(path, VOLUME[20])
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


@pytest.mark.promise("every format and orientation of a volume gives the same section")
@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_volume_gives_the_same_section(tmp_path, source):
    found = read_section(SOURCES[source](tmp_path), PLANE)
    assert found.shape == (320, 456) and found.dtype == np.float32
    np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5, atol=0.01)
    assert np.array_equal(found[::8, ::8], VOLUME[20])


def test_a_plane_between_two_is_between_them(tmp_path):
    path = save_tiff(tmp_path / "a.tif")
    expected = enlarged(VOLUME[20] * (5 / 8) + VOLUME[21] * (3 / 8))
    np.testing.assert_allclose(read_section(path, PLANE + 3), expected, rtol=1e-5, atol=0.01)
    np.testing.assert_allclose(read_section(path, 527), enlarged(VOLUME[65]), rtol=1e-5)


@pytest.mark.parametrize("code", ["asr", "psl", "lip", "ira"])
def test_an_orientation_wins_over_the_header(tmp_path, code):
    volume = np.ascontiguousarray(turned(code, VOLUME)[0])
    for path in (
        save_tiff(tmp_path / "a.tif", volume),
        save_nifti(tmp_path / "lies.nii", volume, "lpi"),
        save_nrrd(tmp_path / "a.nrrd", volume),
        brainreg_folder(tmp_path / "mouse", volume),
    ):
        found = read_section(path, PLANE, orientation=code)
        np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5, atol=0.01)
    found = read_section(save_nifti(tmp_path / "true.nii", volume, code), PLANE)
    np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5)


def test_nifti_scaling_is_applied_and_a_voxel_more_is_still_the_atlas(tmp_path):
    values = VOLUME / 7 - 100
    image = nib.Nifti1Image(values, nib.load(save_nifti(tmp_path / "a.nii")).affine)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii")
    found = read_section(tmp_path / "scaled.nii", PLANE)
    np.testing.assert_allclose(found, enlarged(values[20]), atol=0.2)
    more = np.pad(VOLUME, ((0, 1), (0, 0), (0, 1)))
    found = read_section(save_tiff(tmp_path / "a.tif", more), PLANE)
    np.testing.assert_allclose(found[:, :448], enlarged(VOLUME[20])[:, :448], rtol=1e-5)


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


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npy", np.save), ("a.npz", np.savez), ("a.tif", tifffile.imwrite)],
)
def test_a_single_section_is_returned_as_it_is_or_brought_to_the_grid(tmp_path, name, write):
    for shape in ((320, 456), (320, 448), (5, 7)):
        section = np.random.default_rng(1).integers(0, 60_000, shape, dtype=np.uint16)
        write(tmp_path / name, section)
        found = read_section(str(tmp_path / name))
        assert found.dtype == np.float32 and np.array_equal(found, section)
    write(tmp_path / name, VOLUME[20])
    expected = enlarged(VOLUME[20])
    np.testing.assert_allclose(read_section(tmp_path / name), expected, rtol=1e-5)
    write(tmp_path / name, np.ascontiguousarray(VOLUME[20, ::-1, ::-1].T))
    found = read_section(tmp_path / name, orientation="lai")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("tag", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[..., ::-1]),
        (3, lambda a: a[..., ::-1, ::-1]),
        (4, lambda a: a[..., ::-1, :]),
        (5, lambda a: a.swapaxes(-1, -2)),
        (6, lambda a: a.swapaxes(-1, -2)[..., ::-1, :]),
        (7, lambda a: a.swapaxes(-1, -2)[..., ::-1, ::-1]),
        (8, lambda a: a.swapaxes(-1, -2)[..., ::-1]),
    ],
)
def test_a_tiffs_tag_orientation_is_applied(tmp_path, tag, stored):
    """By TIFF 6.0: 1 rows from the top, columns from the left; 6 rows from the right, and so on."""
    for array in (VOLUME, VOLUME[20]):
        path = tmp_path / "a.tif"
        save_tiff(path, np.ascontiguousarray(stored(array)), extratags=[(274, 3, 1, tag, True)])
        found = read_section(path, PLANE)
        np.testing.assert_allclose(found, enlarged(VOLUME[20]), rtol=1e-5, atol=0.01)


# ---- what is real ----


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


# ---- refusals ----


@pytest.mark.promise("nothing is unpickled: a file that is read cannot run code")
def test_what_cannot_be_read_is_refused_in_a_line(tmp_path):
    cases, voxels = [], VOLUME.astype(np.float32)

    def case(words, path, *options):
        cases.append((f"{re.escape(path.name)}.*{words}", read_section, path, *options))

    for code in ("as", "asa", "asrr", "ASR", None):
        words = "is none; give 'header' or one each of a or p"
        cases.append((words, read_section, save_tiff(tmp_path / "a.tif"), 286, code))
        cases.append((words, read_sections, tmp_path, 286, code))
    for plane in (-1, 528):
        words = f"plane {plane} is outside the atlas; 0 to 527 exist"
        case(words, save_tiff(tmp_path / "a.tif"), plane)
    for i, shape in enumerate([(60, 40, 57), (66, 57, 40), (3, 5, 7)]):
        path = save_tiff(tmp_path / f"{i}.tif", np.zeros(shape, np.uint16))
        case(r"extend over .*13\.20 × 8\.00 × 11\.40 mm.*brainreg", path)
    folder = brainreg_folder(tmp_path / "100", atlas="allen_mouse_100um")
    case(r"extend over 6\.60 × 4\.00 × 5\.70 mm", folder)
    case(r"12\.54 × 7\.60 × 10\.83", save_nrrd(tmp_path / "190.nrrd", spacing=190.0))
    voxels[20, 3, 4] = np.nan
    path = save_tiff(tmp_path / "hole.tif", voxels)
    case("NaN or infinite", path, PLANE)
    read_section(path, PLANE + 80)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    case("of a format that is not read; a brainreg folder", tmp_path / "a.png")
    np.savez(tmp_path / "two.npz", left=VOLUME[0], right=VOLUME[0])
    case("2 arrays; a file with one is read", tmp_path / "two.npz")
    for name, array, words in (
        ("volume.npy", VOLUME, r"of shape \(66, 40, 57\); one \(height, width\)"),
        ("none.npy", np.empty((0, 5)), r"holds an array of shape \(0, 5\)"),
        ("complex.npy", VOLUME[0] * 1j, "holds complex128"),
        ("objects.npy", np.array([[None]]), "no readable section: .*allow_pickle"),
    ):
        np.save(tmp_path / name, array, allow_pickle=True)
        case(words, tmp_path / name)
    path = save_tiff(tmp_path / "channels.tif", np.zeros((2, 6, 4, 5), np.uint8))
    case(r"shape \(2, 6, 4, 5\)", path)
    (tmp_path / "gone.nii.gz").symlink_to("no/such/file")
    case(r"a link to nothing \(no/such/file\); fetch", tmp_path / "gone.nii.gz")
    for name, text, words in (
        ("lfs.tif", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("annex.nii.gz", "/annex/objects/MD5E-s1--0.nii.gz\n", "git annex get"),
    ):
        (tmp_path / name).write_text(text)
        case(f"a pointer to content that was not fetched; run {words}", tmp_path / name)
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.tiff", "a.npy", "a.npz"):
        for i, (content, words) in enumerate(
            (
                (b'{"error": 404}', "it is no .* file: it begins with b'"),
                (b" <!DOCTYPE html>", "it is a web page; fetch it again"),
                (b"", "it is empty"),
            )
        ):
            path = tmp_path / f"{i} {name}"
            path.write_bytes(content)
            case(f"is no readable section: .*{words}", path)
    several = [brainreg_folder(tmp_path / "group" / name) for name in "ab"][0].parent
    case(r"holds several brains \(a, b\); give one", several)
    (brainreg_folder(tmp_path / "nojson") / "brainreg.json").unlink()
    case("no brainreg.json; give its downsampled_standard.tiff itself", tmp_path / "nojson")
    case("no downsampled_standard.tiff", brainreg_folder(tmp_path / "half", name="downsampled"))
    for channel in "ab":
        folder = brainreg_folder(tmp_path / "both", name=f"downsampled_standard_{channel}")
    case("downsampled_standard_a.tiff, downsampled_standard_b.tiff", folder)
    folder = brainreg_folder(tmp_path / "json")
    (folder / "brainreg.json").write_text("[1]")
    case("not what brainreg writes", folder)
    refused(cases)
    with pytest.raises(FileNotFoundError, match="no section at .*none.tif"):
        read_section(tmp_path / "none.tif")


# ---- a folder of brains ----


@pytest.fixture
def lab(tmp_path):
    """Four brains of three kinds, and files that are none."""
    brainreg_folder(tmp_path / "mouse.1")
    save_nifti(tmp_path / "007.nii.gz")
    np.save(tmp_path / "c.npy", VOLUME[20])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "figures").mkdir()
    (tmp_path / "gone.tif").symlink_to("nothing.tif")
    brainreg_folder(tmp_path / "mapped" / "registration")  # as brainmapper leaves it
    return tmp_path


def test_every_brain_of_a_folder_is_read_with_its_row_and_a_bad_one_stops_no_other(lab):
    (lab / "bad.tif").write_bytes(b"<html>")
    np.save(lab / "black.npy", np.zeros((320, 456)))
    rows = ["c,F,21.5", "mouse.1,M,25", "007,M,24", "bad,F,1", "black,F,1", "mapped,M,9", "9,M,1"]
    (lab / "metadata.csv").write_text("\n".join(["mouse,sex,weight", *rows, ""]))
    sections, metadata, others = read_sections(lab, PLANE)
    assert sections.shape == (4, 320, 456) and sections.dtype == np.float32
    for section in sections:
        np.testing.assert_allclose(section, enlarged(VOLUME[20]), rtol=1e-5)
    assert list(metadata.index) == ["007", "c", "mapped", "mouse.1"]
    assert metadata.loc["007"].to_dict() == {"sex": "M", "weight": 24.0}
    assert others.pop("bad").startswith("no readable section: ")
    assert others == {
        "black": "it has the one grey value 0 everywhere",
        "gone.tif": "a link to nothing (nothing.tif); fetch what it names, or mend the link",
        "figures": "a folder without brainreg.json",
        "notes.txt": "of no format that is read",
    }


def test_folders_that_give_no_cohort_are_refused(lab, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    shutil.rmtree(lab / "mapped")
    with pytest.raises(FileNotFoundError, match="no folder of brains"):
        read_sections(empty / "none")
    refused(
        [
            ("no brain in .*; a brainreg folder, a volume", read_sections, empty),
            ("is one brain; give the folder that holds it", read_sections, lab / "mouse.1"),
        ]
    )
    (empty / "bad.tif").write_bytes(b"<html>")
    refused([("none of the 1 brains in .*no readable section", read_sections, empty)])
    np.save(lab / "cropped.npy", np.arange(320.0 * 448).reshape(320, 448))
    *_, others = read_sections(lab, PLANE)
    assert re.fullmatch("its section is 320 × 448, those of . others 320 × 456", others["cropped"])
    (empty / "bad.tif").unlink()
    for name in ("c", "cropped"):
        shutil.copy(lab / f"{name}.npy", empty)
    words = "differ in shape .1 of 320 × 456, 1 of 320 × 448.; give one shape"
    refused([(words, read_sections, empty, PLANE)])
    shutil.copy(lab / "c.npy", lab / "007.npy")
    refused([("007.n.* and 007.n.* are both brain '007'; rename one", read_sections, lab, PLANE)])

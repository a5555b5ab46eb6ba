"""Whole volumes: three formats, any axis order, and every way a file can be wrong."""

import gzip
import io
import itertools
import struct

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import refused

from brainvae_core.cohorts.fetch import read_metaimage
from brainvae_core.cohorts.orientation import AXES, VolumeError, coronal_plane
from brainvae_core.cohorts.volumes import Volume, in_atlas_space, read_volume

SHAPE, SPACING = (33, 20, 57), (400, 400, 200)  # of the whole atlas, anterior-superior-right
VOLUME = np.random.default_rng(0).integers(0, 60_000, SHAPE, dtype=np.uint16)
ORIENTATIONS = [
    "".join(AXES[axis][side] for axis, side in zip(order, sides, strict=True))
    for order in itertools.permutations(range(3))
    for sides in itertools.product((0, 1), repeat=3)
]


def turned(axes, volume=VOLUME):
    """A volume stored with other axes, and its spacing."""
    order = [next(i for i, pair in enumerate(AXES) if letter in pair) for letter in axes]
    flips = tuple(slice(None, None, -1 if letter in "pil" else 1) for letter in axes)
    return volume.transpose(order)[flips], [SPACING[i] for i in order]


def vectors(axes, towards="LPS"):
    """Unit steps of axes that come from where a code says, along directions of a space."""
    ends = axes.translate(str.maketrans("apsirl", "PAISLR"))
    steps = np.zeros((3, 3))
    for step, end in zip(steps, ends, strict=True):
        kind = next(pair for pair in ("RL", "AP", "IS") if end in pair)
        at = next(i for i, letter in enumerate(towards) if letter in kind)
        step[at] = 1 if towards[at] == end else -1
    return steps


def metaimage(axes="asr", order="<", **changed):
    """Files of a MetaImage, the header first."""
    voxels, spacing = turned(axes)
    raw = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes("F")
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": order == ">",
        "TransformMatrix": " ".join(str(v) for v in vectors(axes).flat),
        "AnatomicalOrientation": axes.upper(),
        "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": "MET_USHORT",
        "ElementDataFile": "a.raw",
        **changed,
    }
    lines = [f"{name} = {value}\r\n" for name, value in fields.items() if value is not None]
    return {"a.mhd": "".join(lines).encode(), "a.raw": raw}


def nrrd_bytes(folder, axes="asr", order="<", encoding="raw", space="LPS", **fields):
    voxels, spacing = turned(axes)
    header = {
        "space": space,
        "space directions": vectors(axes, space) * np.array(spacing)[:, None],
        "encoding": encoding,
        "endian": {"<": "little", ">": "big"}[order],
        **fields,
    }
    nrrd.write(str(folder / "a.nrrd"), voxels.astype(voxels.dtype.newbyteorder(order)), header)
    return (folder / "a.nrrd").read_bytes()


def affine_of(axes, spacing):
    """A NIfTI's, of axes that come from where a code says."""
    affine = np.eye(4)
    affine[:3, :3] = vectors(axes, "RAS").T * spacing
    return affine


def nifti_bytes(axes="asr", order="<", kind=nib.Nifti1Image, unit=0.001):
    voxels, spacing = turned(axes)
    affine = affine_of(axes, np.array(spacing) * unit)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype.newbyteorder(order))
    return kind(voxels, affine, header=header).to_bytes()


def read(content, name="a.nii"):
    return read_volume(name, io.BytesIO(content))


def placed(content, name="a.nii"):
    """What is read of a file's content or, as a dict, of a MetaImage's; held against the atlas."""
    is_meta = isinstance(content, dict)
    return in_atlas_space(read_metaimage(content) if is_meta else read(content, name))


@pytest.mark.promise("every format and orientation of a volume gives the same section")
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_format_and_axis_order_gives_the_same_planes(tmp_path, axes, order):
    volumes = [
        read_metaimage(metaimage(axes, order)),
        read(nrrd_bytes(tmp_path, axes, order), "A.NRRD"),
        read(nrrd_bytes(tmp_path, axes, order, "gzip", "RAS"), "a.nrrd"),
        read(nrrd_bytes(tmp_path, axes, order, space="LAS"), "a.nrrd"),
        read(nifti_bytes(axes, order)),
        read(nifti_bytes(axes, order, nib.Nifti2Image), "A.NII"),
        read(gzip.compress(nifti_bytes(axes, order), 1), "a.nii.gz"),
    ]
    for volume in volumes:
        assert volume.voxels.dtype == np.dtype(order + "u2")
        found, sides = in_atlas_space(volume)
        assert (found, sides) == (axes, SPACING)
        for index in (0, 7, 32):
            plane = coronal_plane(volume.voxels, axes, index)
            assert np.array_equal(plane, VOLUME[index]) and plane.flags.c_contiguous


@pytest.mark.parametrize("unit", [1, 0.001])
def test_spacing_is_in_micrometres_or_millimetres(tmp_path, unit):
    directions = {"space directions": vectors("asr") * np.array(SPACING)[:, None] * unit}
    for volume in (
        read_metaimage(metaimage(ElementSpacing=" ".join(str(s * unit) for s in SPACING))),
        read(nifti_bytes(unit=unit)),
        read(nrrd_bytes(tmp_path, **directions), "a.nrrd"),
    ):
        assert volume.spacing_um == pytest.approx(SPACING, rel=1e-6)


def test_voxels_without_a_size_fill_the_atlas_and_other_extents_are_refused():
    cubes = Volume(np.empty((66, 40, 57)), None, "asr")
    assert in_atlas_space(cubes) == ("asr", (200, 200, 200))
    assert in_atlas_space(Volume(np.empty((57, 66, 40)), None), "ras")[1] == (200, 200, 200)
    words = "extend over .* mm, the atlas over .* mm along axes"
    cases = [
        ((33, 20, 57), None, "asr"),  # no cubes
        ((33, 20, 55), SPACING, "asr"),
        ((33, 20, 57), (200, 200, 100), "asr"),
        ((33, 20, 57), SPACING, "rsa"),
    ]
    refused((words, in_atlas_space, Volume(np.empty(n), *of)) for n, *of in cases)


def test_a_header_that_does_not_say_the_orientation_is_refused(tmp_path):
    content = bytearray(nifti_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    content[76:92] = struct.pack("<4f", 1, 0.4, 0.4, 0.2)
    silent = [
        read(bytes(content)),
        read(nrrd_bytes(tmp_path).replace(b"space: LPS", b"space: 3D-right-handed"), "a.nrrd"),
        read_metaimage(metaimage(TransformMatrix=None, AnatomicalOrientation=None)),
        read_metaimage(metaimage(TransformMatrix=None, AnatomicalOrientation="???")),
    ]
    for volume in silent:
        assert volume.orientation is None and volume.spacing_um == pytest.approx(SPACING, rel=1e-6)
        assert in_atlas_space(volume, "asr")[0] == "asr" and np.array_equal(volume.voxels, VOLUME)
    refused(("does not say .*; set orientation to .*'asr'", in_atlas_space, v) for v in silent)


@pytest.mark.parametrize("axes", ["asr", "lpi", "sal"])
def test_forms_and_fields_of_a_header_speak_for_each_other_or_are_refused(axes):
    own = nib.Nifti1Image.from_bytes(nifti_bytes(axes))
    other = nib.Nifti1Image.from_bytes(nifti_bytes("asl"))
    for sform, qform, is_read in [(1, 0, True), (0, 1, True), (2, 1, True), (2, 1, False)]:
        image = nib.Nifti1Image(turned(axes)[0], None, own.header)
        image.set_sform(own.affine, sform)
        image.set_qform(own.affine if is_read else other.affine, qform)
        if is_read:
            assert read(image.to_bytes()).orientation == axes
        else:
            words = f"its header says '{axes}' by its sform, 'asl' by its qform; set orientation"
            refused([(words, placed, image.to_bytes())])
            assert in_atlas_space(read(image.to_bytes()), axes) == placed(own.to_bytes())
    assert read_metaimage(metaimage(axes, TransformMatrix=None)).orientation == axes
    assert read_metaimage(metaimage(axes, AnatomicalOrientation=None)).orientation == axes
    words = f"says '{axes}' by its TransformMatrix, 'asl' by its AnatomicalOrientation"
    refused([(words, placed, metaimage(axes, AnatomicalOrientation="ASL"))])


def test_the_allen_institutes_own_headers_are_read_by_their_extents(tmp_path):
    """Their space and directions say ``"rai"`` of arrays that run ``"asr"``."""
    for space, signs in (("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1))):
        directions = np.diag(np.multiply(SPACING, signs))
        content = nrrd_bytes(tmp_path, space=space, **{"space directions": directions})
        assert in_atlas_space(read(content, "a.nrrd")) == ("asr", SPACING)
    found = read_metaimage(
        metaimage(TransformMatrix="1 0 0 0 1 0 0 0 1", AnatomicalOrientation="RAI")
    )
    assert in_atlas_space(found) == ("asr", SPACING)
    # The same header where the extents agree with it is taken at its word.
    assert placed(nrrd_bytes(tmp_path, "rai"), "a.nrrd") == ("rai", SPACING)
    upside_down = nrrd_bytes(tmp_path, **{"space directions": np.diag(SPACING) * [1, -1, 1]})
    refused(
        [("extend over .* along axes 'rpi'; give its orientation", placed, upside_down, "a.nrrd")]
    )


def test_nifti_extensions_scaling_and_a_fourth_axis_of_one():
    affine = nib.Nifti1Image.from_bytes(nifti_bytes()).affine
    image = nib.Nifti1Image(VOLUME[..., None], affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    content = bytearray(image.to_bytes())
    content[112:120] = struct.pack("<2f", 0.5, 3)
    volume = read(bytes(content))
    assert volume.scaling == (0.5, 3.0) and np.array_equal(volume.voxels, VOLUME)


# ---- what is refused ----

META = [
    ("NDims", 2, "NDims = 2; 3 is read"),
    ("ElementType", "MET_FLOAT", "ElementType = MET_FLOAT"),
    ("DimSize", "528 320", "sizes 528 × 320"),
    ("DimSize", "528 320 4.5", "4.5"),
    ("DimSize", "528 0 456", "sizes 528 × 0 × 456"),
    ("DimSize", "99999999 320 456", "sizes 99999999"),
    ("ElementSpacing", "25 25 nan", "voxel spacing"),
    ("TransformMatrix", "1 0 0 0 1 0", "reshape"),
    ("TransformMatrix", "1 0 0 0 0.8 0.6 0 -0.6 0.8", "oblique"),
    ("ElementByteOrderMSB", True, "in one byte order"),
    ("CompressedData", True, "incorrect header check"),
    *(("ElementDataFile", v, "names the data file") for v in ("LIST", "../../a.raw", None)),
]
NRRD = [
    (b"encoding: raw", b"encoding: hex", "hex"),
    (b"dimension: 3", b"dimension: 3\ndata file: x.raw", "detached data file"),
    (b"endian: little", b"content: x", "endian"),
    (b"sizes: 33 20 57", b"sizes: 33 20", "sizes 33 × 20; three"),
    (b"sizes: 33 20 57", b"sizes: 33 20 57 1", "sizes 33 × 20 × 57 × 1; three|dimension"),
    (b"sizes: 33 20 57", b"sizes: 99999999999999999999 2 3", "sizes|int"),
    (b"(0,400,0)", b"none", "not three vectors"),
    (b"(0,400,0)", b"(200,300,0)", "oblique"),
    (b"NRRD", b"NERD", "NRRD"),
]
NIFTI = [
    (40, struct.pack("<5h", 4, 33, 20, 57, 2), "sizes 33 × 20 × 57 × 2"),
    (40, struct.pack("<4h", 3, 32767, 32767, 32767), "sizes 32767"),
]


def test_headers_of_another_kind_are_refused(tmp_path):
    cases = [(words, placed, metaimage(**{field: value})) for field, value, words in META]
    content = nrrd_bytes(tmp_path).replace(b"(0.0,400.0,0.0)", b"(0,400,0)")
    for old, new, words in NRRD:
        assert content.count(old) >= 1
        cases.append((words, placed, content.replace(old, new, 1), "a.nrrd"))
    content = nifti_bytes()
    for at, new, words in NIFTI:
        cases.append((words, placed, content[:at] + new + content[at + len(new) :]))
    refused(cases)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return {
        "a.mhd": metaimage()["a.mhd"],
        "a.nii": nifti_bytes(),
        "a.nrrd": nrrd_bytes(tmp_path_factory.mktemp("damaged")),
    }


@pytest.mark.promise("what is damaged is refused with its name")
@given(
    at=st.integers(0, 351),
    new=st.binary(min_size=1, max_size=8),
    name=st.sampled_from(["a.mhd", "a.nii", "a.nrrd"]),
)
@example(at=324, new=b"\0\0\x81\x7f", name="a.nii")  # a signalling NaN in the affine
@example(at=108, new=bytes(4), name="a.nii")  # voxels from byte 0
def test_a_damaged_header_is_refused_or_read_but_never_breaks(files, at, new, name):
    content = files[name][:at] + new + files[name][at + len(new) :]
    try:
        placed(metaimage() | {name: content} if name == "a.mhd" else content, name)
    except VolumeError as refusal:
        assert "\n" not in str(refusal)

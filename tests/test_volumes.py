"""Whole volumes: three formats, any axis order, and every way a file can be wrong."""

import gzip
import io
import itertools
import struct
import zlib

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brainvae_core.cohorts.allen import registered_plane
from brainvae_core.cohorts.volumes import (
    AXES,
    Volume,
    VolumeError,
    coronal_plane,
    in_atlas_space,
    read_volume,
    upright,
)

SHAPE, SPACING = (33, 20, 57), (400, 400, 200)  # of the whole atlas, anterior-superior-right
VOLUME = np.random.default_rng(0).integers(0, 60_000, SHAPE, dtype=np.uint16)
ORIENTATIONS = [
    "".join(AXES[axis][side] for axis, side in zip(order, sides, strict=True))
    for order in itertools.permutations(range(3))
    for sides in itertools.product((0, 1), repeat=3)
]


def turned(axes):
    """The volume stored with other axes, its spacing, and which axes run backwards."""
    order = [next(i for i, pair in enumerate(AXES) if letter in pair) for letter in axes]
    backwards = [letter in "pil" for letter in axes]
    flips = tuple(slice(None, None, -1 if b else 1) for b in backwards)
    return VOLUME.transpose(order)[flips], [SPACING[i] for i in order], backwards


def metaimage(axes="asr", order="<", pack=None, **changed):
    """Header and files of a MetaImage."""
    voxels, spacing, backwards = turned(axes)
    raw = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes("F")
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": order == ">",
        "CompressedData": bool(pack),
        "TransformMatrix": " ".join(str(v) for v in np.diag(1 - 2 * np.array(backwards)).flat),
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": "MET_USHORT",
        "ElementDataFile": "a.raw",
        **changed,
    }
    lines = [f"{name} = {value}\r\n" for name, value in fields.items() if value is not None]
    return "".join(lines).encode(), {"a.raw": pack(raw) if pack else raw}


def nrrd_bytes(folder, axes="asr", order="<", encoding="raw", **fields):
    voxels, spacing, backwards = turned(axes)
    signs = [-1 if b else 1 for b in backwards]
    header = {
        "space": "left-posterior-superior",  # as the Allen Institute's files say
        "space directions": np.diag(np.multiply(spacing, signs)),
        "encoding": encoding,
        "endian": {"<": "little", ">": "big"}[order],
        **fields,
    }
    nrrd.write(str(folder / "a.nrrd"), voxels.astype(voxels.dtype.newbyteorder(order)), header)
    return (folder / "a.nrrd").read_bytes()


def nifti_bytes(axes="asr", order="<", kind=nib.Nifti1Image, unit=0.001):
    voxels, spacing, _ = turned(axes)
    going_to = axes.translate(str.maketrans("apsirl", "PAISLR"))
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for i, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(going_to)):
        affine[int(axis), i] = sign * spacing[i] * unit
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype.newbyteorder(order))
    return kind(voxels, affine, header=header).to_bytes()


def read(content, name="a.nii", beside=None):
    return read_volume(name, io.BytesIO(content), beside)


def assert_refused(words, content, name="a.nii", beside=None):
    with pytest.raises(VolumeError, match=words) as refusal:
        in_atlas_space(read(content, name, beside))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_format_and_axis_order_gives_the_same_planes(tmp_path, axes, order):
    text, files = metaimage(axes, order)
    packed = metaimage(axes, order, zlib.compress)
    volumes = [
        read(text, "a.mhd", files),
        read(packed[0], "A.MHD", packed[1]),
        read(nrrd_bytes(tmp_path, axes, order), "a.nrrd"),
        read(nrrd_bytes(tmp_path, axes, order, "gzip"), "a.nrrd"),
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


TYPES = {
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


@pytest.mark.parametrize(("kind", "code"), TYPES.items())
def test_metaimage_types(kind, code):
    text, _ = metaimage(ElementType=kind, BinaryDataByteOrderMSB=None, ElementByteOrderMSB=True)
    values = VOLUME.astype(">" + code)
    found = read(text, "a.mhd", {"a.raw": values.tobytes("F")}).voxels
    assert np.array_equal(found, values) and found.dtype == values.dtype


@pytest.mark.parametrize("unit", [1, 0.001])
def test_spacing_is_in_micrometres_or_millimetres(tmp_path, unit):
    text, files = metaimage(ElementSpacing=" ".join(str(s * unit) for s in SPACING))
    directions = {"space directions": np.diag(SPACING) * unit}
    for volume in (
        read(text, "a.mhd", files),
        read(nifti_bytes(unit=unit)),
        read(nrrd_bytes(tmp_path, **directions), "a.nrrd"),
    ):
        assert volume.spacing_um == pytest.approx(SPACING, rel=1e-6)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3), axes=st.sampled_from(ORIENTATIONS), data=st.data()
)
def test_any_plane_of_any_shape(shape, axes, data):
    voxels = np.arange(np.prod(shape)).reshape(shape)
    axis = next(i for i, letter in enumerate(axes) if letter in "ap")
    index = data.draw(st.integers(0, shape[axis] - 1))
    at = index if axes[axis] == "a" else shape[axis] - 1 - index
    expected = upright(voxels.take(at, axis), axes.replace(axes[axis], ""))
    assert np.array_equal(coronal_plane(voxels, axes, index), expected)


def test_upright_turns_a_plane():
    plane = np.arange(6).reshape(2, 3)
    assert np.array_equal(upright(plane, "sr"), plane)
    assert np.array_equal(upright(plane, "il"), plane[::-1, ::-1])
    assert np.array_equal(upright(plane, "ri"), plane.T[::-1])


def test_nifti_without_an_affine_has_no_orientation():
    content = bytearray(nifti_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    content[76:92] = struct.pack("<4f", 1, 0.4, 0.4, 0.2)
    volume = read(bytes(content))
    assert volume.orientation is None and volume.spacing_um == pytest.approx(SPACING, rel=1e-6)
    assert in_atlas_space(volume)[0] == "asr" and np.array_equal(volume.voxels, VOLUME)


def test_nifti_extensions_scaling_and_a_fourth_axis_of_one():
    affine = nib.Nifti1Image.from_bytes(nifti_bytes()).affine
    image = nib.Nifti1Image(VOLUME[..., None], affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    content = bytearray(image.to_bytes())
    content[112:120] = struct.pack("<2f", 0.5, 3)
    volume = read(bytes(content))
    assert volume.scaling == (0.5, 3.0) and np.array_equal(volume.voxels, VOLUME)


def test_voxels_without_a_size_fill_the_atlas():
    text, files = metaimage(ElementSpacing=None)
    with pytest.raises(VolumeError, match="extend over"):  # they are no cubes
        in_atlas_space(read(text, "a.mhd", files))
    cubes = Volume(np.empty((66, 40, 57)), None)
    assert in_atlas_space(cubes) == ("asr", (200, 200, 200))
    assert in_atlas_space(Volume(np.empty((57, 66, 40)), None), "ras")[1] == (200, 200, 200)


@pytest.mark.parametrize(
    ("shape", "spacing", "orientation"),
    [
        ((33, 20, 55), SPACING, None),
        ((33, 20, 57), (400, 400, 190), None),
        ((33, 20, 57), (200, 200, 100), None),
        ((57, 20, 57), SPACING, None),
        ((33, 20, 57), SPACING, "rsa"),
    ],
)
def test_other_extents_are_refused(shape, spacing, orientation):
    with pytest.raises(VolumeError, match="extend over .* mm, the atlas over .* mm along axes"):
        in_atlas_space(Volume(np.empty(shape), spacing, orientation))


# ---- files that are not the whole volume ----


@pytest.mark.parametrize("kind", ["mhd", "packed mhd", "nrrd", "nrrd gzip", "nii", "nii.gz"])
@pytest.mark.parametrize("damage", ["cut", "half", "empty", "left over", "html", "flipped"])
def test_damaged_files_are_refused(tmp_path, kind, damage):
    text, files = metaimage(pack=zlib.compress if kind == "packed mhd" else None)
    if kind.endswith("mhd"):
        content = files["a.raw"]
    elif kind.startswith("nrrd"):
        content = nrrd_bytes(tmp_path, encoding=kind.partition(" ")[2] or "raw")
    else:
        content = gzip.compress(nifti_bytes()) if kind == "nii.gz" else nifti_bytes()
    if damage == "flipped" and kind in ("mhd", "nrrd", "nii"):
        return  # nothing in the file tells
    content = {
        "cut": content[:-9],
        "half": content[: len(content) // 2],
        "empty": b"",
        "left over": content + b"xy",
        "html": b"<html>" * 200,
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    }[damage]
    if kind == "packed mhd" and damage in ("left over", "flipped", "cut"):
        return  # the zip that it came in has a checksum
    if kind.endswith("mhd"):
        assert_refused(".", text, "a.mhd", {"a.raw": content})
    else:
        assert_refused(".", content, f"a.{kind.partition(' ')[0]}")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("NDims", 2, "NDims = 2; 3 is read"),
        ("ObjectType", "Scene", "ObjectType = Scene"),
        ("BinaryData", False, "BinaryData = False"),
        ("ElementNumberOfChannels", 3, "ElementNumberOfChannels = 3; 1"),
        ("HeaderSize", 512, "HeaderSize = 512; 0"),
        ("ElementType", "MET_USHORT_ARRAY", "ElementType = MET_USHORT_ARRAY"),
        ("ElementType", None, "ElementType = None"),
        ("DimSize", "528 320", "sizes 528 × 320"),
        ("DimSize", "528 320 4.5", "4.5"),
        ("DimSize", "528 0 456", "sizes 528 × 0 × 456"),
        ("DimSize", "-528 320 456", "sizes -528"),
        ("DimSize", "99999999 320 456", "sizes 99999999"),
        ("ElementSpacing", "25 25 0", "voxel spacing"),
        ("ElementSpacing", "25 25 nan", "voxel spacing"),
        ("ElementSpacing", "25 twenty 25", "twenty"),
        ("TransformMatrix", "1 0 0 0 1 0", "reshape"),
        ("TransformMatrix", "1 0 0 0 0.8 0.6 0 -0.6 0.8", "oblique"),
        ("TransformMatrix", "1 0 0 1 0 0 0 0 1", "oblique"),
        ("ElementByteOrderMSB", True, "in one byte order"),
        ("CompressedData", "perhaps", "."),
        *(("ElementDataFile", v, "names the data file") for v in ("LIST", "../../a.raw", "", None)),
    ],
)
def test_metaimage_headers_of_another_kind_are_refused(field, value, words):
    text, files = metaimage(**{field: value})
    assert_refused(words, text, "a.mhd", files)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"encoding: raw", b"encoding: hex", "hex"),
        (b"type: uint16", b"type: block", "."),
        (b"dimension: 3", b"dimension: 3\ndata file: x.raw", "detached data file"),
        (b"endian: little", b"content: x", "endian"),
        (b"sizes: 33 20 57", b"sizes: 33 20", "sizes 33 × 20; three"),
        (b"sizes: 33 20 57", b"content: x", "sizes ; three"),
        (b"sizes: 33 20 57", b"sizes: 99999999999999999999 2 3", "sizes|int"),
        (b"(400,0,0)", b"none", "not three vectors"),
        (b"(400,0,0)", b"(300,200,0)", "oblique"),
        (b"NRRD", b"NERD", "NRRD"),
        (b"type: uint16", b"type", "."),
    ],
)
def test_nrrd_headers_of_another_kind_are_refused(tmp_path, old, new, words):
    content = nrrd_bytes(tmp_path).replace(b"(400.0,0.0,0.0)", b"(400,0,0)")
    assert content.count(old) >= 1
    assert_refused(words, content.replace(old, new, 1), "a.nrrd")


@pytest.mark.parametrize(
    ("at", "new", "words"),
    [
        (40, struct.pack("<5h", 4, 33, 20, 57, 2), "sizes 33 × 20 × 57 × 2"),
        (40, struct.pack("<4h", 3, 32767, 32767, 32767), "sizes 32767"),
        (70, struct.pack("<h", 128), "."),
        (70, struct.pack("<h", 999), "."),
        (108, struct.pack("<f", np.inf), "."),
    ],
)
def test_nifti_headers_of_another_kind_are_refused(at, new, words):
    content = nifti_bytes()
    assert_refused(words, content[:at] + new + content[at + len(new) :])


def test_another_format_is_refused():
    assert_refused("format is not read; .nrrd, .nii", b"PK", "a.zip")


@given(at=st.integers(0, 400), new=st.binary(min_size=1, max_size=8), which=st.sampled_from("mnr"))
@example(at=324, new=b"\0\0\x81\x7f", which="n")  # a signalling NaN in the affine
@example(at=108, new=bytes(4), which="n")  # voxels from byte 0
@settings(max_examples=150)
def test_a_damaged_header_is_refused_or_read_but_never_breaks(tmp_path_factory, at, new, which):
    if not FILES:
        FILES["m"] = "a.mhd", *metaimage()
        FILES["n"] = "a.nii", nifti_bytes(), None
        FILES["r"] = "a.nrrd", nrrd_bytes(tmp_path_factory.mktemp("damaged")), None
    name, content, beside = FILES[which]
    at %= min(len(content), 352)
    content = content[:at] + new + content[at + len(new) :]
    try:
        in_atlas_space(read(content, name, beside))
    except VolumeError as refusal:
        assert "\n" not in str(refusal)


FILES = {}


# ---- what is acquired has to be the 25 µm grid ----


def test_the_real_annotation_reads_as_pynrrd_reads_it(real_data):
    path = real_data / "ccf" / "annotation_25.nrrd"
    with path.open("rb") as file:
        volume = read_volume(path.name, file)
    axes, sides = in_atlas_space(volume)
    assert (axes, sides) == ("asr", (25, 25, 25))
    found = coronal_plane(volume.voxels, axes, 286)
    assert np.array_equal(found, nrrd.read(str(path))[0][286])
    with pytest.raises(VolumeError, match="voxels are uint32 .*; whole numbers of 8 or 16 bit"):
        registered_plane({path.name: path.read_bytes()}, 286)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "volume is of 33 × 20 × 57 voxels of 400 × 400 × 200 µm; 528 × 320 × 456"),
        ({"ElementSpacing": None}, "voxels of no size µm"),
        ({"ElementDataFile": "other.raw"}, "names the data file other.raw, not there"),
    ],
)
def test_other_grids_are_not_acquired(fields, words):
    text, files = metaimage(**fields)
    with pytest.raises(VolumeError, match=words):
        registered_plane({"a.mhd": text, **files}, 286)

"""Volumes as streams: three formats, any axis order, and every way a file can be wrong."""

import gzip
import io
import itertools
import struct
import zlib
from dataclasses import replace

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brainvae_core.cohorts.volumes import (
    CCF_SHAPE_25,
    VolumeError,
    axis_order,
    read_header,
    read_metaimage_header,
    read_plane,
    upright,
)

SHAPE, SPACING = (33, 20, 57), (400, 400, 200)  # of the whole atlas, anterior-superior-right
VOLUME = np.random.default_rng(0).integers(0, 60_000, SHAPE, dtype=np.uint16)
PAIRS = ("ap", "si", "rl")
ORIENTATIONS = [
    "".join(PAIRS[axis][side] for axis, side in zip(order, sides, strict=True))
    for order in itertools.permutations(range(3))
    for sides in itertools.product((0, 1), repeat=3)
]


def turned(axes):
    """The volume stored with other axes, its spacing, and which axes run backwards."""
    order = [next(i for i, pair in enumerate(PAIRS) if letter in pair) for letter in axes]
    backwards = [letter in "pil" for letter in axes]
    flips = tuple(slice(None, None, -1 if b else 1) for b in backwards)
    return VOLUME.transpose(order)[flips], [SPACING[i] for i in order], backwards


def metaimage(axes="asr", data="a.raw", compressed=False, order="<", **changed):
    """Text and voxels of a MetaImage."""
    voxels, spacing, backwards = turned(axes)
    raw = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes("F")
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": order == ">",
        "CompressedData": compressed,
        "TransformMatrix": " ".join(str(v) for v in np.diag(1 - 2 * np.array(backwards)).flat),
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": "MET_USHORT",
        "ElementDataFile": data,
    }
    fields |= changed
    lines = [f"{name} = {value}\n" for name, value in fields.items() if value is not None]
    return "".join(lines).encode(), zlib.compress(raw) if compressed else raw


def nrrd_bytes(tmp_path, axes="asr", encoding="raw", order="<", **fields):
    voxels, spacing, backwards = turned(axes)
    signs = [-1 if b else 1 for b in backwards]
    header = {
        "space": "left-posterior-superior",  # as the Allen Institute's files say
        "space directions": np.diag(np.multiply(spacing, signs)),
        "encoding": encoding,
        "endian": {"<": "little", ">": "big"}[order],
        **fields,
    }
    voxels = np.asarray(voxels, dtype=voxels.dtype.newbyteorder(order))
    nrrd.write(str(tmp_path / "a.nrrd"), voxels, header)
    return (tmp_path / "a.nrrd").read_bytes()


def nifti_bytes(axes="asr", order="<", kind=nib.Nifti1Image, unit=0.001):
    voxels, spacing, _ = turned(axes)
    going_to = axes.translate(str.maketrans("apsirl", "PAISLR"))
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for i, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(going_to)):
        affine[int(axis), i] = sign * spacing[i] * unit
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype.newbyteorder(order))
    return kind(voxels, affine, header=header).to_bytes()


def plane_of(content, name, index):
    stream = io.BytesIO(content)
    if name.endswith(".gz"):
        stream = gzip.GzipFile(fileobj=stream)
    header = read_header(stream, name)
    return read_plane(stream, header, axis_order(header), index), header


# ---- one plane, whatever the format, byte order and axes ----


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_format_and_axis_order_gives_the_same_plane(tmp_path, axes, order):
    for compressed in (False, True):
        text, voxels = metaimage(axes, compressed=compressed, order=order)
        header = read_metaimage_header(text)
        assert header.dtype == np.dtype(order + "u2") and header.data_file == "a.raw"
        assert axis_order(header) == axes
        found = read_plane(io.BytesIO(voxels), header, axes, 7)
        assert np.array_equal(found, VOLUME[7]) and found.dtype == np.uint16
    for encoding in ("raw", "gzip"):
        found, header = plane_of(nrrd_bytes(tmp_path, axes, encoding, order), "a.nrrd", 32)
        assert np.array_equal(found, VOLUME[32]) and header.dtype == np.dtype(order + "u2")
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        content = nifti_bytes(axes, order, kind)
        found, header = plane_of(content, "A.NII", 0)
        assert np.array_equal(found, VOLUME[0]) and header.dtype == np.dtype(order + "u2")
        assert header.orientation == axes == axis_order(header)
        found, _ = plane_of(gzip.compress(content, 1), "a.nii.gz", 32)
        assert np.array_equal(found, VOLUME[32])


def test_every_plane_of_a_volume_is_its_own():
    text, voxels = metaimage("ipl")
    header = read_metaimage_header(text)
    for index in range(SHAPE[0]):
        assert np.array_equal(read_plane(io.BytesIO(voxels), header, "ipl", index), VOLUME[index])


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
    header = read_metaimage_header(text)
    assert header.dtype == np.dtype(">" + code)
    values = VOLUME.astype(header.dtype)
    found = read_plane(io.BytesIO(values.tobytes("F")), header, "asr", 3)
    assert np.array_equal(found, values[3]) and found.dtype == np.dtype(code)


def test_a_metaimage_in_one_file_is_read():
    text, voxels = metaimage(data="LOCAL", compressed=True)
    found, header = plane_of(text + voxels, "a.mha", 5)
    assert np.array_equal(found, VOLUME[5])
    assert header.data_file is None and header.data_offset == len(text)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_metaimage_lines_end_either_way_and_headers_may_say_little(line_end):
    keep = "DimSize", "ElementType", "ElementDataFile", "ElementSpacing", "NDims"
    text, voxels = metaimage()
    lines = [line for line in text.splitlines() if line.split(b" ")[0].decode() in keep]
    header = read_metaimage_header(line_end.join(lines) + line_end)
    assert np.array_equal(read_plane(io.BytesIO(voxels), header, axis_order(header), 9), VOLUME[9])


@pytest.mark.parametrize("unit", [1, 0.001])
def test_spacing_is_in_micrometres_or_millimetres(tmp_path, unit):
    spacing = " ".join(str(s * unit) for s in SPACING)
    header = read_metaimage_header(metaimage(ElementSpacing=spacing)[0])
    assert header.spacing_um == SPACING
    _, header = plane_of(nifti_bytes(unit=unit), "a.nii", 0)
    assert header.spacing_um == pytest.approx(SPACING, rel=1e-6)
    directions = np.diag(SPACING) * unit
    content = nrrd_bytes(tmp_path, **{"space directions": directions})
    assert plane_of(content, "a.nrrd", 0)[1].spacing_um == SPACING


def test_the_allen_header_is_anterior_superior_right():
    text, _ = metaimage(DimSize="528 320 456", ElementSpacing="25 25 25")
    header = read_metaimage_header(text)
    assert (header.shape, header.spacing_um) == (CCF_SHAPE_25, (25, 25, 25))
    assert axis_order(header) == "asr"


def test_the_real_annotation_reads_as_pynrrd_reads_it(real_data):
    path = real_data / "ccf" / "annotation_100.nrrd"
    with path.open("rb") as stream:
        header = read_header(stream, path.name)
        found = read_plane(stream, header, axis_order(header), 71)
    assert np.array_equal(found, nrrd.read(str(path))[0][71])


class Dribble(io.BytesIO):
    """Gives odd numbers of bytes, as a socket does."""

    def read(self, n=-1):
        return super().read(min(n, 997))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("axes", ["asr", "sar", "rsa"])
def test_short_reads_split_voxels_anywhere(axes, compressed):
    text, voxels = metaimage(axes, compressed=compressed)
    header = read_metaimage_header(text)
    assert np.array_equal(read_plane(Dribble(voxels), header, axes, 7), VOLUME[7])


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    axes=st.sampled_from(ORIENTATIONS),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_plane_of_any_shape(shape, axes, data):
    voxels = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    axis = next(i for i, letter in enumerate(axes) if letter in "ap")
    index = data.draw(st.integers(0, shape[axis] - 1))
    header = replace(
        read_metaimage_header(metaimage()[0]), shape=shape, dtype=np.dtype("<u4"), compression=None
    )
    found = read_plane(Dribble(voxels.tobytes("F")), header, axes, index)
    at = index if axes[axis] == "a" else shape[axis] - 1 - index
    expected = upright(voxels.take(at, axis), axes.replace(axes[axis], ""))
    assert np.array_equal(found, expected)


def test_upright_turns_a_plane():
    plane = np.arange(6).reshape(2, 3)
    assert np.array_equal(upright(plane, "sr"), plane)
    assert np.array_equal(upright(plane, "il"), plane[::-1, ::-1])
    assert np.array_equal(upright(plane, "ri"), plane.T[::-1])


def test_several_members_and_a_highly_compressed_stream_are_read():
    text, _ = metaimage("rsa", DimSize="57 20 33")
    header = replace(read_metaimage_header(text), compression="gzip")
    flat = np.zeros(SHAPE[::-1], dtype=np.uint16)
    flat[:, :, 4] = 9
    raw = flat.tobytes("F")
    members = gzip.compress(raw[:1001]) + gzip.compress(raw[1001:]) + bytes(700)
    assert (read_plane(Dribble(members), header, "rsa", 4) == 9).all()
    big = replace(header, shape=(2000, 1000, 3), dtype=np.dtype("<u2"))
    zeros = gzip.compress(bytes(12_000_000), 9)
    assert not read_plane(io.BytesIO(zeros), big, "rsa", 1).any()


# ---- content that is not the whole volume ----


@pytest.mark.parametrize("axes", ["asr", "sar", "rsa"])
def test_missing_and_left_over_voxels_are_refused(axes):
    text, voxels = metaimage(axes)
    header = read_metaimage_header(text)
    for cut in (1, 2, 5000, len(voxels)):
        with pytest.raises(VolumeError, match="voxels end after .* of 37620; the volume is incom"):
            read_plane(io.BytesIO(voxels[: len(voxels) - cut]), header, axes, 3)
    for more in (b"x", b"xy", bytes(3_000_000)):
        with pytest.raises(VolumeError, match="bytes are left over after the 37620 voxels"):
            read_plane(io.BytesIO(voxels + more), header, axes, 3)


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_damaged_streams_are_refused(pack):
    header = read_metaimage_header(metaimage(compressed=True)[0])
    raw = VOLUME.tobytes("F")
    packed = pack(raw)
    damaged = packed[:-3] + bytes([packed[-3] ^ 1]) + packed[-2:]
    for content, words in (
        (packed[:-5], "ends too early"),
        (packed[:1000], "ends too early"),
        (b"", "ends too early"),
        (damaged, "is damaged"),
        (packed + b"junk", "is damaged"),
        (raw, "is damaged"),
        (pack(raw[:-2]), "voxels end after 37619 of 37620"),
        (pack(raw + b"xy"), "left over"),
    ):
        with pytest.raises(VolumeError, match=words):
            read_plane(io.BytesIO(content), header, "asr", 3)


def test_errors_of_the_connection_are_passed_on():
    class Broken(io.BytesIO):
        def read(self, n=-1):
            raise ConnectionResetError("peer")

    for compressed in (False, True):
        header = read_metaimage_header(metaimage(compressed=compressed)[0])
        with pytest.raises(ConnectionResetError):
            read_plane(Broken(), header, "asr", 3)


@pytest.mark.parametrize("index", [-1, 33])
def test_a_plane_outside_is_refused(index):
    header = read_metaimage_header(metaimage()[0])
    with pytest.raises(VolumeError, match=f"plane {index} is outside the volume; 0 to 32 exist"):
        read_plane(io.BytesIO(), header, "asr", index)


# ---- volumes that are not in atlas space ----


@pytest.mark.parametrize(
    ("sizes", "spacing"),
    [("528 320 455", "25 25 25"), ("528 320 456", "25 25 24"), ("264 160 228", "25 25 25"),
     ("456 528 528", "25 25 25"), ("540 308 434", "0.025 0.025 0.025")],
)  # fmt: skip
def test_other_extents_are_refused(sizes, spacing):
    header = read_metaimage_header(metaimage(DimSize=sizes, ElementSpacing=spacing)[0])
    with pytest.raises(VolumeError, match=r"13\.20 × 8\.00 × 11\.40 mm \(AP, DV, ML\)") as refusal:
        axis_order(header)
    assert "\n" not in str(refusal.value)


def test_a_header_without_spacing_is_refused():
    header = read_metaimage_header(metaimage(ElementSpacing=None)[0])
    assert header.spacing_um is None
    with pytest.raises(VolumeError, match="no voxel spacing"):
        axis_order(header)


def test_an_orientation_that_contradicts_the_extents_is_refused():
    header = replace(read_metaimage_header(metaimage()[0]), orientation="rsa")
    with pytest.raises(VolumeError, match="'rsa' contradicts the extents.* AP, DV, ML"):
        axis_order(header)


def test_nifti_without_an_affine_has_no_orientation():
    content = bytearray(nifti_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    content[76:92] = struct.pack("<4f", 1, 0.4, 0.4, 0.2)
    found, header = plane_of(bytes(content), "a.nii", 4)
    assert header.orientation is None and header.spacing_um == pytest.approx(SPACING, rel=1e-6)
    assert np.array_equal(found, VOLUME[4])


def test_nifti_extensions_scaling_and_a_fourth_axis_of_one():
    voxels, _, _ = turned("asr")
    affine = nib.Nifti1Image.from_bytes(nifti_bytes()).affine
    image = nib.Nifti1Image(voxels[..., None], affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    content = bytearray(image.to_bytes())
    content[112:120] = struct.pack("<2f", 0.5, 3)
    found, header = plane_of(bytes(content), "a.nii", 4)
    assert header.data_offset > 3352 and header.scaling == (0.5, 3.0)
    assert np.array_equal(found, VOLUME[4])


# ---- headers that are not those of a volume ----


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("NDims", 2, "NDims = 2; 3 is read"),
        ("ObjectType", "Scene", "ObjectType = Scene"),
        ("BinaryData", False, "BinaryData = False"),
        ("ElementNumberOfChannels", 3, "ElementNumberOfChannels = 3; 1"),
        ("HeaderSize", 512, "HeaderSize = 512; 0 or -1"),
        ("ElementType", "MET_USHORT_ARRAY", "ElementType = MET_USHORT_ARRAY; MET_UCHAR, "),
        ("ElementType", None, "no ElementType"),
        ("DimSize", "528 320", "DimSize = 528 320; 3 numbers"),
        ("DimSize", "528 320 4.5", "DimSize"),
        ("DimSize", "528 0 456", "sizes 528 × 0 × 456"),
        ("DimSize", "-528 320 456", "sizes -528"),
        ("DimSize", "99999999 320 456", "sizes 99999999"),
        ("ElementSpacing", "25 25 0", "voxel spacing"),
        ("ElementSpacing", "25 25 nan", "ElementSpacing"),
        ("ElementSpacing", "25 twenty 25", "ElementSpacing"),
        ("CompressedData", "perhaps", "CompressedData = perhaps; True or False"),
        ("TransformMatrix", "1 0 0 0 1 0", "TransformMatrix"),
        ("TransformMatrix", "1 0 0 0 0.8 0.6 0 -0.6 0.8", "oblique"),
        ("TransformMatrix", "1 0 0 1 0 0 0 0 1", "oblique"),
        ("ElementByteOrderMSB", True, "ElementByteOrderMSB and BinaryDataByteOrderMSB"),
        ("ElementDataFile", "LIST", "ElementDataFile = LIST"),
        ("ElementDataFile", "../../x.raw", "one file beside the header"),
        ("ElementDataFile", "s%03d.raw 1 9 1", "one file beside the header"),
        ("ElementDataFile", "", "one file beside the header"),
    ],
)
def test_metaimage_headers_of_another_kind_are_refused(field, value, words):
    text, _ = metaimage(**{field: value})
    with pytest.raises(VolumeError, match=words) as refusal:
        read_metaimage_header(text)
    assert "\n" not in str(refusal.value)


def test_headers_without_an_end_are_refused():
    with pytest.raises(VolumeError, match="longer than 65536 bytes"):
        read_metaimage_header(b"Comment = " + b"x" * 70_000)
    for name, start in (("a.nrrd", b"NRRD0004\n# "), ("a.mha", b"Comment = ")):
        with pytest.raises(VolumeError, match="no end of the header within 65536 bytes"):
            read_header(io.BytesIO(start + b"x" * 70_000), name)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"encoding: raw", b"encoding: bzip2", "encoding 'bzip2' is not read; raw and gzip"),
        (b"type: uint16", b"type: block", "type 'block'"),
        (b"dimension: 3", b"data file: x.raw", "detached data file"),
        (b"dimension: 3", b"byte skip: -1", "skips lines or bytes"),
        (b"endian: little", b"content: x", "endian None; little or big"),
        (b"sizes: 33 20 57", b"sizes: 33 20", "sizes 33 × 20; three"),
        (b"sizes: 33 20 57", b"content: x", "no field sizes"),
        (b"sizes: 33 20 57", b"sizes: 99999999999999999999 2 3", "sizes -?[0-9]+ × 2 × 3"),
        (b"(400,0,0)", b"none", "not three vectors"),
        (b"(400,0,0)", b"(300,200,0)", "oblique"),
        (b"NRRD", b"NERD", "no NRRD header"),
        (b"type: uint16", b"type", "no NRRD header"),
    ],
)
def test_nrrd_headers_of_another_kind_are_refused(tmp_path, old, new, words):
    content = nrrd_bytes(tmp_path)
    content = content.replace(b"(400.0,0.0,0.0)", b"(400,0,0)")
    assert content.count(old) >= 1
    with pytest.raises(VolumeError, match=words) as refusal:
        read_header(io.BytesIO(content.replace(old, new, 1)), "a.nrrd")
    assert "\n" not in str(refusal.value)


def test_nifti_headers_of_another_kind_are_refused():
    content = nifti_bytes()

    def with_bytes(at, new):
        return content[:at] + new + content[at + len(new) :]

    for wrong, words in (
        (gzip.compress(content), "no NIfTI header; pass its plain bytes, gzip.GzipFile"),
        (content[:200], "no NIfTI header"),
        (b"", "no NIfTI header"),
        (b"<html>" * 200, "no NIfTI header"),
        (with_bytes(344, b"ni1\0"), "pair of files"),
        (with_bytes(40, struct.pack("<5h", 4, 33, 20, 57, 2)), "sizes 33 × 20 × 57 × 2"),
        (with_bytes(70, struct.pack("<h", 128)), "grey values"),
        (with_bytes(70, struct.pack("<h", 999)), "no NIfTI header"),
        (with_bytes(108, struct.pack("<f", np.inf)), "no NIfTI header"),
    ):
        with pytest.raises(VolumeError, match=words) as refusal:
            read_header(io.BytesIO(wrong), "a.nii")
        assert "\n" not in str(refusal.value)


def test_another_format_is_refused():
    with pytest.raises(VolumeError, match="a.zip is of a format that is not read; .mhd, .mha"):
        read_header(io.BytesIO(b"PK"), "a.zip")


@given(at=st.integers(0, 400), new=st.binary(min_size=1, max_size=8), which=st.sampled_from("mnr"))
@example(at=324, new=b"\0\0\x81\x7f", which="n")  # a signalling NaN in the affine
@example(at=108, new=bytes(4), which="n")  # voxels from byte 0
@settings(max_examples=300, deadline=None)
def test_a_damaged_header_is_refused_or_read_but_never_breaks(tmp_path_factory, at, new, which):
    if which not in HEADERS:
        HEADERS["m"] = "a.mha", metaimage(data="LOCAL")[0]
        HEADERS["n"] = "a.nii", nifti_bytes()[:352]
        HEADERS["r"] = "a.nrrd", nrrd_bytes(tmp_path_factory.mktemp("fuzz"))[:400]
    name, content = HEADERS[which]
    at %= len(content)
    stream = io.BytesIO(content[:at] + new + content[at + len(new) :])
    try:
        axis_order(read_header(stream, name))
    except VolumeError as refusal:
        assert "\n" not in str(refusal)


HEADERS = {}

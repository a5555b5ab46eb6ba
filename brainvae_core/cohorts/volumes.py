"""One coronal plane out of a volume in atlas space that is read as a stream, never held whole."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from brainvae_core.cohorts.volume_headers import (
    CCF_EXTENT_UM,
    VolumeError,
    VolumeHeader,
    match_extents,
    read_header,
    read_metaimage_header,
)

__all__ = [
    "CCF_EXTENT_UM",
    "CCF_SHAPE_25",
    "VolumeError",
    "VolumeHeader",
    "axis_order",
    "read_header",
    "read_metaimage_header",
    "read_plane",
    "upright",
]

CCF_SHAPE_25 = (528, 320, 456)  # AP, DV, ML
BLOCK = 1 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


def axis_order(header: VolumeHeader, allowed_extents: Sequence[float] = CCF_EXTENT_UM) -> str:
    """Which way the axes of a volume in atlas space run.

    The Allen Institute's files carry anatomical directions that are not those of their axes, so
    axes are told apart by their extents, which all differ.

    Parameters
    ----------
    header : VolumeHeader
    allowed_extents : sequence of float
        Extents on AP, DV and ML in micrometres.

    Returns
    -------
    str
        Where each of the file's axes comes from, such as ``"asr"``. Where `header` has no
        orientation, axes run from anterior, superior and right unless its matrix reverses one.

    Raises
    ------
    VolumeError
        No spacing, extents other than the allowed ones by more than half a voxel, or an
        orientation that contradicts them.
    """
    if header.spacing_um is None:
        raise VolumeError(f"header of shape {header.shape} has no voxel spacing")
    found = match_extents(header.shape, header.spacing_um, allowed_extents)
    if found is None:
        extents = in_mm(s * d for s, d in zip(header.shape, header.spacing_um, strict=True))
        raise VolumeError(
            f"volume of {' × '.join(map(str, header.shape))} voxels extends over {extents}, not "
            f"over the atlas's {in_mm(allowed_extents)} (AP, DV, ML) in any order"
        )
    if header.orientation is None:
        pairs = [("ap", "si", "rl")[axis] for axis in found]
        return "".join(p[r] for p, r in zip(pairs, header.reversed_axes, strict=True))
    if [anatomical_axis(letter) for letter in header.orientation] != found:
        raise VolumeError(
            f"header's orientation {header.orientation!r} contradicts the extents, by which the "
            f"axes are {', '.join(('AP', 'DV', 'ML')[axis] for axis in found)}"
        )
    return header.orientation


def read_plane(stream: BinaryIO, header: VolumeHeader, axes: str, ap_index: int) -> np.ndarray:
    """One coronal plane of a stream of voxels, which is read to its end.

    Parameters
    ----------
    stream : binary file or anything with ``read(n)``
        At the first (compressed) voxel.
    header : VolumeHeader
    axes : str
        Where each of the file's axes comes from, as `axis_order` says.
    ap_index : int
        0-based index on the AP axis, counted from anterior.

    Returns
    -------
    ndarray, shape (DV, ML)
        Stored values of ``header.dtype`` in native byte order; rows run from superior, columns
        from right.

    Raises
    ------
    VolumeError
        A plane outside the volume, or voxels that are damaged, missing or left over.
    """
    axis = next(i for i, letter in enumerate(axes) if letter in "ap")
    size = header.shape[axis]
    if not 0 <= ap_index < size:
        raise VolumeError(f"plane {ap_index} is outside the volume; 0 to {size - 1} exist")
    index = ap_index if axes[axis] == "a" else size - 1 - ap_index
    run = int(np.prod(header.shape[:axis], dtype=np.int64))
    rest = [i for i in range(3) if i != axis]
    flat = _read_runs(stream, header, first=index * run, run=run, period=run * size)
    plane = flat.reshape(header.shape[rest[1]], header.shape[rest[0]])
    return upright(plane, axes[rest[1]] + axes[rest[0]])


def upright(plane: np.ndarray, axes: str) -> np.ndarray:
    """A coronal plane with rows from superior and columns from right.

    Parameters
    ----------
    plane : ndarray, two axes
    axes : str
        Where they come from, such as ``"sr"`` for a plane that is upright already.
    """
    plane = plane[tuple(slice(None, None, -1 if letter in "il" else 1) for letter in axes)]
    return np.ascontiguousarray(plane if axes[0] in "si" else plane.T)


def _read_runs(stream, header, first, run, period):
    """Voxels [first, first + run) of every period, with the count of all voxels checked."""
    n_voxels = int(np.prod(header.shape, dtype=np.int64))
    itemsize = header.dtype.itemsize
    kept = np.empty(n_voxels // period * run, dtype=header.dtype.newbyteorder("="))
    n_read, carry = 0, b""
    for block in _blocks(stream, header.compression):
        if carry:
            block = carry + block
        n_whole = len(block) // itemsize
        carry = block[n_whole * itemsize :]
        if n_read + n_whole + bool(carry) > n_voxels:
            raise VolumeError(f"bytes are left over after the {n_voxels} voxels of {header.shape}")
        voxels = np.frombuffer(block, dtype=header.dtype, count=n_whole)
        start = n_read - first
        if run == 1:
            part = voxels[-start % period :: period]
            at = -(-start // period)
            kept[at : at + len(part)] = part
        else:
            for i in range(max(0, start // period), -(-(start + n_whole) // period)):
                low, high = max(start, i * period), min(start + n_whole, i * period + run)
                if low < high:
                    at = (i * run) + low - i * period
                    kept[at : at + high - low] = voxels[low - start : high - start]
        n_read += n_whole
    if n_read < n_voxels or carry:
        raise VolumeError(f"voxels end after {n_read} of {n_voxels}; the volume is incomplete")
    return kept


def _blocks(stream, compression) -> Iterator[bytes]:
    if compression is None:
        while block := stream.read(BLOCK):
            yield block
        return
    inflate, packed = zlib.decompressobj(_ZLIB_OR_GZIP), b""
    while True:
        packed = packed or inflate.unconsumed_tail or stream.read(BLOCK // 4)
        try:
            block = inflate.decompress(packed, BLOCK)
        except zlib.error as error:
            raise VolumeError(f"{compression} stream of voxels is damaged ({error})") from error
        if block:
            yield block
        elif not packed and not inflate.eof:
            raise VolumeError(f"{compression} stream of voxels ends too early")
        packed = b""
        if inflate.eof:
            # gzip allows several members in a row, and zeros after the last.
            packed = inflate.unused_data.lstrip(b"\0")
            while not packed and (more := stream.read(BLOCK)):
                packed = more.lstrip(b"\0")
            if not packed:
                return
            inflate = zlib.decompressobj(_ZLIB_OR_GZIP)


def anatomical_axis(letter: str) -> int:
    """0, 1 or 2 for a letter of AP, DV or ML."""
    return next(i for i, pair in enumerate(("ap", "si", "rl")) if letter in pair)


def in_mm(extents_um) -> str:
    """Extents as an error message writes them."""
    return " × ".join(f"{e / 1000:.2f}" for e in extents_um) + " mm"

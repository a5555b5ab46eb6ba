"""Files that the asking program leaves, the atlas above all: each whole and checked, or not there.

As `ask_allen.py`, this is run by the acquisition environment.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import shutil
from pathlib import Path

import nrrd
from allensdk.api.api import Api
from allensdk.api.queries.mouse_connectivity_api import MouseConnectivityApi
from requests.utils import quote
from web import AgainError, FetchError, Meter, persevere, read, read_json

from brainvae_core.disk import digest_of, first_line, sha256_of, unsealed, write

ANNOTATION, TEMPLATE = "annotation_25.nrrd", "average_template_25.nrrd"
STRUCTURES, CHECKSUMS = "structures.json", "checksums.json"
ANNOTATION_SHA256 = "c620cbcc562183e4dcd40250d440130501781f74b41de35b1c1bdabace290c42"
SHAPE = [528, 320, 456]  # AP, DV, ML at 25 µm
VOXEL_BYTES = {"unsigned short": 2, "uint16": 2, "unsigned int": 4, "uint32": 4, "float": 4}
LARGEST_NRRD = 4 * math.prod(SHAPE) + (1 << 20)  # bytes, packed or not
RETRIES, METER = 3, Meter()


class Refused(ValueError):
    """What came is not what was asked for; one line."""


class Usage(ValueError):
    """The question is wrong; one line."""


# AllenSDK's own two ways to the network wait for ever, and take whatever comes.
Api.retrieve_parsed_json_over_http = lambda self, url, post=False: read_json(
    quote(url, ";/?:@&=+$,")
)
Api.retrieve_file_over_http = lambda self, url, path, zipped=False: Path(path).write_bytes(
    read(url, LARGEST_NRRD)
)


def ask(question, url: str):
    """What ``question(attempt)`` gives, asked again while nothing usable comes; or `FetchError`."""
    attempts = itertools.count()

    def attempt():
        try:
            return question(next(attempts))
        except (AgainError, FetchError, OSError):
            raise
        except Exception as error:  # AllenSDK does not look at the shape of what it takes apart
            raise AgainError(one_line(error)) from None

    return persevere(attempt, url, METER, RETRIES)


def one_line(error) -> str:
    """The first line of an error; its kind where it says nothing or was not raised here."""
    said_here = isinstance(error, (OSError, Refused, FetchError, Usage))
    return first_line(error) if said_here else f"{type(error).__name__}: {first_line(error)}"


def get_atlas_file(name: str, cache, args, partial: Path) -> Path:
    """An atlas file in its place: kept, copied from ``--atlas-from`` or asked for, and checked."""
    home = (partial if args.no_atlas else args.folder) / "atlas"
    target, checksums = home / name, home / CHECKSUMS

    def check(path):
        if name == ANNOTATION and sha256_of(path) != args.annotation_sha256:
            raise Refused(
                f"sha256 {sha256_of(path)} is not that of the 2017 annotation, "
                f"{args.annotation_sha256}; to accept another one name its --annotation-sha256"
            )
        (check_structures if name == STRUCTURES else check_nrrd)(path)
        return path

    def question(attempt):
        path = partial / f"{attempt}-{name}"
        if name == STRUCTURES:
            cache.get_structure_tree(file_name=str(path))
        else:
            kind = MouseConnectivityApi.CCF_2017 if name == ANNOTATION else "average_template"
            cache.api.download_volumetric_data(kind, name, save_file_path=str(path))
        return check(path)

    known = listed(checksums) if checksums.exists() else {}
    required = args.annotation_sha256 if name == ANNOTATION else known.get(name)
    if target.exists() and sha256_of(target) == required:
        return target
    local = sorted(args.atlas_from.rglob(name)) if args.atlas_from else []
    if local:
        fresh = Path(shutil.copyfile(local[0], partial / name))
        try:
            check(fresh)
        except Refused as error:
            raise Refused(f"{local[0]}: {error}") from error
    else:
        fresh = ask(question, args.base_url if name == STRUCTURES else args.download_url)
    home.mkdir(parents=True, exist_ok=True)
    known[name] = sha256_of(fresh)
    write(target, fresh.read_bytes())
    write(checksums, json.dumps(known | {"sha256": digest_of(known)}, indent=1).encode())
    return target


def listed(checksums: Path) -> dict[str, str]:
    """SHA-256 of the atlas's files by name, as they were left."""
    try:
        return unsealed(checksums.read_bytes())
    except (ValueError, TypeError, RecursionError) as error:
        why = f"{checksums} is damaged ({one_line(error)}); remove it and ask again"
        raise Refused(why) from error


def check_nrrd(path: Path) -> None:
    """Refuse a file that is no whole NRRD volume of the 25 µm grid."""
    try:
        with open(path, "rb") as file:
            head = nrrd.read_header(file)
            voxels = file if head["encoding"] == "raw" else gzip.GzipFile(fileobj=file)
            sizes, found = [int(s) for s in head["sizes"]], len(voxels.read(LARGEST_NRRD))
    except Exception as error:  # of whichever library
        raise Refused(f"not whole: {one_line(error)}") from error
    expected = math.prod(SHAPE) * VOXEL_BYTES.get(head["type"], 0)
    if sizes != SHAPE or found != expected:
        raise Refused(f"not whole: sizes {sizes} for {SHAPE}, {found} bytes for {expected}")


def check_structures(path: Path) -> None:
    """Refuse a list of structures that is no tree with every parent in it."""
    try:
        nodes = json.loads(path.read_text(encoding="utf-8"))
        ids = {node["structure_id_path"][-1] for node in nodes if node["acronym"] and node["name"]}
        parents = {id for node in nodes for id in node["structure_id_path"]}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Refused(f"no list of structures: {one_line(error)}") from error
    if not ids or len(ids) < len(nodes) or parents - ids:
        raise Refused(f"no whole tree: {len(nodes)} structures, {len(ids)} ids")

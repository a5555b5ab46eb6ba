"""A local server that speaks the Allen API as AllenSDK asks it, and fails in every way it is told.

It serves the experiment records, the address of each experiment's volumes, the volumes, the atlas
and the structures; `simulated_service` and `draw_faults` make a simulated cohort of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
from allen_volumes import CONTENT_FAULTS, MARGIN, atlas_nrrd, full_size, volume_zip
from raw_server import RESET, RawServer, answer, ranged

from brainvae_core.cohorts import Atlas, drawn_atlas, simulate

REQUEST_FAULTS = (
    *("500", "503", "429", "404", "html", "rma_error", "reset", "short", "short_no_length"),
    *("stall", "drip", "wrong_range", "no_range", "ok"),
)
CUT = ("short", "short_no_length", "reset", "stall")  # in the middle of a body
RECOVERABLE = ("500", "503", "429", "reset", "short", "short_no_length", "html", "wrong_range")

LINES = (None, "Rbp4-Cre_KL100", "Cux2-IRES-Cre", None, "Slc17a6-IRES-Cre")
STRAINS = ("C57BL/6J", "FVB.CD1(ICR)", "B6.129")


# ---- records ----


def experiment_records(ids, metadata: pd.DataFrame | None, atlas: Atlas) -> list[dict]:
    """Rows of the service's table ApiConnectivity; what the metadata lacks is invented."""
    structures = atlas.structures.set_index("acronym")
    metadata = pd.DataFrame(index=list(ids)) if metadata is None else metadata
    known = metadata.astype(object).where(metadata.notna(), None)
    records = []
    for i, experiment in enumerate(ids):
        row = known.loc[experiment].to_dict()
        acronym = row.get("injection_structure", ("SSp", "TH", "HPF")[i % 3])
        where = np.argwhere(np.isin(atlas.annotation, atlas.descendants(acronym))).mean(axis=0)
        structure_id, line = int(structures.loc[acronym, "id"]), LINES[i % len(LINES)]
        line = row.get("transgenic_line", line)
        records.append(
            {
                "data_set_id": int(experiment),
                "gender": row.get("sex", "FM"[i % 2]),
                "injection_structures": "/".join(map(str, [structure_id, 997][: 1 + i % 2])),
                "injection_volume": float(row.get("injection_volume", 0.05 + 0.01 * i)),
                "injection_x": 286 * 25,
                "injection_y": int(where[0] * 25),
                "injection_z": int((where[1] + MARGIN) * 25),
                "product_id": int(row.get("product_id", 31 if i % 4 == 3 else 5)),
                "specimen_name": f"{line or 'wildtype'}-{i}",
                "storage_directory": f"/external/{experiment}/",
                "strain": row.get("strain", STRAINS[i % 3]),
                "structure_abbrev": acronym,
                "structure_id": structure_id,
                "structure_name": str(structures.loc[acronym, "name"]),
                "transgenic_line": None if line is None else {"id": 1000 + i % 5, "name": line},
                "transgenic_line_id": None if line is None else 1000 + i % 5,
            }
        )
    return records


def structure_records(atlas: Atlas) -> list[dict]:
    """Rows of the service's table Structure, each with its sets."""
    parents = dict(zip(atlas.structures["id"], atlas.structures["parent_id"], strict=True))
    records = []
    for order, row in enumerate(atlas.structures.itertuples()):
        path, at = [], row.id
        while at:
            path, at = [int(at), *path], parents[at]
        record = {"id": int(row.id), "acronym": row.acronym, "name": row.name}
        record |= {"color_hex_triplet": "BFDAE3", "graph_id": 1, "graph_order": order}
        record["parent_structure_id"] = int(row.parent_id) or None
        record["structure_id_path"] = f"/{'/'.join(map(str, path))}/"
        in_set = [{"id": 167587189, "name": "summary"}] if order % 2 else []
        records.append(record | {"structure_sets": in_set})
    return records


# ---- the server ----


class AllenServer:
    """Serve an invented part of the Allen Mouse Brain Connectivity Atlas from this machine.

    ``sections``, each (320, 456) uint16, are plane 286 of the experiments' red volumes by id; of
    ``metadata`` what there is of the records is told. ``ranges``: whether a part of a file can be
    asked for; ``container``: mhd, nrrd, nii or nii.gz; ``without_url``: experiments without
    volumes. ``faults`` are lists of `REQUEST_FAULTS`, one taken by each request for an experiment's
    zip (its id), or for "experiments", "structures", "annotation", "template", "url <id>";
    ``contents`` says by id which of `CONTENT_FAULTS` a file has, set before it is asked for.
    ``requests`` are [path, range asked for, status, bytes of body to be sent].
    """

    def __init__(self, sections, metadata=None):
        self.sections, self.ranges, self.container = dict(sections), True, "mhd"
        self.atlas = drawn_atlas()
        self.experiments = experiment_records(self.sections, metadata, self.atlas)
        self.faults, self.contents, self.without_url = {}, {}, set()
        self.requests, self.retry_after, self.stall_s, self.drip_s = [], 1, 30.0, 0.02
        self.folder = tempfile.TemporaryDirectory(prefix="allen-server-")
        self.lock, self.released = threading.RLock(), threading.Event()
        self.http = RawServer()
        self.http.reply, self.url = self._answered, self.http.url

    def __enter__(self):
        self.http.__enter__()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.http.__exit__()
        self.folder.cleanup()

    @property
    def annotation_sha256(self) -> str:
        return hashlib.sha256(self.file("annotation").read_bytes()).hexdigest()

    def volume_url(self, experiment: int) -> str:
        return self.url + self.link(experiment)

    def link(self, experiment: int) -> str:
        number = 500_000_000 + list(self.sections).index(experiment)
        return f"/api/v2/well_known_file_download/{number}"

    def request_folder(self, folder: Path, ids) -> None:
        """Make of a folder what asking the service leaves."""
        folder.mkdir(exist_ok=True)
        table = pd.DataFrame({"id": ids, "sex": "F", "strain": "C57BL/6J", "transgenic_line": ""})
        table["injection_volume"] = 0.1
        table["url"], table["refused"] = [self.volume_url(i) for i in ids], ""
        table.to_csv(folder / "experiments.csv", index=False)

    def zip_size(self, experiment: int) -> int:
        return self.file(experiment).stat().st_size

    def bytes_sent(self, experiment: int) -> int:
        return sum(sent for path, _, _, sent in self.requests if path == self.link(experiment))

    def _path(self, key) -> Path:
        return Path(self.folder.name) / f"{key}"

    def file(self, key) -> Path:
        """An experiment's zip, the annotation or the template, made when first asked for."""
        with self.lock:
            path = self._path(key)
            if not path.exists():
                if key == "annotation":
                    content = atlas_nrrd(self.atlas.annotation, "<u4")
                elif key == "template":
                    template = (500 * self.atlas.template).astype("<u2")
                    content = atlas_nrrd(template, "<u2")
                else:
                    section, fault = self.sections[key].astype("<u2"), self.contents.get(key)
                    content = volume_zip(section, self.container, fault)
                path.write_bytes(content)
            return path

    def find(self, path: str):
        """What a request path names: its key, and the records where it asks for records."""
        path = unquote(path)
        archive = "/informatics-archive/current-release/mouse_ccf/"
        if path == archive + "annotation/ccf_2017/annotation_25.nrrd":
            return "annotation", None
        if path == archive + "average_template/average_template_25.nrrd":
            return "template", None
        if match := re.fullmatch(r"/api/v2/well_known_file_download/(\d+)", path):
            number = int(match[1]) - 500_000_000
            return (list(self.sections)[number], None) if number < len(self.sections) else None
        query = path.removeprefix("/api/v2/data/query.json?q=")
        if query == "model::ApiConnectivity,rma::options[num_rows$eq'all']":
            return "experiments", self.experiments
        if query.startswith("model::Structure,rma::criteria,[graph_id$in1],rma::include,"):
            return "structures", structure_records(self.atlas)
        named = "[name$eq'ImagesResampledTo25MicronARA']"
        asked = re.escape(f"model::WellKnownFile,rma::criteria,well_known_file_type{named}")
        if match := re.fullmatch(asked + r"\[attachable_id\$eq(\d+)\]", query):
            experiment, found = int(match[1]), []
            if experiment in self.sections and experiment not in self.without_url:
                link = self.link(experiment)
                found = [{"attachable_id": experiment, "download_link": link, "path": "/x.zip"}]
            return f"url {experiment}", found
        return None

    def _answered(self, request: str, _: int):
        """What a request is answered, listed with as much as the fault lets through."""
        path = request.split()[1]
        asked = re.search(r"\r\nRange: (\S+)", request)
        log = [path, asked and asked[1], 0, 0]
        self.requests.append(log)
        key, records = found = self.find(path) or (None, None)
        with self.lock:
            fault = (self.faults.get(key) or ["ok"]).pop(0)
            if fault not in REQUEST_FAULTS:
                raise ValueError(f"no fault {fault!r}; there are {', '.join(REQUEST_FAULTS)}")
            reply = self._reply(request, found, fault)
        head, _, body = reply.partition(b"\r\n\r\n")
        if fault in CUT:
            body = body[: len(body) // 2]
        if fault == "short_no_length":
            head = re.sub(rb"\r\nContent-Length: \d+", b"", head)
        log[2:] = int(head.split()[1]), len(body)
        return self._sent(head, body, fault)

    def _reply(self, request, found, fault) -> bytes:
        key, records = found
        if key is None:
            return answer(b"no such page", "404 Not Found")
        if fault.isdigit():
            later = self.retry_after if fault == "429" else None
            return answer(b"the service is not well", f"{fault} Unwell", Retry_After=later)
        if fault == "html":
            return answer(b"<html><body>Down for maintenance</body></html>")
        if fault == "rma_error":
            return answer(json.dumps({"success": False, "msg": "RMA query error"}).encode())
        if records is not None:
            told = {"success": True, "id": 0, "start_row": 0, "num_rows": len(records)}
            return answer(json.dumps(told | {"total_rows": len(records), "msg": records}).encode())
        content, kind = self.file(key).read_bytes(), {"Content_Type": "application/zip"}
        if fault == "wrong_range":
            return ranged(content, "Range: bytes=1000-", **kind)
        if fault == "no_range" or not self.ranges:
            return answer(content, **kind)
        return ranged(content, request, **kind)

    def _sent(self, head, body, fault):
        """Pieces of an answer, in the time that the fault takes."""
        if fault == "drip":
            yield head + b"\r\n\r\n"
            for piece in np.array_split(np.frombuffer(body, np.uint8), 20):
                yield piece.tobytes()
                time.sleep(self.drip_s)
            return
        yield head + b"\r\n\r\n" + body
        if fault == "stall":
            self.released.wait(self.stall_s)
        if fault == "reset":
            time.sleep(0.05)  # it discards what the network has not delivered yet
            yield RESET


# ---- a simulated cohort ----


def simulated_service(n_brains: int, atlas: Atlas, seed: int):
    """Sections (320, 456) of a simulated cohort by experiment id, and what is known of them."""
    rng = np.random.default_rng([seed, 286])
    cohort = simulate(n_brains, atlas, seed=seed)
    ids = np.sort(rng.choice(np.arange(100_000_000, 400_000_000, 7), n_brains, replace=False))
    gain = rng.uniform(0.6, 1.6, n_brains)
    grey = np.round(2000 * gain[:, None, None] * cohort.images).astype(np.uint16)
    sections = {int(i): full_size(image) for i, image in zip(ids, grey, strict=True)}
    return sections, cohort.metadata.set_index(pd.Index(ids, name="id"))


def draw_faults(ids, seed: int):
    """A third of the brains fail once and recover; up to five have a bad file for good."""
    rng = np.random.default_rng([seed, 404])
    order = rng.permutation(ids)
    n_once, n_bad = round(len(order) / 3), min(5, len(order) // 4)
    bad = rng.choice([c for c in CONTENT_FAULTS if c != "constant"], n_bad, replace=False)
    contents = {int(i): str(c) for i, c in zip(order[:n_bad], bad, strict=True)}
    kinds = np.resize(RECOVERABLE, n_once)
    rest = order[n_bad : n_bad + n_once]
    return {int(i): [str(k)] for i, k in zip(rest, kinds, strict=False)}, contents

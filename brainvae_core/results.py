"""Scores of fits as long tables: read where they come with the project, else made once and kept.

``python -m brainvae_core.results full`` scores the fits of a profile that are there, fits nothing,
and keeps the rows in ``results/full/tables``. A table's file is gzipped CSV below one line of JSON:
of which cohort, settings and fits it is, and the checksum of the rest.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
from pathlib import Path

import pandas as pd

from brainvae_core.disk import file_lock, made_with, read_sealed, seal, stoppable, whole, write
from brainvae_core.models import fit, fit_all, run_name
from brainvae_core.models.runs import LOADED
from brainvae_core.models.training import progress_bar
from brainvae_core.scores import TABLES
from brainvae_core.settings import DEMO, Settings, read_profile
from brainvae_core.study import STAGES, labelled_configs

FORMAT = 1
MEASURED = Path(__file__).parent.parent / "results/measured"  # always this project's own
SEALED = "checksums.json"  # of all that is there


def table(p: Settings, name: str) -> pd.DataFrame:
    """A score a row, of every fit of the table's stage, fitted and scored where it is missing.

    ``name`` is one of ``scores.TABLES``; columns are ``model``, ``beta`` and ``latent_dim`` (of
    models that have them), ``seed``, those of the table's function, and ``value`` to six digits. A
    run of two models is there twice.
    """
    of, cohort, about = _lookup(p, name)
    wanted = labelled_configs(p, of.stage, cohort)
    rows, _ = _known(p, about)
    missing, place = _missing(wanted, cohort, rows), _place(p, about)
    if missing:
        fits = fit_all(cohort, missing, p.places.runs, p.places.device, p.places.together)
        rows, _ = _scored(p, name, cohort, about, fits)
    elif place.exists() and not whole(place):
        with file_lock(place):  # takes away what a kill left; nobody is waited for
            pass
    there = [(labels, key) for labels, c in wanted if (key := _key(c, cohort)) in rows]
    if without := sorted({of["model"] for of, _ in wanted} - {of["model"] for of, _ in there}):
        raise ValueError(f"no fit of {', '.join(without)} succeeded; see above for why")
    parts = [rows[key].assign(**{"seed": 0} | labels) for labels, key in there]
    found = pd.concat(parts, ignore_index=True)
    first = [c for c in ("model", "beta", "latent_dim", "seed") if c in found]
    found = found[[*first, *(c for c in found if c not in first and c != "value"), "value"]]
    LOADED[f"table {name}"] = hashlib.sha256(found.to_csv().encode()).hexdigest()
    return found


def measured(name: str, folder: Path = MEASURED) -> pd.DataFrame:
    """A table that benchmarks measured and that comes with the project, such as ``"training"``."""
    read_sealed(folder, SEALED, FORMAT, "restore it from git")
    content = (folder / f"{name}.csv").read_bytes()
    found = pd.read_csv(io.BytesIO(content))
    LOADED[f"table {name}"] = hashlib.sha256(content).hexdigest()
    return found


def write_measured(name: str, rows: pd.DataFrame, about: dict, folder: Path = MEASURED) -> None:
    """Write what a benchmark measured, to five digits, and what it was made with and from."""
    made, path = {}, folder / SEALED
    if path.exists():  # of the other tables, which must be whole
        made = read_sealed(folder, SEALED, FORMAT, "restore it from git").get("made", {})
    write(folder / f"{name}.csv", rows.to_csv(index=False, float_format="%.5g").encode())
    seal(folder, SEALED, {"format": FORMAT, "made": made | {name: about | made_with()}})


def save_table(p: Settings, name: str, results: str | Path) -> str:
    """Score the fits of a table that are there, and keep the profile's rows; says how many fits."""
    of, cohort, about = _lookup(p, name)
    wanted = labelled_configs(p, of.stage, cohort)
    rows, of_fits = _known(p, about)
    missing = _missing(wanted, cohort, rows)
    runs = {c: Path(p.places.runs, run_name(c, cohort.fingerprint)) for c in missing}
    there = [c for c, run in runs.items() if (run / "weights.safetensors").exists()]
    if there:
        fits = (fit(cohort, config, p.places.runs, p.places.device) for config in there)
        rows, of_fits = _scored(p, name, cohort, about, fits)
    keys = dict.fromkeys(_key(config, cohort) for _, config in wanted)
    kept = {key: rows[key] for key in keys if key in rows}
    if kept:
        details = about | {"fits": {key: of_fits[key] for key in kept}}
        write_rows(Path(results) / "tables" / f"{name}.csv.gz", _joined(kept), details)
    return f"{name}: {len(kept)} of the profile's {len(keys)} fits have their rows"


def _lookup(p, name):
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; there are {', '.join(TABLES)}")
    of, flat = TABLES[name], p.flat()
    cohort = STAGES[of.stage].cohort(p)
    settings = json.loads(json.dumps({n: flat[n] for n in of.settings}))
    about = {"format": FORMAT, "table": name, "cohort": cohort.identity, "settings": settings}
    return of, cohort, about | ({"version": of.version} if of.version > 1 else {})


def _key(config, cohort) -> str:
    """A fit's name on any processor."""
    return run_name(config, cohort.identity)


def _missing(wanted, cohort, rows) -> list:
    return list(dict.fromkeys(c for _, c in wanted if _key(c, cohort) not in rows))


def _scored(p, name, cohort, about, fits) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """As `_known`, with some fits more, kept after each: an interrupted table goes on."""
    place, rows_of = _place(p, about), None
    with file_lock(place, f"waiting for another process that scores {name}"):
        rows, of_fits = _known(p, about)  # of which another process may have scored some
        for run in progress_bar(iterable=fits, desc=f"scores, {name}", unit="fit"):
            if (key := _key(run.config, cohort)) not in rows:
                rows_of = rows_of or TABLES[name].made(p, cohort)
                found = rows_of(run)
                found["value"] = [float(f"{value:.6g}") for value in found["value"]]
                rows[key] = parse_rows(_text(found))
                seed, precision = getattr(run.config, "seed", None), run.made.get("precision")
                details = made_with() | {"seed": seed, "precision": precision}
                of_fits[key] = {n: value for n, value in details.items() if value is not None}
                write_rows(place, _joined(rows), about | {"fits": of_fits})
    return rows, of_fits


def _place(p, about) -> Path:
    """Where the rows of one's own fits are kept."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return Path(p.places.data) / "tables" / f"{about['table']}-{digest[:8]}.csv.gz"


def _known(p, about) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Rows by the fit, of what comes with the project and of one's own; and how they were made."""
    rows, of_fits = {}, {}
    usual = json.loads(json.dumps({name: DEMO[name] for name in about["settings"]}))
    kept = sorted(Path(p.places.results).glob(f"*/tables/{about['table']}.csv.gz"))
    for path in (_place(p, about), *kept):
        if path.exists():
            details, text = read_rows(path)
            # Of a setting that is younger than the rows they have its default.
            details["settings"] = usual | details.get("settings", {})
            if {n: details.get(n) for n in ("version", *about)} == {"version": None} | about:
                for key, of in parse_rows(text).groupby("fit", sort=False):
                    rows[key] = of.drop(columns="fit").dropna(axis=1, how="all")
                    of_fits[key] = details.get("fits", {}).get(key, {})
    return rows, of_fits


def read_rows(path) -> tuple[dict, str]:
    """What a table's file is of, and its rows as CSV, with the column ``fit``."""
    try:
        head, _, text = gzip.decompress(path.read_bytes()).decode().partition("\n")
        details = json.loads(head)
        if details["format"] != FORMAT:
            raise ValueError(f"it has format {details['format']}; this library reads {FORMAT}")
        if details["sha256"] != hashlib.sha256(text.encode()).hexdigest():
            raise ValueError("its rows are not those that were written")
        if not all(isinstance(details.get(name, {}), dict) for name in ("fits", "settings")):
            raise ValueError("its fits or settings are of another type")
    except Exception as error:  # of gzip, zlib, JSON
        line = f"{path} is damaged ({str(error) or type(error).__name__}); restore it from git"
        raise ValueError(f"{line}, or delete it to have it made anew") from None
    return details, text


def write_rows(path, rows: pd.DataFrame, about: dict) -> None:
    """Write a table's file, whole or not at all."""
    text = _text(rows)
    told = about | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    content = f"{json.dumps(told, ensure_ascii=False)}\n{text}".encode()
    write(path, gzip.compress(content, mtime=0))


def _joined(rows) -> pd.DataFrame:
    return pd.concat([of.assign(fit=key) for key, of in rows.items()], ignore_index=True)


def _text(rows) -> str:
    return rows.to_csv(index=False, lineterminator="\n")


def parse_rows(text) -> pd.DataFrame:
    """As a reader of the file has it: rows that were just made are the same as rows of old."""
    return pd.read_csv(io.StringIO(text))


@stoppable("stopped; what is scored stays, and the same command goes on")
def main():
    """Score a profile's fits that are there, and keep the rows in results/."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", help="its name in notebooks/params, or a YAML file")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    try:
        p = read_profile(options.profile, enter=True)
        for name in options.only:
            print(save_table(p, name, Path(p.places.results) / p.profile), flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

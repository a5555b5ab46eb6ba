"""Ask the Allen Institute which brains there are, where their volumes lie, and for the atlas.

This file is run by the acquisition environment (environment-acquire.yml), which has AllenSDK and
of this project `ask_files.py` and `web.py` beside it, and `disk.py`: they import AllenSDK, what
AllenSDK needs and the standard library, no more.

    python ask_allen.py FOLDER --strain C57BL/6J --no-line --limit 100

FOLDER receives experiments.csv and, unless --no-atlas is given, atlas/ with annotation_25.nrrd,
average_template_25.nrrd and structures.json. A file gets its name when it is whole and checked.
What FOLDER has already is not asked for again. All filters must hold at once. Exit status: 0, 1
where something was refused, 2 where the question is wrong or the service cannot be reached.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Importing AllenSDK takes seconds, in which an interruption would show where it was.
signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    sys.path.append(str(Path(__file__).parents[2]))  # for `disk` alone
    from brainvae_core.disk import write

    sys.path.pop()
    import pandas as pd
    from allensdk.api.api import Api
    from allensdk.core.mouse_connectivity_cache import MouseConnectivityCache
    from ask_files import (
        ANNOTATION,
        ANNOTATION_SHA256,
        STRUCTURES,
        TEMPLATE,
        Refused,
        Usage,
        ask,
        get_atlas_file,
        one_line,
    )
    from tqdm import tqdm
    from web import FetchError
except ImportError as error:  # a traceback's exit status would say that something was refused
    print(f"ask_allen: {error}; make the acquisition environment anew", file=sys.stderr)
    raise SystemExit(2) from None

COLUMNS = (
    *("id", "sex", "strain", "transgenic_line", "product_id", "injection_structure"),
    *("injection_volume", "injection_ap", "injection_dv", "injection_ml", "url", "refused"),
)
TEXTS = ("sex", "strain", "transgenic_line", "injection_structure")
NOT_ASKED = "not asked yet; run the same command again"
NO_VOLUMES = "the service has no volumes on the 25 µm grid of this experiment"
THREADS = 4
BLOCK = 100  # experiments between two writings of experiments.csv
GIVE_UP = 12  # experiments in a row without an answer: the service is down, not an experiment odd


# ---- experiments ----


def ask_experiments(cache, folder: Path, url: str) -> list[dict]:
    """Rows of every experiment the service lists, by id, with neither ``url`` nor ``refused``."""

    def question(attempt):
        # AllenSDK writes an answer down before it reads it, and believes what is written down.
        path = folder / f"experiments-{attempt}.json"
        rows = [row_of(record) for record in cache.get_experiments(file_name=str(path))]
        if not rows or len({row["id"] for row in rows}) < len(rows):
            raise Refused(f"{len(rows)} experiments, of which some or all have no id of their own")
        return sorted(rows, key=lambda row: row["id"])

    return ask(question, url)


def row_of(record: dict) -> dict:
    """The columns of one experiment as AllenSDK gives it."""
    where = [record.get(f"injection_{axis}") for axis in "xyz"]
    if None in where:
        where = record.get("injection_coordinates") or [None] * 3
    values = {
        "id": record["id"],
        "sex": record["gender"],
        "strain": record["strain"],
        "transgenic_line": record.get("transgenic_line"),
        "product_id": record.get("product_id"),
        "injection_structure": record["structure_abbrev"],
        "injection_volume": record.get("injection_volume"),
        **dict(zip(("injection_ap", "injection_dv", "injection_ml"), where)),  # noqa: B905
        "structure_id": record["structure_id"],
    }
    for name, value in dict(values).items():
        kind = str if name in TEXTS else int if name.endswith("id") else (int, float)
        is_good = isinstance(value, kind) and (
            value.isprintable() if kind is str else _counts(value)
        )
        if name == "id" and not (is_good and value > 0):
            raise Refused(f"an experiment has the id {str(value)[:100]!r}")
        if value is not None and not is_good:
            why = f"the service says {name} = {str(value)[:100]!r} of it"
            values |= {name: None, "refused": why}
    return {name: "" if value is None else value for name, value in values.items()}


def _counts(number) -> bool:
    """Whether it is a number as experiments have them."""
    return not isinstance(number, bool) and -1e18 < number < 1e18


def ask_urls(api, rows: list[dict], keep) -> None:
    """Fill ``url`` and ``refused`` of the rows that have no url, calling ``keep`` now and then."""
    todo = [row for row in rows if row["refused"] == NOT_ASKED]
    in_a_row = 0

    def url_of(row):
        if in_a_row >= GIVE_UP:
            return "", NOT_ASKED
        try:
            url = ask(lambda _: link_of(api, row["id"]), api.api_url)
            return (api.api_url + url, "") if url else ("", NO_VOLUMES)
        except FetchError as error:
            return "", f"no answer to where its volumes lie: {error}"

    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(todo), desc="addresses") as progress:
        for start in range(0, len(todo), BLOCK):
            block = todo[start : start + BLOCK]
            for row, answer in zip(block, pool.map(url_of, block)):  # noqa: B905
                row["url"], row["refused"] = answer
                in_a_row = 0 if answer[1] in ("", NO_VOLUMES) else in_a_row + 1
                progress.update()
            keep()


def link_of(api, experiment: int) -> str:
    """Where on the API's host an experiment's own volumes lie; empty where it has none."""
    build = api.build_reference_aligned_image_channel_volumes_url
    found = api.do_query(build, lambda answer: answer["msg"], experiment)
    for one in found[:1]:
        is_own = one.get("attachable_id", experiment) == experiment
        if not is_own or not re.fullmatch(r"/[!-.0-~][!-~]*", one["download_link"]):
            raise Refused("a link that is not this experiment's, or of another host, came")
        return one["download_link"]
    return ""


def refuse_shared(rows: list[dict]) -> None:
    """Two experiments have no volume together: of whose brain it is, nobody knows."""
    n = Counter(row["url"] for row in rows if row["url"])
    for row in rows:
        if n[row["url"]] > 1:
            row |= {"url": "", "refused": "the service gives it the volumes of another as well"}


def choose(rows: list[dict], args, tree) -> list[dict]:
    """The rows that pass every filter; ids that the service does not list become refused rows."""
    filters = {}
    for option, column in (("sex", "sex"), ("strain", "strain"), ("line", "transgenic_line")):
        if wanted := getattr(args, option):
            check_known(wanted, {str(row[column]) for row in rows} - {""}, f"--{option}")
            filters[f"--{option}"] = lambda row, c=column, w=wanted: str(row[c]) in w
    if args.no_line:
        filters["--no-line"] = lambda row: not row["transgenic_line"]
    if args.injection_structure:
        by_acronym = tree.get_id_acronym_map()
        check_known(args.injection_structure, set(by_acronym), "--injection-structure")
        ids = tree.descendant_ids([by_acronym[a] for a in args.injection_structure])
        below = set().union(*ids)
        filters["--injection-structure"] = lambda row: row["structure_id"] in below
    if args.experiments:
        filters["--experiments"] = lambda row: row["id"] in args.experiments
    if args.without:
        filters["--without"] = lambda row: row["id"] not in args.without
    chosen = [row for row in rows if all(passes(row) for passes in filters.values())]
    unlisted = sorted(set(args.experiments) - set(args.without) - {row["id"] for row in rows})
    if not chosen and not unlisted:
        alone = ", ".join(f"{name} alone {sum(map(f, rows))}" for name, f in filters.items())
        raise Usage(f"no experiment of {len(rows)} passes every filter ({alone}); loosen one")
    blank = dict.fromkeys(COLUMNS, "")
    blank["refused"] = "the service lists no such experiment; leave it out of --experiments"
    return chosen[: args.limit] + [{**blank, "id": i} for i in unlisted]


def check_known(wanted, known: set[str], option: str) -> None:
    """Raise `Usage` for a value that the service does not have, with those that it has."""
    for value in wanted:
        if value not in known:
            lower = {name.lower(): name for name in sorted(known)}
            near = difflib.get_close_matches(value.lower(), lower, n=3, cutoff=0.4)
            there = list(dict.fromkeys([*(lower[name] for name in near), *sorted(known)]))[:40]
            raise Usage(f"{option} {value!r} does not exist; there are {', '.join(there)}")


def saved_urls(path: Path, service: str) -> dict[int, str]:
    """Addresses an earlier run was given by the same service."""
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if set(COLUMNS) - set(table):
            raise Usage(f"{path} is not of this program; move it away")
        table = table[table["url"].str.startswith(service + "/")]
        return dict(zip(table["id"].astype(int), table["url"]))  # noqa: B905
    except Usage:
        raise
    except (ValueError, OverflowError) as error:
        why = f"{path} is damaged ({one_line(error)}); remove it and ask again"
        raise Refused(why) from error


# ---- the command line ----


def parse(argv):
    """The command line, checked as far as it can be without the service."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("folder", type=Path)
    add("--experiments", help="ids separated by commas, or a file of ids")
    add("--without", help="ids to leave out, likewise")
    add("--strain", nargs="+", help="as the service spells them")
    add("--sex", nargs="+", help="F or M")
    line = parser.add_mutually_exclusive_group()
    line.add_argument("--line", nargs="+", help="transgenic lines")
    line.add_argument("--no-line", action="store_true", help="animals without a transgenic line")
    add("--injection-structure", nargs="+", metavar="ACRONYM")
    add("--limit", type=int, help="no more than this many, smallest ids first")
    add("--base-url", default=Api.default_api_url)
    add("--download-url", default=Api.download_url)
    add("--annotation-sha256", default=ANNOTATION_SHA256)
    atlas = parser.add_mutually_exclusive_group()
    atlas.add_argument("--atlas-from", type=Path, help="take what this folder has of the atlas")
    atlas.add_argument("--no-atlas", action="store_true")
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        raise Usage(f"--limit {args.limit}: give a number of brains from 1 on")
    if args.atlas_from and not args.atlas_from.is_dir():
        raise Usage(f"--atlas-from {args.atlas_from} is no folder")
    args.experiments = read_ids(args.experiments, "--experiments")
    args.without = read_ids(args.without, "--without")
    args.base_url, args.download_url = args.base_url.rstrip("/"), args.download_url.rstrip("/")
    return args


def read_ids(text: str | None, option: str) -> set[int]:
    """Ids from ``1,2,3`` or from a file that holds them between commas or white space."""
    if text is None:
        return set()
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words) and Path(text).is_file():
        words = Path(text).read_text("utf-8", errors="replace").replace(",", " ").split()
    wrong = [word for word in words if not word.isdecimal() or len(word) > 18]
    if wrong or not words:
        raise Usage(f"{option} {text!r} is neither ids such as 1,2,3 nor a file of such ids")
    return {int(word) for word in words}


def run(args, partial: Path) -> int:
    """Ask everything; the number of things refused."""
    Api.download_url = args.download_url  # base_uri alone leaves the atlas at its usual address
    manifest = str(partial / "manifest.json")
    cache = MouseConnectivityCache(25, manifest_file=manifest, base_uri=args.base_url)
    try:
        tree = None
        if args.injection_structure:
            path = get_atlas_file(STRUCTURES, cache, args, partial)
            tree = cache.get_structure_tree(file_name=str(path))
        rows = ask_experiments(cache, partial, args.base_url)
    except FetchError as error:
        why = f"{args.base_url} gave no usable answer ({error})"
        raise FetchError(f"{why}; check the network and --base-url") from error
    table = args.folder / "experiments.csv"
    kept = saved_urls(table, args.base_url)
    rows = choose(rows, args, tree)
    for row in rows:
        row.setdefault("url", "" if row.get("refused") else kept.get(row["id"], ""))
        row.setdefault("refused", "" if row["url"] else NOT_ASKED)

    def keep():
        content = pd.DataFrame(rows, columns=COLUMNS, dtype=object).to_csv(index=False)
        write(table, content.encode())

    ask_urls(cache.api, rows, keep)
    refuse_shared(rows)
    keep()
    without = [f"{row['id']}: {row['refused']}" for row in rows if row["refused"]]
    refused = len(without)
    print(f"{table}: {len(rows)} experiments, {refused} refused")
    print(*without[:5], sep="\n", end="\n" * bool(without), file=sys.stderr)
    for name in () if args.no_atlas else (STRUCTURES, ANNOTATION, TEMPLATE):
        try:
            print(get_atlas_file(name, cache, args, partial))
        except (Refused, FetchError) as error:
            print(f"no {name}: {error}", file=sys.stderr)
            refused += 1
    return refused


def main(argv=None) -> int:
    """Run the command line; its exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.disable()  # AllenSDK logs every file it asks for; errors are said once, in one line
    try:
        args = parse(argv)
        args.folder.mkdir(parents=True, exist_ok=True)
        for killed in args.folder.glob(".asking-*"):
            shutil.rmtree(killed, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=".asking-", dir=args.folder) as partial:
                return 1 if run(args, Path(partial)) else 0
        finally:
            if not any(args.folder.iterdir()):
                args.folder.rmdir()
    except Exception as error:  # of whichever library: a traceback's exit status would be 1
        print(f"ask_allen: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

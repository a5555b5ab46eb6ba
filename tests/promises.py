"""The table of promises in tests/README.md, from a report of pytest's: `make promises` calls it.

Rows follow from the marks ``promise`` of the tests; what the report did not run keeps its cell.
"""

import ast
import os
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parent
PAGE = TESTS / "README.md"
HEAD = "| promise | tests | cases of every change | cases of a night |\n|---|---|---|---|\n"
BAD, NOT_RUN = ("failure", "error"), "skipped"


def marked() -> dict[str, list[str]]:
    """The tests that keep each promise, as file::test."""
    found = defaultdict(list)
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            for mark in getattr(node, "decorator_list", []):
                if ast.unparse(mark).startswith("pytest.mark.promise("):
                    found[ast.literal_eval(mark.args[0])].append(f"{path.name}::{node.name}")
    return dict(sorted(found.items()))


def written() -> dict[str, list[str]]:
    """Cells of the table as it stands, by promise: tests, and what they gave by day and night."""
    rows = [x.strip("| \n").split(" | ") for x in PAGE.read_text().partition(HEAD)[2].splitlines()]
    return {promise: cells for promise, *cells in rows}


def counted(report: Path) -> tuple[str, dict[str, list]]:
    """The day of a report, and of every test its outcomes, each with its number of cases."""
    root, found = ElementTree.parse(report).getroot(), defaultdict(list)
    for case in root.iter("testcase"):
        file, name = case.get("classname").split(".")[-1], case.get("name").partition("[")[0]
        outcome = next((kind for kind in (*BAD, NOT_RUN) if case.find(kind) is not None), "passed")
        told = [int(p.get("value")) for p in case.iter("property") if p.get("name") == "cases"]
        found[f"{file}.py::{name}"].append((outcome, sum(told) or 1))
    return root.find("testsuite").get("timestamp")[:10], found


def cell(outcomes: list[tuple[str, int]], day: str) -> str:
    """What tests of a promise gave, in words."""
    of = {kind: sum(n for o, n in outcomes if o == kind) for kind, _ in outcomes}
    bad = sum(of.get(kind, 0) for kind in BAD)
    told = f"{of.get('passed', 0):,} passed" + (f", {bad:,} FAILED" if bad else "")
    return f"{told}{f', {of[NOT_RUN]:,} skipped' if NOT_RUN in of else ''}, {day}"


def main(report: Path, is_night: bool) -> None:
    """Write the table anew."""
    (day, found), before, rows = counted(report), written(), []
    for promise, tests in marked().items():
        cells = (before.get(promise) or ["", "–", "–"])[1:]
        outcomes = [outcome for test in tests for outcome in found.get(test, [])]
        if outcomes:
            cells[is_night] = cell(outcomes, day)
        rows.append(" | ".join([promise, "<br>".join(f"`{test}`" for test in tests), *cells]))
    text = PAGE.read_text().partition(HEAD)[0]
    PAGE.write_text(text + HEAD + "".join(f"| {row} |\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ.get("HYPOTHESIS_PROFILE") == "nightly")

"""Numbers for the ledger: shown in a chapter, read from its notebook, told in the book."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from brainvae_core.metrics import Estimate
from brainvae_core.record import MIME, Record, record_of

ROOT = Path(__file__).parent.parent
LEDGER = yaml.safe_load((ROOT / "book/ledger.yaml").read_text())
sys.path.insert(0, str(ROOT / "book/_ext"))


@pytest.fixture
def record():
    return Record(
        {"share": Estimate(0.5, 0.4, 0.6, 200, 3), "brains": np.int64(1723), "r": 0.98765},
        {
            "it is ahead": {
                "drawn": Estimate(0.2, 0.1, 0.3, 48, 3),
                "real": Estimate(0, -1, 1, 48, 3),
            }
        },
        n_brains=20,
    )


def notebook(*records):
    cells = [{"cell_type": "markdown", "source": "# A"}]
    for record in records:
        data = json.loads(json.dumps(record._repr_mimebundle_()))
        cells.append({"cell_type": "code", "source": "", "outputs": [{"data": data}]})
    return {"cells": cells}


def test_what_is_read_from_a_notebook_is_what_was_recorded(record):
    found = record_of(notebook(record))
    assert list(found) == ["share", "brains", "r", "it is ahead (drawn)", "it is ahead (real)"]
    share = found["share"]
    assert (share["value"], share["low"], share["high"]) == (0.5, 0.4, 0.6)
    assert (share["n_brains"], share["n_seeds"], share["cell"]) == (200, 3, 1)
    assert found["brains"]["found"] == "1,723" and found["brains"]["n_brains"] == 20
    assert found["r"]["low"] is None and found["r"]["found"] == "0.988"
    assert share["n"] == "200 brains, 3 fits"
    assert {found[f"it is ahead ({w})"]["verdict"] for w in ("drawn", "real")} == {"depends"}


def test_it_is_a_table_for_people(record):
    shown = record._repr_mimebundle_()
    for text in ("0.50 [0.40, 0.60]", "1,723", "depends", "200"):
        assert text in shown["text/plain"] and text in shown["text/html"]
    assert "nan" not in shown["text/html"].lower() and "None" not in shown["text/html"]


def test_a_long_record_is_folded_and_one_without_intervals_says_value():
    few = Record({"brains": 3})._repr_mimebundle_()["text/html"]
    assert "<details>" not in few and "<th>value</th>" in few and "interval" not in few
    many = Record({f"n{i}": Estimate(i, i - 1, i + 1, 9, 1) for i in range(40)})
    assert "<summary>40 numbers" in many._repr_mimebundle_()["text/html"]


def test_what_n_counts_is_named_where_it_is_no_brains():
    one = {"recovered": Estimate(0.3, 0.1, 0.5, 9, 1)}
    (row,) = Record(one, of={"recovered": "factors"}).rows
    assert row["n"] == "9 factors, 1 fit"
    (row,) = Record(
        {}, {"moves": {"all": Estimate(0.3, 0.1, 0.5, 8, 3)}}, of={"moves": "latents"}
    ).rows
    assert (row["number"], row["n"]) == ("moves", "8 latents, 3 fits")


def test_two_numbers_of_one_name_are_refused(record):
    with pytest.raises(ValueError, match="two numbers are called 'share'"):
        record_of(notebook(record, record))


def test_an_interval_without_an_end_is_none_in_the_data():
    record = Record({"a": Estimate(1.0, -np.inf, np.inf, 3, 1)})
    (row,) = record._repr_mimebundle_()[MIME]["numbers"]
    assert row["low"] is None and row["high"] is None and row["value"] == 1
    json.dumps(row, allow_nan=False)


def test_the_numbers_of_another_book_are_kept_whole_or_not_at_all(tmp_path, record, monkeypatch):
    from brainvae_core import record as records

    executed, target = tmp_path / "notebooks", tmp_path / "kept/ccf.json"
    executed.mkdir()
    monkeypatch.setattr("sys.argv", ["record", str(executed), str(target)])
    with pytest.raises(SystemExit, match="holds no executed chapter"):
        records.main()
    (executed / "01_a.ipynb").write_text(json.dumps(notebook(record)))
    monkeypatch.setattr(records, "why_stale", lambda notebook: "its cells changed")
    with pytest.raises(SystemExit, match="stale chapters: 01_a"):
        records.main()
    assert not target.exists()
    monkeypatch.setattr(records, "why_stale", lambda notebook: "")
    stamp = SimpleNamespace(cohort="a", cells="b")
    monkeypatch.setattr(records, "stamp_of", lambda notebook: stamp)
    monkeypatch.setattr(records, "made_on", lambda notebook: "simulated, real atlas")
    records.main()
    kept = json.loads(target.read_text())
    assert kept["made_on"] == "simulated, real atlas"
    assert kept["chapters"]["01_a"] == record_of(notebook(record))
    assert [path.name for path in target.parent.iterdir()] == ["ccf.json"]


@pytest.mark.parametrize(
    "numbers, said",
    [
        ((np.nan, np.nan, np.nan), "none"),
        ((np.nan, 4.0, 12.0), "none"),
        ((0.5, -np.inf, 0.7), "0.5"),
        ((1234.6, None, None), "1,235"),
        ((-3, None, None), "−3"),
    ],
)
def test_numbers_without_a_value_or_an_interval_are_said_in_words(numbers, said):
    (row,) = Record({"a": Estimate(*numbers, 9, 3)}).rows
    assert row["found"] == said
    assert "nan" not in Record({"a": Estimate(*numbers, 9, 3)})._repr_mimebundle_()["text/html"]


def test_every_pattern_of_the_ledger_names_recorded_numbers():
    from fnmatch import fnmatchcase

    chapters = {
        p.stem: record_of(json.loads(p.read_text())) for p in (ROOT / "notebooks").glob("*.ipynb")
    }
    kept = json.loads((ROOT / "book/records/ccf.json").read_text())
    asked = [part.split(": ", 1) for row in LEDGER["numbers"] for part in row.get("ours", [])]
    assert len(asked) > 25
    for chapter, pattern in asked:
        assert any(fnmatchcase(name, pattern) for name in chapters[chapter]), (chapter, pattern)
        assert any(fnmatchcase(name, pattern) for name in kept["chapters"][chapter]), pattern


def test_every_figure_of_the_paper_is_in_the_ledger_and_made_by_a_cell():
    wanted = ["1", "2A", "2B", "2C", "2D", "3A", "3B", "3C", "3D", "3E", "S1", "S2", "S3", "S4"]
    assert [row["paper"] for row in LEDGER["figures"]] == [f"Fig. {w}" for w in wanted]
    for row in LEDGER["figures"]:
        chapter, call = row["made by"].split(".")
        assert f"figures.{call}(" in (ROOT / f"notebooks/{chapter}.py").read_text()


def test_no_number_of_ours_is_typed_into_the_ledger():
    # What is measured is an interval or has decimals; the paper's own numbers have neither.
    import re

    words = [row.get("differs") or "" for part in LEDGER.values() for row in part]
    assert not [w for w in words if re.search(r"\d\.\d|\[−?\d", w)]

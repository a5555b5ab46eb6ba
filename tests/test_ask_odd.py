"""AllenSDK asks a service that answers oddly: one line says so, and nothing of it is believed."""

import json
import re

import pytest
from allen_server import AllenServer
from test_ask import METADATA, ROW, acquire_python, rows_of, run_questions  # noqa: F401

pytestmark = pytest.mark.server

FIRST, OTHER = 101, 103


def record(**changed):
    """What changes the first experiment's record."""
    return lambda records: [records[0] | changed, *records[1:]]


def link(answer=None, **changed):
    """What changes the answer to where the first experiment's volumes lie."""
    return lambda found: (
        found if found[0]["attachable_id"] != FIRST else answer or [found[0] | changed]
    )


# What a service does to its answers, and what is said of the first experiment, or of all (None).
ODD_RECORDS = {
    "a strain that is a number": (record(strain=7), "says strain = '7'"),
    "a strain with a line break": (record(strain="a\nb"), "says strain = "),
    "a strain that moves the cursor": (record(strain="\x1b[2J"), "says strain = "),
    "a line without end": (record(transgenic_line={"name": "x" * 1900}), ""),
    "a sex that is a list": (record(gender=["F"]), "says sex = "),
    "a volume that is text": (record(injection_volume="much"), "says injection_volume = 'much'"),
    "a place that is too far": (record(injection_x=10**30), "says injection_ap = "),
    "a place that is true": (record(injection_x=True), "says injection_ap = 'True'"),
    "a structure that is a list": (record(structure_id=[1]), "says structure_id = "),
    "an id that is text": (record(data_set_id="../x"), None),
    "an id with a part": (record(data_set_id=101.5), None),
    "an id below nought": (record(data_set_id=-5), None),
    "an id of too many digits": (record(data_set_id=10**20), None),
    "an id that is null": (record(data_set_id=None), None),
    "the same id twice": (record(data_set_id=OTHER), None),
    "no id": (lambda records: [{"strain": "x"}], None),
    "structures that are numbers": (record(injection_structures=5), None),
    "a very long name": (record(strain="x" * 10**5), None),
    "a lone surrogate": (record(strain="\ud800"), None),
    "not a number": (record(injection_volume=float("nan")), ""),  # as no value
    "deep lists": (record(extra=json.loads("[" * 30 + "]" * 30)), None),
    "no records": (lambda records: [], None),
    "a text": (lambda records: "records", None),
    "numbers": (lambda records: [1, 2], None),
    "an object": (lambda records: {"0": records}, None),
}
ODD_LINKS = {
    "another brain's link": (link(attachable_id=OTHER), "no answer to where"),
    "the same link for two": (link(download_link="/api/v2/well_known_file_download/500000001"), ""),
    "another host": (link(download_link="//evil.org/x"), "no answer to where"),
    "another host before an @": (link(download_link="@evil.org/x"), "no answer to where"),
    "another port": (link(download_link=":99/x"), "no answer to where"),
    "an address": (link(download_link="http://evil.org/x"), "no answer to where"),
    "a link with a line break": (link(download_link="/a\r\nHost: b"), "no answer to where"),
    "a link of other letters": (link(download_link="/\xff"), "no answer to where"),
    "a link that is none": (link(download_link=None), "no answer to where"),
    "a link without end": (link(download_link="/" + "x" * 3000), "no answer to where"),
    "no link": (link([{"attachable_id": FIRST}]), "no answer to where"),
    "numbers": (link([1]), "no answer to where"),
    "a text": (link("x"), "no answer to where"),
}


class OddServer(AllenServer):
    """The case that an address begins with changes what is answered."""

    def find(self, path):
        number = re.match(r"/case-(\d+)/", path)
        found = super().find(path.replace(number[0], "/", 1) if number else path)
        if number and found and found[1] is not None:
            change, _ = [*ODD_RECORDS.values(), *ODD_LINKS.values()][int(number[1])]
            is_of_records = int(number[1]) < len(ODD_RECORDS)
            if is_of_records == (found[0] == "experiments"):
                found = found[0], change(found[1])
        return found


@pytest.mark.promise("of an odd answer of the service nothing is believed, and one line says why")
def test_odd_answers(acquire_python, tmp_path, record_property):  # noqa: F811
    sections = dict.fromkeys(map(int, METADATA.index))
    cases = [*ODD_RECORDS.items(), *ODD_LINKS.items()]
    with OddServer(sections, METADATA) as server:
        todo = [
            [tmp_path / f"{n}", "--no-atlas", "--base-url", f"{server.url}/case-{n}"]
            + ["--download-url", server.url, "--experiments", f"{FIRST},{OTHER}"]
            for n in range(len(cases))
        ]
        (kept := tmp_path / "kept").mkdir()  # with an address that it had before it was odd
        (kept / "experiments.csv").write_text(ROW.format(FIRST, f"{server.url}/case-0"))
        *answers, (status, _) = run_questions(acquire_python, [*todo, [kept, *todo[0][1:]]])
    row = rows_of(kept)[FIRST]
    assert status == 1 and not row["url"] and "says strain = '7'" in row["refused"]
    for n, ((name, (_, expected)), (status, said)) in enumerate(zip(cases, answers, strict=True)):
        rows = rows_of(tmp_path / f"{n}")
        if expected is None:
            assert (status, rows) == (2, None), name
            assert said.startswith("ask_allen: ") and said.count("\n") == 1, name
            assert len(said) < 900 and "gave no usable answer" in said, (name, said)
            continue
        row, other = rows[FIRST], rows[OTHER]
        if name == "the same link for two":
            assert not row["url"] and not other["url"], name
            assert "volumes of another" in row["refused"] == other["refused"]
        else:
            assert other["url"] and not other["refused"], name
            assert bool(row["url"]) == (not expected) and expected in row["refused"], (name, row)
        assert status == int(bool(row["refused"])), name
    record_property("cases", len(cases))

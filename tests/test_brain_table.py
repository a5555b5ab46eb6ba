"""A lab's metadata.csv: text first, a type a column that is told, and what is ambiguous refused."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core.cohorts import (
    drawn_atlas,
    known_factors,
    open_cohort,
    preprocess,
    read_sections,
    simulate,
)
from brainvae_core.cohorts.brain_table import read_brain_table

THREE = ["m0", "m1", "m2"]


@pytest.fixture
def read(tmp_path, capsys):
    """Columns of a table with this content, and what was told of them."""

    def read(content, brains=THREE):
        path = tmp_path / "metadata.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        table = read_brain_table(path, list(brains))
        assert list(table.index) == list(brains) and table.index.name == "id"
        told = capsys.readouterr().out.removesuffix("\n").removeprefix(f"{path}: ")
        return {name: column.tolist() for name, column in table.items()}, told

    return read


SEX_AGE = {"sex": ["F", "M", "F"], "age": [50, 51, 52]}
PLAIN = "id,sex,age\nm0,F,50\nm1,M,51\nm2,F,52\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "id,sex,age\nm0,F,50,\nm1,M,51,\nm2,F,52,\n",  # pandas-dev/pandas 14124
        "id,sex,age,,\nm0,F,50,,\nm1,M,51,,\nm2,F,52,,\n",
        "id,sex,age\n,,\nm0,F,50\n\n,,\nm1,M,51\nm2,F,52\n,\n,\n",  # 10647
        " id , sex,age \n m0 , F ,50 \nm1,\u00a0M\t, 51\nm2,F,52",
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", "\t").encode("utf-16"),
        PLAIN.replace(",", ";"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        'id,sex,age\n"m0","F","50"\n"m1","M","51"\n"m2","F","52"\n',
        PLAIN + "other,M,?\n",
        ",sex,age\nm2,F,52\nm1,M,51\nm0,F,50\n",
    ],
)
def test_a_table_is_read_however_a_program_wrote_it(read, content):
    found, told = read(content)
    assert found == SEX_AGE and told == "sex: text of two kinds (F, M); age: numbers"


@pytest.mark.parametrize(
    ("cells", "values", "told"),
    [
        ("1|2|3", [1, 2, 3], "numbers"),
        ("1|2.5|−3e1", [1, 2.5, -30], "numbers"),
        ("1||3", [1, np.nan, 3], "numbers"),
        ("1|NA|3", [1, np.nan, 3], "numbers (NA is no value)"),
        ("1,5|2|-0,25", [1.5, 2, -0.25], "numbers with decimal commas"),
        ("1,234|2,5|3", [1.234, 2.5, 3], "numbers with decimal commas"),
        ("7|7|7", [7, 7, 7], "numbers, the same in every brain, not set against latents"),
        ("wt|ko|", ["wt", "ko", np.nan], "text of two kinds (ko, wt)"),
        ("None|CNO|CNO", ["None", "CNO", "CNO"], "text of two kinds (CNO, None)"),
        ("F|M|NA", ["F", "M", "NA"], "NA is a third kind; leave such a cell empty"),
        ("F|M|f", ["F", "M", "f"], "text, not set against latents: 3 kinds (F, M, f) for two"),
        ("a|a|a", ["a", "a", "a"], "text, the same in every brain, not set against latents"),
        ("56|P57|58", ["56", "P57", "58"], "text, not set against latents: 'P57' is no number"),
        ("1.5|2,5|3", ["1.5", "2,5", "3"], "text, not set against latents: '2,5' is no number"),
        ("1e999|2|3", ["1e999", "2", "3"], "'1e999' is no number"),
        ("1_0|2|3", ["1_0", "2", "3"], "'1_0' is no number"),
        ("1,234|2,345|500", ["1,234", "2,345", "500"], "1,234 may be thousands or a decimal"),
    ],
)
def test_a_columns_type_is_decided_by_all_of_its_values_and_told(read, cells, values, told):
    rows = "\n".join(f'{b},x,"{c}"' for b, c in zip(THREE, cells.split("|"), strict=True))
    found, of_columns = read(f"id,note,column\n{rows}\n")
    assert pd.Series(found["column"], dtype=object).equals(pd.Series(values, dtype=object))
    assert told in of_columns.partition("column: ")[2]
    rows = rows.replace(",x,", ";x;").replace('"', "")
    if "thousands" in told:  # where commas separate nothing they are decimal
        assert read(f"id;note;column\n{rows}\n")[0]["column"] == [1.234, 2.345, 500]


def test_points_stand_between_thousands_where_commas_are_decimal(read):
    found, told = read("id;n;g;w\nm0;950;0.500;1,5\nm1;1.050;1.250;2\nm2;1.200.000;2;3\n")
    assert found == {"n": [950, 1050, 1_200_000], "g": [0.5, 1.25, 2], "w": [1.5, 2, 3]}
    assert told.startswith("n: numbers with points between thousands; g: numbers; w: numbers with")
    assert read("id;n\nm0;950\nm1;1.050\nm2;1.2\n")[0] == {"n": [950, 1.05, 1.2]}


def test_names_of_brains_are_text_in_one_unicode_form(read, tmp_path):
    names = ["NA", "None", "007", "1e3", "Zoë"]
    two_forms = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    assert two_forms[0] != two_forms[1]
    for form in two_forms:
        rows = "\n".join(f"{name},{i}" for i, name in enumerate([*names[:4], form]))
        assert read(f"mouse,n\n{rows}\n", names)[0] == {"n": [0, 1, 2, 3, 4]}
    rng = np.random.default_rng(0)
    for name in [*names[:4], two_forms[1]]:
        np.save(tmp_path / f"{name}.npy", rng.random((320, 456)))
    _, metadata, refused_brains = read_sections(tmp_path)
    assert sorted(metadata.index) == sorted(names) and not refused_brains


def test_what_is_ambiguous_or_no_table_is_refused_with_its_line(tmp_path):
    path = tmp_path / "metadata.csv"
    for content, words in (
        ("id,sex\nm0,F\nm1,M\nM2,M\n", "no row for brains m2: .*no brain here are M2"),
        ("id,sex\nm0,F\nm0 ,F\nm1,M\nm2,F\n", r"ids twice: m0 \(lines 2, 3\); leave one row"),
        ("id,sex\nm0,F\n,M\nm1,M\nm2,F\n", "line 3 has no brain's name"),
        ("id,sex,weight\nm0,F,20,5\n", "line 2 has 4 values for 3 columns; does .* ',' in it"),
        ("id,sex,age\nm0,F,50\nm1,51\n", "line 3 has 2 values for 3 columns; leave a value empty"),
        ("id,sex,,age\nm0,F,,50\n", "column 3 has no name"),
        ("id,sex,sex \nm0,F,M\n", "columns twice: sex"),
        ('id,sex\nm0,"F\nm1,M\n', "no table of brains: line"),
        (
            "id,gain,a_z\nm0,1,2\nm1,1,2\nm2,1,2\n",
            "columns of quality control: a_z, gain; rename them",
        ),
        (" \n,,\n", "it is empty"),
        (b"id,sex\nm0,\xe9\n", "in UTF-8; save it as CSV UTF-8"),
    ):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused([(rf"metadata.csv.*{words}", read_brain_table, path, THREE)])
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    np.save(tmp_path / "m0.npy", np.eye(320, 456))
    refused([("metadata.csv is no file that can be read", read_sections, tmp_path)])
    path.unlink()
    (tmp_path / "Metadata.xlsx").touch()
    why = read_sections(tmp_path)[2]
    assert why == {"Metadata.xlsx": "no brain; the table of brains has the name metadata.csv"}


def test_any_name_of_a_column_is_kept_with_the_cohort_and_known(tmp_path):
    made = simulate(20, shape=(40, 56), artefact_share=0, seed=1)
    atlas, names = drawn_atlas().resampled((40, 56)), ["dose mg/kg", "a.b\\c", "%", "CON", "größe"]
    rows = [",".join(["id", *names, "sex"])]
    brains = list(made.metadata.index)
    rows += [",".join([b, *map(str, range(i, i + 5)), "FM"[i % 2]]) for i, b in enumerate(brains)]
    (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    table = read_brain_table(tmp_path / "metadata.csv", brains)
    cohort = preprocess(made.images, table, atlas, outlier_limit=1e6)
    again = open_cohort(cohort.save(tmp_path / "kept"))
    assert {*names, "sex M"} <= set(known_factors(again))
    assert again.metadata["dose mg/kg"].equals(cohort.metadata["dose mg/kg"])

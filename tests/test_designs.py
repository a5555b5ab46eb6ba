"""Who is left to compare, once brains without a covariate are left out."""

import pandas as pd
import pytest
from refusals import refused

from brainvae_core.metrics import asked_design, design_of, usable_brains

TABLE = pd.DataFrame(
    {
        "genotype": ["WT"] * 4 + ["KO"] * 3 + ["HET"] * 2,
        "age": [61, 60, 64, 62, 60, 63, None, 61, 66],
        "batch": ["a", "b", "a", "b", "a", "b", "a", "b", "c"],
        "dose": range(9),
    },
    index=[f"m{i}" for i in range(9)],
)
TWO = TABLE[:7]


def test_a_design_is_of_the_brains_that_can_be_used():
    design, used, why = asked_design(TWO, "genotype", ["age"])
    wanted, told = usable_brains(TWO, "genotype", ["age"])
    assert used.tolist() == wanted.tolist() and why == told == {"m6": "no age"}
    assert design.contrast == "KO − WT" and list(design.brains) == [f"m{i}" for i in range(6)]
    assert (design.matrix == design_of(TWO[:6], "genotype", ["age"]).matrix).all()
    assert asked_design(TABLE, "dose", ["age"])[0].contrast == "per unit of dose"


@pytest.mark.parametrize(
    "gone, left", [(["m5"], "one brain, m4, is"), (["m4", "m5"], "no brain is")]
)
def test_a_group_that_a_covariate_leaves_too_small_is_told_by_its_brains(gone, left):
    table = TWO.copy()
    table.loc[gone, "age"] = None
    lost = ", ".join(f"{brain} (no age)" for brain in [*gone, "m6"])
    told = f"^of genotype 'KO' {left} left, .* left out for a covariate: {lost}; correct"
    refused(
        [
            (
                told.replace("(no", r"\(no").replace("age)", r"age\)"),
                asked_design,
                table,
                "genotype",
                ["age"],
            )
        ]
    )
    assert len(asked_design(table, "genotype")[0].brains) == 7

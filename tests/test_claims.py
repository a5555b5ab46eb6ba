"""Claims: settings, margins and verdicts of differences in a table."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core.claims import Claims
from brainvae_core.metrics import compare, named, scores_table, verdict


def table(**means):
    rng = np.random.default_rng(0)
    of_brain = rng.normal(0, 1, 12)
    return pd.concat(
        [
            scores_table({"s": of_brain + mean + rng.normal(0, 0.1, 12)}).assign(model=name, at=at)
            for name, by_at in means.items()
            for at, mean in by_at.items()
        ],
        ignore_index=True,
    )


TABLE = table(a={"small": 1.0, "large": 2.0}, b={"small": 0.0, "large": 2.0})


def test_settings_are_the_groups_or_the_two_that_are_compared():
    says = Claims()
    says.add("a is ahead", TABLE, "a", "b", 0.3, by="at")
    rows = compare(TABLE, "a", "b", by="at")
    assert says.found == {"a is ahead": named(rows, "{at}")} and says.margins["a is ahead"] == 0.3
    assert says["a is ahead"] == verdict(says.found["a is ahead"].values(), 0.3) == "depends"
    small = TABLE[TABLE["at"] == "small"]
    says.add("one setting", small, "a", "b", 0.3)
    assert says["one setting"] == "holds"
    assert says.only("one setting") == says.only("a is ahead", "small")
    says.add("along", TABLE[TABLE["model"] == "a"], "large", "small", 0.3, of="at")
    assert says.found["along"].keys() == {"large less small"}


def test_a_claim_grows_by_settings_and_keeps_its_margin():
    says, large = Claims(), TABLE[TABLE["at"] == "large"]
    says.add("alike", large, "a", "b", 0.3)
    says.add("alike", large, "b", "a", 0.3)
    assert says["alike"] == "equivalent" and len(says.found["alike"]) == 2
    refused(
        [
            ("alike: margin=0.2, but 0.3 was said before", says.add, "alike", large, "a", "b", 0.2),
            ("alike: the setting 'a less b' is there", says.add, "alike", large, "a", "b", 0.3),
        ]
    )
    with pytest.raises(KeyError):
        says["never said"]

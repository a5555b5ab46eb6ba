"""What section 3.3 of the paper says of the latents, decided from the tables of `readings`.

Each function gives, by claim and setting, estimates that are positive where the claim holds, for
``Record(claims=…, margins=MARGINS)``. For each the tests have a model of which it is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from brainvae_core.metrics import (
    Estimate,
    estimate,
    from_resamples,
    jackknife,
    match_latents,
    sidedness_beyond_chance,
)
from brainvae_core.readings import by_fit, code_matrix, include_value, reading

ALMOST_ALL, MANY = 0.75, 0.5  # shares of the latents
SOME_PAIRS = 0.1  # of the pairs of a region and a latent
ONE_LATENT = 0.125  # of eight
SAME_LATENT = 0.9  # |r| over brains of a latent and its match

# The least effect that would matter, in the unit of each claim's number.
MARGINS = {
    "HPF modulates almost all latents": ONE_LATENT,
    "HPF modulates more latents than any other region": ONE_LATENT,
    "STR reaches many latents": ONE_LATENT,
    "many latents have a localised receptive field": ONE_LATENT,
    "some latents are not modulated by some regions": 0.05,
    "bright spots appear at the extremes of c": ONE_LATENT,
    "some latents' tails stand out": ONE_LATENT / 2,
    "one tail holds the suspected brains": 0.1,
    "one tail moves SSp, HPF and RSP": 0.1,
    "a latent's two fields differ in HPF more than PCA's do": 0.05,
    "PCA: a latent moves what it sees": 0.1,
    "VAE: a latent moves what it sees": 0.1,
    "β-VAE: a latent moves what it sees": 0.1,
    "β-VAE less correlated than VAE": 0.05,
    "β-VAE less correlated than PCA": 0.05,
    "β-VAE less correlated than its random axes": 0.05,
    "latents come back in another fit": 0.05,
}
ANATOMICAL = ("SSp", "HPF", "RSP")  # barrel fields, hippocampus, retrosplenial areas


def receptive_claims(rows: pd.DataFrame, n_brains: int) -> dict[str, dict[str, Estimate]]:
    """Of one model's rows of the table "statements", over ``n_brains`` brains."""
    moved = rows[rows["score"] == "share moved"]
    by_region = dict(iter(moved.groupby("region", sort=False)))
    of = {name: reading(one, n_brains, bounds=(0, 1)) for name, one in by_region.items()}
    claims = {}
    if "HPF" in of:
        others = [by_fit(one) for name, one in by_region.items() if name != "HPF"]
        most = (np.max(part, axis=0) for part in zip(*others, strict=True))
        more = [own - next_ for own, next_ in zip(by_fit(by_region["HPF"]), most, strict=True)]
        more = include_value(from_resamples(*more, n_brains))
        claims["HPF modulates almost all latents"] = {"share − ¾": of["HPF"].above(ALMOST_ALL)}
        claims["HPF modulates more latents than any other region"] = {"share − next": more}
    if "STR" in of:
        claims["STR reaches many latents"] = {"share − ½": of["STR"].above(MANY)}
    for claim, score, least in (
        ("many latents have a localised receptive field", "share localised", MANY),
        ("some latents are not modulated by some regions", "share not moved", SOME_PAIRS),
    ):
        of_score = rows[rows["score"] == score]
        claims[claim] = {
            over: reading(of_over, n_brains, bounds=(0, 1)).above(least)
            for over, of_over in of_score.groupby("over", sort=False)
        }
    return claims


def projective_claims(
    rows: pd.DataFrame, codes: pd.DataFrame, rois: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """Of one model's rows of the tables "tails" and "codes"; ``rois`` are the profile's regions."""
    ends, near = (share_of_latents(rows, f"spot {at}") for at in ("at the ends", "when moved by 2"))
    stars = estimate(share_of_latents(rows, "star"), bounds=(0, 1))
    claims = {
        "bright spots appear at the extremes of c": {
            "share − when moved by 2 SD": estimate(ends - near)
        },
        "some latents' tails stand out": {"share − one in sixteen": stars.above(ONE_LATENT / 2)},
    }
    fits = [
        (code_matrix(z), z.groupby("brain")["clean"].first().to_numpy() == 0)
        for _, z in codes.groupby("seed")
    ]
    if fits[0][1].sum() > 2:
        claims["one tail holds the suspected brains"] = {
            "on one side − chance": jackknife(sidedness_beyond_chance, fits)
        }
    of_region = rows[rows["score"] == "tail asymmetry"].set_index(["seed", "brain", "latent"])
    anatomical = of_region["region"].isin(ANATOMICAL)
    if {*ANATOMICAL} <= {*rois} and len(rois) > len(ANATOMICAL):
        one_tail = [
            of_region.loc[of, "value"].groupby(level=[0, 1, 2]).mean().abs()
            for of in (anatomical, ~anatomical)
        ]
        more = (one_tail[0] - one_tail[1]).groupby(level=[0, 1]).mean().unstack().to_numpy()
        claims["one tail moves SSp, HPF and RSP"] = {"asymmetry − elsewhere": estimate(more)}
    return claims


def association_claims(
    rows: pd.DataFrame, codes: Mapping[str, Sequence[np.ndarray]], n_brains: int, n_regions: int
) -> dict[str, dict[str, Estimate]]:
    """Of the rows of the table "statements" of PCA, VAE and β-VAE, and of codes.

    Parameters
    ----------
    rows, n_brains, n_regions
        As for `receptive_claims`, with the number of all regions, of all three models; models are
        compared from two fits on.
    codes : mapping of model to sequence of ndarray, each (n_brains, latent_dim)
        Of unsuspected brains, a fit each.
    """

    def of(score, model, over=None, region=None):
        found = rows[(rows["score"] == score) & (rows["model"] == model)]
        found = found if over is None else found[found["over"] == over]
        return found if region is None else found[found["region"] == region]

    sets = list(rows["over"].dropna().unique())
    every, claims = sets[-1], {}
    if len(gap := of("largest gap", "β-VAE", region="HPF")):
        of_pca = of("largest gap", "PCA", region="HPF")
        claims["a latent's two fields differ in HPF more than PCA's do"] = {
            "largest difference − PCA's": reading(gap, n_brains, less=of_pca)
        }
    for model in ("PCA", "VAE", "β-VAE"):
        beyond = reading(of("agreement beyond", model, every), n_brains, n_regions)
        claims[f"{model}: a latent moves what it sees"] = {"agreement − with others": beyond}
    own = {over: of("uncorrelatedness", "β-VAE", over) for over in sets}
    for other in ("VAE", "PCA"):
        if len(codes["β-VAE"]) > 1:  # of one fit nobody knows what the next one is like
            claims[f"β-VAE less correlated than {other}"] = {
                over: reading(own[over], n_brains, less=of("uncorrelatedness", other, over))
                for over in sets
            }
    claims["β-VAE less correlated than its random axes"] = {
        over: reading(_beyond_axes(own[over]), n_brains) for over in sets
    }
    if len(codes["β-VAE"]) > 1:
        found = latent_stability(codes["β-VAE"])
        claims["latents come back in another fit"] = {"|r| − 0.9": found.above(SAME_LATENT)}
    return claims


def share_of_latents(rows: pd.DataFrame, score: str) -> np.ndarray:
    """Share of the latents of which a score of "tails" is 1, (n_fits, n_brains)."""
    found = rows[rows["score"] == score]
    return found.groupby(["seed", "brain"])["value"].mean().unstack().to_numpy()


def latent_stability(fits: Sequence[np.ndarray]) -> Estimate:
    """Mean |r| of matched latents over all pairs of fits, and over 100 resamples of the brains.

    Of codes (n_brains, latent_dim) of the same brains, at least two fits. Pairs share fits, so
    the fits' part is a jackknife: each fit's pseudo-value, from the pairs with and without it.
    """
    rng, n_brains = np.random.default_rng(0), len(fits[0])
    every = np.arange(n_brains)
    draws = [every, *(rng.integers(n_brains, size=n_brains) for _ in range(100))]
    pairs, n = list(combinations(range(len(fits)), 2)), len(fits)
    found = np.array(
        [
            [match_latents(fits[i][at], fits[j][at]).correlation.mean() for at in draws]
            for i, j in pairs
        ]
    )
    if n > 2:
        without = [[i not in pair for pair in pairs] for i in range(n)]
        found = n * found.mean(axis=0) - (n - 1) * np.array(
            [found[of].mean(axis=0) for of in without]
        )
    of = include_value(from_resamples(found[:, 0], found[:, 1:], n_brains, bounds=(0, 1)))
    return of._replace(n_seeds=n)


def _beyond_axes(rows) -> pd.DataFrame:
    """Each fit's score less the mean of its own random axes, and as many draws of the two."""
    parts = []
    for seed, of in rows.groupby("seed"):
        value, draws, turned = (
            of.loc[of["kind"] == kind, "value"].to_numpy() for kind in ("value", "draw", "rotated")
        )
        draws = draws - np.resize(turned, len(draws))
        kinds = ["value"] * len(value) + ["draw"] * len(draws)
        found = np.concatenate([value - turned.mean(), draws])
        parts.append(pd.DataFrame({"seed": seed, "kind": kinds, "value": found}))
    return pd.concat(parts)

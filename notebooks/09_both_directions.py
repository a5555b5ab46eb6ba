# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9 · Both directions at once
#
# **Does a latent change the regions that move it, do latents share their regions, and does another fit have the same latents?**
#
# **Answer.** A latent's two fields agree weakly: {glue:text}`both_own` (rank correlation over {glue:text}`both_regions` regions), {glue:text}`both_beyond` more than those of two
# different latents. Another fit has other latents: {glue:text}`both_returned`. On the paper's uncorrelatedness the β-VAE scores {glue:text}`both_uncorrelated` over all regions, PCA
# {glue:text}`both_uncorrelated_pca` and the VAE {glue:text}`both_uncorrelated_vae`.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
rois = None  # the profile's, as the next
n_read = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
from itertools import combinations

import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.fields import cross_agreement, impact_correlation
from brainvae_core.latent_claims import MARGINS, association_claims, latent_stability
from brainvae_core.metrics import match_latents, matching_null, named, verdict
from brainvae_core.readings import code_matrix, matrix, reading
from brainvae_core.record import Record, quoted
from brainvae_core.results import table

# %% [markdown]
# Every fit of PCA, VAE and β-VAE at 320 × 448 was read on the same {glue:text}`both_n` unsuspected test brains. The regions are the six of chapter 7, and then every region
# of the slice. One call reads the numbers. Matrices show the first fit of the β-VAE; scores are of all fits.

# %%
fields, said, codes = table(p, "fields"), table(p, "statements"), table(p, "codes")

# %% tags=["hide-input"]
models, n = ["PCA", "VAE", "β-VAE"], p.fields.n_read
fits = said.groupby("model")["seed"].nunique()[models]
first = fields[(fields["model"] == "β-VAE") & (fields["seed"] == fields["seed"].min())]
sets = {over: list(of["region"].unique()) for over, of in first.groupby("over", sort=False)}
few, every = sets
field = {
    (over, score): matrix(of[of["score"] == score], sets[over])
    for over, of in first.groupby("over", sort=False)
    for score in ("divergence", "profile")
}
source = f"{n} unsuspected test brains, {len(sets[every])} regions"
one_fit = f"{source}, one β-VAE (seed {first['seed'].iloc[0]})"
all_fits = ", ".join(f"{count} of {name}" for name, count in fits.items())
print(f"fits: {all_fits}; regions: {', '.join(sets[every])}")

# %% [markdown]
# ## Does a latent change the regions that move it?
#
# Left: the share of each region in a latent's projective field (chapter 8). Right: its share in the receptive field (chapter 7). On the left a region's variance is the mean over its
# pixels, so its size does not count. On the right the whole region is changed, so it does: shares of one region differ between the fields for that reason too.

# %% tags=["hide-input"]
profile_of = field[every, "profile"].T
figures.fig_region_profile(profile_of, sets[every], field[every, "divergence"]).shows(
    "The two fields of each latent of one β-VAE, as shares of the latent's sum over regions."
).made_from(one_fit)

# %% [markdown]
# The next figure correlates each receptive field with each projective field, by ranks over regions. The paper compared the diagonal by eye, for its Factor 8 and HPF.
# Some regions move all latents more, and change more, than others do. So only what the diagonal has beyond its row says something of a latent.
#
# A latent's share of HPF (of six regions) differs between its two fields by {glue:text}`both_gap` percentage points in the latent that differs most (mean over fits), of PCA by {glue:text}`both_gap_pca`, though PCA's two
# directions share their loadings. More than PCA's: {glue:text}`both_gap_verdict`.

# %% tags=["hide-input"]
agreement = cross_agreement(field[every, "divergence"], profile_of)
figures.fig_agreement(agreement).shows(
    "Correlation of each latent's receptive field with each latent's projective field, in one β-VAE."
).made_from(one_fit)

# %% tags=["hide-input"]
of_score = dict(iter(said[said["over"] == every].groupby(["score", "model"])))
panels = {
    "agreement": "Own fields: rank correlation",
    "agreement beyond": "Excess over other latents' fields",
}
agreed = pd.DataFrame(
    [
        {"part": part, "score": title, "model": k}
        | reading(of_score[part, k], n, len(sets[every]))._asdict()
        for part, title in panels.items()
        for k in models
    ]
)
nothing = {"score": panels.values(), "model": ["no agreement", "no excess"], "value": 0.0}
figures.fig_scores(agreed, references=pd.DataFrame(nothing), columns=2).shows(
    "A: how far a latent's two fields agree. B: how much more than the fields of two different latents."
).made_from(f"{source}; fits: {all_fits}")

# %% [markdown]
# ## Fig. 3D · Do latents share their regions?
#
# The matrix of Fig. 3B gives each latent's share of each region's effect. Fig. 3D correlates these shares between latents, over regions.

# %% tags=["hide-input"]
figures.fig_3d({over: impact_correlation(field[over, "divergence"]) for over in sets}).shows(
    "Red: two latents respond to the same regions; blue: to different ones."
).made_from(one_fit)

# %% [markdown]
# With only six regions correlations of unrelated latents are often large, so B says more than A.
#
# ## Fig. 3E · How uncorrelated the impacts are
#
# The paper's score is one minus the mean absolute correlation of Fig. 3D. Grey shows independent latents: with six regions they score about 0.6, not 1. Sand shows random
# axes of the same codes. Over the six regions the β-VAE scores {quoted}`09_both_directions: uncorrelatedness over 6 named regions, β-VAE`, PCA
# {quoted}`09_both_directions: uncorrelatedness over 6 named regions, PCA` and the VAE {quoted}`09_both_directions: uncorrelatedness over 6 named regions, VAE`.

# %% tags=["hide-input"]
scored = said[(said["score"] == "uncorrelatedness") & said["model"].isin(models)]
scores = pd.DataFrame(
    [
        {"over": over, "model": k}
        | reading(scored.query("over == @over and model == @k"), n, bounds=(0, 1))._asdict()
        for over in sets
        for k in models
    ]
)
chance = scored[scored["kind"].isin(["permuted", "rotated"])]
figures.fig_3e(scores, chance).shows(
    "Uncorrelatedness over the six regions and over all."
).made_from(f"{source}; fits: {all_fits}; bars: 95 % over brains and fits")

# %% [markdown]
# ## Does another fit have the same latents?
#
# Latents of two fits are first paired, one to one, so that the sum of their |r| over brains is largest. Chance is the same with random
# axes of one fit's codes, because two fits may share the space of their codes but not its axes.

# %% tags=["hide-input"]
clean = codes[codes["clean"] == 1]
of_fit = {
    k: [code_matrix(z) for _, z in clean[clean["model"] == k].groupby("seed")] for k in models
}
pairs = {k: list(combinations(z, 2)) for k, z in of_fit.items() if len(z) > 1}
found = {k: np.stack([match_latents(a, b).correlation for a, b in of]) for k, of in pairs.items()}
random = {
    k: np.concatenate([matching_null(*pair, 200, 0) for pair in of]) for k, of in pairs.items()
}
figures.fig_stability(found, random).shows(
    "Correlation over brains of the paired latents of two fits; in the grey range it is no larger than by chance."
).made_from(f"{len(of_fit['β-VAE'][0])} unsuspected test brains; fits: {all_fits}")

# %% [markdown]
# ## What the paper says
#
# - Receptive and projective field differ (Factor 8 and HPF): a latent's share of HPF differs more between its two fields, at most, than in PCA (margin 0.05).
# - The β-VAE's latents are less correlated than the VAE's and PCA's (margin 0.05).
# - Ours: a latent's two fields agree more than the fields of two latents (margin 0.1).
# - Ours: the β-VAE's axes are less correlated than random axes of its own codes (margin 0.05).
# - Ours: latents come back in another fit with |r| above 0.9 (margin 0.05).
#
# The last statement and the comparison of models need two fits or more.

# %% tags=["hide-input"]
claims = association_claims(said, of_fit, n, len(sets[every]))
gap = said.query("score == 'largest gap' and region == 'HPF' and kind == 'value'")
gap = gap.groupby("model")["value"].mean()
back = {k: latent_stability(of_fit[k]) for k in pairs}
numbers = {
    **named(agreed.query("part == 'agreement'"), "agreement of a latent's two fields, {model}"),
    **named(
        agreed.query("part == 'agreement beyond'"), "that less two latents' agreement, {model}"
    ),
    **named(scores.query("over == @few"), f"uncorrelatedness over {few}, {{model}}"),
    **named(scores.query("over == @every"), f"uncorrelatedness over {every}, {{model}}"),
    **{f"|r| of matched latents of two fits, {k}": of for k, of in back.items()},
}
Record(numbers, claims, MARGINS)

# %% [markdown]
# {glue:text}`both_compared`

# %% tags=["hide-input", "hide-output"]
told = {claim: verdict(of.values(), MARGINS[claim]) for claim, of in claims.items()}
one = "Of each VAE one fit is read so far, so neither the comparison of models nor the return of latents is decided."
more = [f"{k}: {v}" for k, v in told.items() if "correlated than" in k]
more = f"{'; '.join(more)}. " + ". ".join(
    f"Paired latents of two fits of the {k} correlate by {of}, of random axes by {random[k].mean():.2f}"
    for k, of in back.items()
)
wide = scores.set_index(["over", "model"])["value"]
quoted(
    both_own=numbers["agreement of a latent's two fields, β-VAE"],
    both_beyond=numbers["that less two latents' agreement, β-VAE"],
    both_regions=len(sets[every]),
    both_gap=f"{100 * gap.get('β-VAE', np.nan):.0f}",
    both_gap_pca=f"{100 * gap.get('PCA', np.nan):.0f}",
    both_gap_verdict=told.get(
        "a latent's two fields differ in HPF more than PCA's do", "not asked"
    ),
    both_uncorrelated=wide[every, "β-VAE"],
    both_uncorrelated_vae=wide[every, "VAE"],
    both_uncorrelated_pca=wide[every, "PCA"],
    both_n=n,
    both_compared=f"{more}." if pairs else one,
    both_returned=f"matched ones correlate by {back['β-VAE']}, random axes by {random['β-VAE'].mean():.2f}"
    if pairs
    else "one fit is read",
    both_fits=all_fits,
)

# %% tags=["hide-input"]
n_active = said.query("score == 'active latents' and model in @models")["value"]
axes = chance.query("kind == 'rotated'").groupby(["over", "model"])["value"].median()
pd.Series(
    {
        "all fits have the same number of active latents": n_active.nunique() == 1,
        "and as many as L": n_active.max() == p.model.latent_dim,
        "fields of a region are shares of something": bool((fields["value"] >= 0).all()),
        "scores lie within 0.2 of random axes": bool(((wide - axes).abs() < 0.2).all()),
        "the two fields of PCA's latents agree": agreed.set_index(["part", "model"]).loc[
            ("agreement beyond", "PCA"), "low"
        ]
        > 0,
        "some latent gives HPF more than an equal share of its profile": field[few, "profile"][
            sets[few].index("HPF") if "HPF" in sets[few] else 0
        ].max()
        > field[few, "profile"].mean(),
    }
).astype(bool).to_frame("true")

# %% [markdown]
# **How sure.** Fits: {glue:text}`both_fits`. Intervals of the agreement resample brains and regions, those of uncorrelatedness brains, because a region drawn twice correlates
# with itself. With two fits or more they include the spread of fits, known roughly from so few. [Chapter 10](10_truth.ipynb) asks how
# true such readings are, where the truth is known.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)

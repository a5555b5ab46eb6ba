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
# # 17 · What the paper says of the latents
#
# **Which statements of section 3.3 hold here?** Each, with a few of our own beside them, is put as numbers that should be positive, with 95 % intervals
# over brains, regions or latents, and over fits: it *holds* where every interval is above zero, *depends* where some are, *does not hold*
# where none is and some lie below, and is *not shown* where all hold zero.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
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
from brainvae_core.cohorts import artefact_free
from brainvae_core.fields import (
    agreement_of_fits,
    null_divergence,
    outlier_latents,
    read_fits,
    scored_fits,
    tail_asymmetry,
)
from brainvae_core.metrics import (
    active_latents,
    estimate,
    explained_variance,
    from_resamples,
    jackknife,
    match_latents,
    sidedness_beyond_chance,
    verdict,
)
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import fitted_models

# %%
whole = prepare_cohort(p)
cohort = whole.resampled(p.evaluation.shape)
evaluated = fitted_models(p, "evaluated", cohort)
print(cohort)

# %%
clean, test = artefact_free(whole), (whole.metadata["split"] == "test").to_numpy()
brains, few = cohort.images[clean & test], cohort.images[clean & test][: p.fields.n_read]
regions, n = cohort.atlas.regions(p.fields.region_share), len(few)
c = np.linspace(-p.fields.c_max, p.fields.c_max, 57)
models = {
    name: [m for m in evaluated[name] if active_latents(m.encode(brains)).sum() >= 2]
    for name in ("PCA", "VAE", "β-VAE")
}
if dead := [name for name, fits in models.items() if not fits]:
    raise ValueError(f"no fit of {', '.join(dead)} has 2 active latents; fit longer or lower beta")
active = {k: [active_latents(m.encode(brains)) for m in fits] for k, fits in models.items()}
claims = {}

# %%
six = read_fits(models, few, cohort.atlas.roi_masks(p.fields.rois), c)
every = read_fits(models, few, cohort.atlas.roi_masks(regions), c)
source = f"Cohort {cohort.name}: {n} clean test brains, {len(p.evaluation.seeds)} fits of each VAE"
print(f"regions: {len(p.fields.rois)} and {len(regions)}")

# %% [markdown]
# ## HPF and STR move almost all latents
#
# *Move*: more than 95 % of random blobs of that size do. *Almost all*: more than three of four.

# %%
for name in (name for name in ("HPF", "STR") if name in p.fields.rois):
    row, size = p.fields.rois.index(name), int(cohort.atlas.roi_masks([name]).sum())
    beats = []
    for model, read in zip(models["β-VAE"], six["β-VAE"], strict=True):
        blobs = null_divergence(
            model, few, cohort.atlas.brain_mask, size, p.fields.n_blobs, mirrored=True
        ).divergence
        beats.append(read.receptive.divergence[row] > np.quantile(blobs, 0.95, axis=0))
    share = estimate(np.array(beats, dtype=float) - 0.75, bounds=(-0.75, 0.25))
    claims[f"{name} moves almost all latents"] = {"share of latents − ¾": share}

# %% [markdown]
# ## Receptive and projective fields
#
# The paper notes that its Factor 8 sees and paints different places. The claim here is the opposite: a latent paints what
# it sees, more than other latents do. Where it does not hold, Factor 8 is the rule.

# %%
for name in models:
    found = agreement_of_fits(every[name], active[name])
    more = from_resamples(found.beyond, found.beyond_resamples, n, n_regions=len(regions))
    claims[f"{name}: a latent paints what it sees (ours)"] = {"agreement − with others": more}

# %% [markdown]
# ## The latents of the β-VAE are less correlated

# %%
equal = min(int(alive.sum()) for fits in active.values() for alive in fits)
n_of = {f"{len(k)} regions": len(k) for k in (p.fields.rois, regions)}
scored = {
    sets: {
        k: scored_fits([b.receptive for b in fits], active[k], equal) for k, fits in read.items()
    }
    for sets, read in ((f"{len(p.fields.rois)} regions", six), (f"{len(regions)} regions", every))
}

# %%
for name in ("VAE", "PCA"):
    claims[f"β-VAE less correlated than {name}"] = {
        sets: from_resamples(
            f["β-VAE"].values,
            f["β-VAE"].resamples,
            n,
            (f[name].values, f[name].resamples),
            n_regions=n_of[sets],
        )
        for sets, f in scored.items()
    }

# %%
# The interval holds the spread of chance as well: does the score stand out of it?
for other in ("null", "rotated"):
    chance = {"null": "independent ones (ours)", "rotated": "its random axes (ours)"}[other]
    claims[f"β-VAE less correlated than {chance}"] = {
        sets: from_resamples(
            f["β-VAE"].values - getattr(f["β-VAE"], other).mean(),
            f["β-VAE"].resamples - np.resize(getattr(f["β-VAE"], other), 200),
            n,
            n_regions=n_of[sets],
        )
        for sets, f in scored.items()
    }

# %% [markdown]
# ## Stars and tails
#
# Starred latents by the rule of the method page; brains that are not clean by the rule of chapter 2 in one tail of a latent; and whether SSp, HPF and RSP
# are painted by one and the same tail more than the other regions are. They stand for the paper's barrel fields, hippocampus and retrosplenial areas:
# the barrel field is a part of SSp, on this plane of the real atlas nearly all of it.

# %%
fields = [read.projective for read in six["β-VAE"]]
alive = active["β-VAE"]
stars = [
    outlier_latents(f, a) if a.sum() >= 3 else 0 * a for f, a in zip(fields, alive, strict=True)
]
shares = [(np.asarray(s, dtype=float),) for s in stars]
if p.model.latent_dim >= 3:
    claims["some latents' tails stand out (stars)"] = {
        "share of latents": jackknife(np.mean, shares, bounds=(0, 1))
    }

# %%
of_test = cohort.images[test]
unusual = ~clean[test]
aside = [(m.encode(of_test), unusual) for m in models["β-VAE"]]
if unusual.sum() > 2:
    claims["brains that are not clean lie in one tail"] = {
        "on one side − chance": jackknife(sidedness_beyond_chance, aside)
    }

# %%
anatomical = np.isin(p.fields.rois, ["SSp", "HPF", "RSP"])
paper_masks = cohort.atlas.roi_masks(p.fields.rois)
tails = np.array([tail_asymmetry(f.variance, paper_masks) for f in fields])
if anatomical.any() and not anatomical.all():
    one_tail = [np.abs(tails[:, :, of].mean(axis=2)) for of in (anatomical, ~anatomical)]
    more = one_tail[0] - one_tail[1]
    claims["SSp, HPF and RSP are painted by one tail"] = {"asymmetry − elsewhere": estimate(more)}

# %% [markdown]
# ## One fit stands for all
#
# The paper reads one fit. Do its latents come back in another, with |r| above 0.9?

# %%
z = [m.encode(brains) for m in models["β-VAE"]]
if len(z) > 1:
    came_back = np.stack([match_latents(a, b).correlation for a, b in combinations(z, 2)])
    claims["latents come back in another fit (ours)"] = {"|r| − 0.9": estimate(came_back - 0.9)}

# %% [markdown]
# ## The verdicts
#
# What each number is: of *moves almost all*, the share of latents less ¾; of *paints what it sees*, a latent's agreement less that with others; of *less correlated*, the
# difference in uncorrelatedness; of the stars, the share of latents; of brains that are not clean, their share on one side less chance; of the tails, the
# asymmetry less that elsewhere; of *come back*, |r| less 0.9.

# %%
verdicts = pd.Series({claim: verdict(found.values()) for claim, found in claims.items()})
print(f"{len(claims)} claims, {n} brains, {len(p.evaluation.seeds)} fits of each VAE")

# %%
label = [f"the only one, or {len(p.fields.rois)} regions", f"{len(regions)} regions"]
numbers = pd.DataFrame(
    [
        {"model": claim, "kind": which, **found._asdict()}
        for claim, of in claims.items()
        for which, found in zip(label, of.values(), strict=False)
    ]
)

# %% tags=["nbval-ignore-output"]
ends = ("almost all latents", "(stars)", "by one tail", "another fit (ours)")
Record({}, claims, of={claim: "latents" for claim in claims if claim.endswith(ends)})

# %%
figures.fig_differences(
    numbers, "Number that is positive where the claim holds, each in its own unit"
).shows("Every statement as numbers that are positive where it holds.").made_from(
    f"{source}, one of PCA; tails of {len(of_test)} test brains, |r| over {len(brains)} clean ones"
)

# %%
mean_image = cohort.split("train").images.mean(axis=0)
pd.Series(
    {
        "each fit paints brains better than the mean image does": all(
            explained_variance(brains, m.reconstruct(brains), mean_image) > 0
            for fits in models.values()
            for m in fits
        ),
        "HPF moves a quarter of the latents or more": claims["HPF moves almost all latents"][
            "share of latents − ¾"
        ].value
        > -0.5,
        "STR does not move almost all": verdicts.get("STR moves almost all latents")
        == "does not hold",
        "PCA's latents paint what they see": verdicts["PCA: a latent paints what it sees (ours)"]
        == "holds",
        "no claim on correlation holds": "holds"
        not in set(verdicts[verdicts.index.str.contains("less")]),
        "all latents are active": equal == p.model.latent_dim,
    }
).astype(bool)

# %% [markdown]
# **Found.** Of what section 3.3 says, on this cohort and with these fits:
#
# - HPF moves about half of the latents and STR hardly any: that either moves almost all does not hold.
# - That a latent paints what it sees, more than other latents do, holds of the β-VAE's latents, of the VAE's and of PCA's:
#   on average, so that one like the paper's Factor 8 is not the rule. The β-VAE's interval only just leaves zero.
# - That the β-VAE's latents are less correlated than the VAE's, PCA's, independent ones or random axes of its own codes is not shown.
# - Three latents of 24, eight in each of three fits, earn a star: that tails stand out is not shown. That brains that are not clean keep to one side, or that
#   one tail is the anatomical one, is not shown.
# - That a latent comes back in another fit with |r| above 0.9 does not hold.
#
# Where a verdict is *not shown*, three fits and one cohort cannot tell; it may hold for mice.
#
# How sure: 48 brains, three fits, and intervals over brains, regions or latents; each claim's are in its row.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)

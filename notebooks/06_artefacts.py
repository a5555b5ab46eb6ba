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
# # 6 · Artefacts: what is painted back, what is kept
#
# **Does a β-VAE remove artefacts that PCA and the VAE reproduce?** The paper's Fig. 2B shows three sections where it
# does. Here artefacts are planted in clean brains that no model was fitted to, so the truth is known: how much of the
# artefact comes back, how much of the brain around it is kept, how much of what it hides is recovered, each against its
# strength and beside denoisers that learn nothing of brains.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
artefact_strengths = None  # the profile's, as the next
n_graded = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import ARTEFACTS, corrupted_brains, graded_artefacts, judged
from brainvae_core.metrics import (
    CWSSIM,
    as_text,
    compare,
    cw_ssim_level,
    cw_ssim_scale_um,
    graded_removal,
    scores_table,
    summarise,
)
from brainvae_core.models import DENOISERS, PCA, Denoiser, effective_strength, tuned_denoiser
from brainvae_core.prepare import prepare_cohort
from brainvae_core.study import fitted
from IPython.display import display

# %%
whole = prepare_cohort(p)
cohort = whole.resampled(p.evaluation.shape)
train, compared = cohort.split("train").images, ("PCA", "VAE", "β-VAE", "β-VAE, fitted here")
fits = [
    (labels, run.model)
    for labels, run in fitted(p, "evaluated", cohort)
    if labels["model"] in compared
]
models = {labels["model"]: model for labels, model in reversed(fits)}  # the first fit of each
models = {name: models[name] for name in compared if name in models}
compared = tuple(models)
print(cohort)
counts = pd.Series([labels["model"] for labels, _ in fits]).value_counts(sort=False)
print("fits: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
planted = cohort.split("train").metadata.get("artefact", pd.Series(dtype=str)).value_counts()
print(f"known artefacts of the {len(train)} training brains: {planted.to_dict()}")
for beta in (1.0, p.model.beta):
    strength = effective_strength(beta, p.model.likelihood)
    print(f"β = {beta:g} has the effective strength {strength:.2g}")

# %% [markdown]
# ## Fig. 2B · Input and reconstructions
#
# One test brain per kind: the one whose artefact is strongest. The thin line is the artefact's outline. In a
# simulated cohort the artefacts are its own; in test brains of other cohorts that are free of them they are
# planted by the same functions, so that the truth is known.

# %%
corrupted = corrupted_brains(cohort)
kinds = corrupted.metadata["artefact"].to_numpy()
strength = corrupted.metadata["artefact_strength"].to_numpy()
reconstructed = {name: m.reconstruct(corrupted.images) for name, m in models.items()}
source = f"Cohort {cohort.name} at {p.evaluation.shape[0]} × {p.evaluation.shape[1]}"
counts = pd.Series(kinds).value_counts().to_dict()
print(f"corrupted test brains (n, height, width) = {corrupted.images.shape}; {counts}")

# %%
kinds_here = [name for name in ARTEFACTS if (kinds == name).any()]
chosen = [int(np.argmax(np.where(kinds == name, strength, 0))) for name in kinds_here]

# %%
figures.fig_2b(
    corrupted.images[chosen],
    {name: r[chosen] for name, r in reconstructed.items()},
    kinds_here,
    pixel_um=cohort.atlas.pixel_um,
    masks=corrupted.artefact_masks[chosen],
).shows("One test brain with each kind of artefact, the strongest of its kind.").made_from(
    f"{source}: the first fit of each model, L = {p.model.latent_dim}"
)

# %% [markdown]
# ## Fig. S1 · More of the same, with the truth above

# %%
ranked = [
    np.flatnonzero(kinds == name)[np.argsort(-strength[kinds == name])][1:3] for name in kinds_here
]
more = np.concatenate(ranked)

# %%
figures.fig_s1(
    corrupted.clean[more],
    corrupted.images[more],
    {name: r[more] for name, r in reconstructed.items()},
    list(kinds[more]),
    pixel_um=cohort.atlas.pixel_um,
    masks=corrupted.artefact_masks[more],
).shows("Two more test brains with each kind of artefact, the next in strength.").made_from(
    f"{source}: the first fit of each model, L = {p.model.latent_dim}"
)

# %% [markdown]
# To the eye all three models clean alike: leaks and holes are gone from every row, and the grid's lines too, though the brain around a leak comes out too
# bright and the one under a grid too dark. Nothing here distinguishes the β-VAE. The models have met artefacts: of the training brains 114 of 717 have
# one, as in a cohort that nobody cleaned, and a model with room for them can learn to paint them.

# %% [markdown]
# ## Artefacts as they come
#
# Held-out brains that the rule of chapter 1 suspects, without looking at any truth, brains that were set
# aside among them: the one with the highest score of each kind. What was behind the artefact is taken as not known here, as in an
# acquired cohort, so how far they are cleaned can be seen, not scored. The rule picks mostly the brains of Fig. 2B again: two of the three.

# %%
scored = judged(whole).metadata
held_out = scored["split"].isin(["test", "set aside"])
highest = [scored[f"{kind}_score"].where(held_out).argmax() for kind in ARTEFACTS]
suspected = cohort.images[highest]
also = set(scored.index[highest]) & set(corrupted.metadata.index[chosen])
print(f"brains among them that Fig. 2B shows as well: {len(also)} of {len(highest)}")

# %%
figures.fig_reconstructions(
    suspected,
    {name: m.reconstruct(suspected) for name, m in models.items()},
    pixel_um=cohort.atlas.pixel_um,
    titles=[f"Suspected {kind}" for kind in ARTEFACTS],
).shows(
    "Held-out brains with the highest score of each kind of artefact; a good answer "
    "resembles the brain without what is suspected, not the input."
).made_from(
    f"{source}: {len(highest)} held-out brains, the first fit of each model, L = {p.model.latent_dim}"
)

# %% [markdown]
# ## The same artefacts, graded
#
# Every kind at every strength is planted in the same clean test brains; an artefact keeps its place and form and grows. Four
# shares are measured.
#
# - **Reproduced**, inside the artefact's mask: 1 if the model paints it back whole, 0 if nothing of it is left. What the
#   model gets wrong in the same brain *without* the artefact is taken off.
# - **Pattern**: the same of what is finer than half a millimetre. A grid darkens the whole section and draws lines; a darker
#   brain is nothing to reject, lines are.
# - **Kept**, outside the mask: of the clean brain's deviation from the mean image, how much the reconstruction still has. 1 is
#   perfect, 0 is the mean image.
# - **Recovered**, inside the mask: the same against the clean brain that the artefact hides. Of missing tissue,
#   how well it is painted in; below 0, worse than the mean image would be.
#
# The denoisers are a median, non-local means and total variation. Their amounts were chosen for each kind on validation
# brains with the same artefacts planted, by squared error to the truth, from five each. They are left out of the last row: what they leave in
# place of the brain is the artefact.

# %%
shape = cohort.atlas.shape
graded = graded_artefacts(whole, p.evaluation.artefact_strengths, p.evaluation.n_graded).resampled(
    shape
)
tuning = graded_artefacts(whole, p.evaluation.artefact_strengths, 3, "validation").resampled(shape)
truth, dirty = np.broadcast_to(tuning.clean, tuning.images.shape), tuning.images
print(f"tuned on sections (n, height, width) = {dirty[0].reshape(-1, *shape).shape} per kind")
print(f"graded sections (kind, strength, brain, height, width) = {graded.images.shape}")

# %%
mean_section = train.mean(axis=0)
axes = {"kind": graded.kinds, "strength": graded.strengths}
rows = [
    scores_table(graded_removal(m, graded, mean_section)._asdict(), **labels, axes=axes)
    for labels, m in fits
]

# %%
amounts = pd.DataFrame(index=list(DENOISERS), columns=list(graded.kinds), dtype=float)
for name in DENOISERS:
    for k, kind in enumerate(graded.kinds):
        denoiser = tuned_denoiser(name, *(x[k].reshape(-1, *shape) for x in (truth, dirty)))
        amounts.loc[name, kind] = denoiser.amount
        found = graded_removal(denoiser, graded.of_kind(kind), mean_section)
        removal = {what: getattr(found, what) for what in ("reproduced", "pattern", "kept")}
        rows.append(scores_table(removal, model=name, axes=axes | {"kind": [kind]}))
print(amounts)

# %%
shares = pd.concat(rows, ignore_index=True)
shares["panel"] = shares["kind"].str.capitalize() + ": " + shares["score"]
panels = summarise(shares, by=["score", "kind", "panel", "model", "strength"])
n_brains = len(graded.clean)
graded_source = f"{source}, L = {p.model.latent_dim}: {n_brains} clean test brains, "
graded_source += f"{len(p.evaluation.seeds)} fits of each VAE, 95 % intervals"

# %%
figures.fig_curves(
    panels,
    "strength",
    "Strength of the artefact",
    panel="panel",
    ylabels=["Share"],
    columns=3,
    share_y=True,
).shows(
    "What comes back of artefacts planted at growing strength (reproduced, "
    "pattern), and of the brain around them (kept) and behind them (recovered)."
).made_from(graded_source)

# %% [markdown]
# In the demo profile, at eight latents:
#
# - **Little of a leak or a breakage is painted back.** At full strength 0.129 [0.102, 0.158] of a leak comes back from the β-VAE, 0.133 [0.091, 0.178]
#   from the VAE, 0.111 [0.081, 0.143] from PCA; of a breakage 0.083 [0.048, 0.120], 0.098 [0.071, 0.125], 0.124 [0.095, 0.153].
# - **A grid** darkens the whole section, which every model takes for a darker brain: 0.45 to 0.48 of it comes back at full strength. Of its lines only
#   0.11 to 0.12 does.
# - **They pay with the brain.** At strength 0.25 an artefact of any kind leaves 0.61 to 0.71 of it. A strong leak spoils what the VAEs keep of the rest
#   more than what PCA keeps: at full strength 0.25 [0.07, 0.40] (β-VAE) and 0.23 [−0.02, 0.48] (VAE), where PCA keeps 0.513 [0.431, 0.589]. Around a
#   breakage all three keep 0.53 to 0.57. With a grid of full strength every model is worse than the mean image.
# - **Missing tissue** is painted in while the hole is small: at half strength about half of what was there comes back from PCA and about a third
#   from the VAEs. Of a hole of full strength that is not shown for any: PCA −0.28 [−0.66, 0.07], the VAE −0.1 [−1.3, 1.0], the β-VAE 0.06 [−0.43, 0.58].
# - **Denoisers** keep the brain and, of leaks and breakages, nine tenths and more of the artefact as well: doing least is best there, the amount chosen
#   being the smallest on offer. They take a fifth to a third of a grid's lines, of weak ones non-local means more than half. These artefacts are no noise.

# %% [markdown]
# ## Rejected against kept
#
# Whoever rejects everything keeps nothing. At full strength every model is a point; a denoiser is a line over its
# amounts, and PCA one over its number of components (2 to 100), open circles where they are strongest and widest, if that is inside the panel: a
# strong denoiser keeps so little that its line leaves the panel below. Up and to the left is better.

# %%
widest = PCA.fit(train, min(100, len(train) - 1))
families = {"PCA": [widest.truncated(n) for n in (2, 4, 8, 16, 30, 100) if n <= widest.latent_dim]}
for name, kind_of_filter in DENOISERS.items():
    families[name] = [Denoiser(name, amount) for amount in kind_of_filter.amounts]
components = ", ".join(f"{m.latent_dim}" for m in families["PCA"])
worst = graded.strongest()
paths = pd.concat(
    [
        scores_table(
            graded_removal(m, worst, mean_section)._asdict(),
            model=name,
            step=step,
            axes={"kind": worst.kinds, "strength": worst.strengths},
        )
        for name, family in families.items()
        for step, m in enumerate(family)
    ]
)

# %%
along = ["kind", "model", "step", "score"]
paths = paths.groupby(along, sort=False)["value"].mean().unstack().reset_index()
at_full = panels[panels["strength"] == max(graded.strengths)]
points = at_full[at_full["model"].isin(compared)]

# %%
figures.fig_keep_reject(points, paths).shows(
    "Each model, each amount of a denoiser and each number of PCA components at full strength."
).made_from(f"{graded_source}; PCA with {components} components")

# %% [markdown]
# The corner up and to the left is empty. PCA's line shows the trade: with components it mostly keeps more, and paints more back. The VAEs lie below it for
# leaks: for what they keep, PCA with fewer components paints back less. For breakages they lie a little above it, for grids close to it, and no difference
# from PCA with eight components is shown there (below). No amount of a classical denoiser comes near the corner.

# %% [markdown]
# ## Paired differences
#
# The share of the artefact that is painted back, mean over strengths, of two models in the same brains. Left of zero the first
# model removes more.

# %%
pairs = [("β-VAE", "VAE"), ("β-VAE", "PCA"), ("VAE", "PCA")]
over_strengths = ["score", "kind", "model", "seed", "brain"]
means = shares.groupby(over_strengths, sort=False, dropna=False)["value"].mean().reset_index()
paired = pd.concat(
    [
        compare(of_score, a, b, by=["score", "kind"])
        for _, of_score in means.groupby("score", sort=False)
        for a, b in pairs
    ]
)

# %%
is_pattern = (paired["score"] == "pattern") & (paired["kind"] == "grid")
pattern = paired[is_pattern].assign(kind="a grid's pattern")
figures.fig_differences(
    pd.concat([paired[paired["score"] == "reproduced"], pattern]),
    "Difference of the share reproduced",
    better="reproduces more",
).shows(
    "How much more of an artefact the first model of a pair paints back than the "
    "second, in the same brains, mean over the strengths."
).made_from(graded_source)

# %% [markdown]
# At eight latents no difference of what is reproduced leaves zero, for any kind of artefact, nor one of the pattern (in the table below). What is kept of
# the brain differs under a leak: the β-VAE keeps less than PCA by 0.103 [0.058, 0.154], the VAE by 0.104 [0.026, 0.183], and both recover less of what the
# leak hides. For breakages and grids no such difference is shown, and none between VAE and β-VAE.

# %% [markdown]
# ## Nearer to the truth than the input was?
#
# CW-SSIM to the *clean* section, at the scale of 800 µm. What is not above the corrupted input would have
# been better left alone; what is not above the mean image says nothing of this brain.

# %%
level = cw_ssim_level(cohort.atlas.pixel_um)
scale = cw_ssim_scale_um(level, cohort.atlas.pixel_um)
print(f"CW-SSIM level {level}: bands around {scale:.0f} µm")

# %%
cells, flat = graded.images.shape[:3], graded.images.reshape(-1, *shape)
similarity = CWSSIM(np.tile(graded.clean, (cells[0] * cells[1], 1, 1)), level)
answers = [(labels, m.reconstruct(flat)) for labels, m in fits]
answers.append(({"model": "mean image"}, np.broadcast_to(mean_section, flat.shape)))
answers.append(({"model": "corrupted input"}, flat))

# %%
rows = [scores_table(similarity(r).reshape(cells), **labels, axes=axes) for labels, r in answers]
scores = pd.concat(rows, ignore_index=True)
similar = summarise(scores, by=["kind", "model", "strength"], bounds=(0, 1))

# %%
figures.fig_curves(
    similar.assign(kind=similar["kind"].str.capitalize()),
    "strength",
    "Strength of the artefact",
    panel="kind",
    ylabels=["CW-SSIM to the clean section"],
    columns=3,
    share_y=True,
).shows(
    "CW-SSIM to the clean section of what each model paints of the corrupted one, "
    "of the mean image and of the corrupted section itself, against the artefact's "
    "strength."
).made_from(graded_source)

# %%
at_full = scores[scores["strength"] == max(graded.strengths)]
against = pd.concat(
    [
        compare(at_full, name, other, by="kind")
        for other in ("mean image", "corrupted input")
        for name in compared
    ]
)

# %% [markdown]
# A leak changes the section so locally that the untouched input is nearer to the truth than any model, at every strength. For a breakage its mean is
# nearer too, up to full strength, where no difference is shown any more (PCA less the input 0.030 [−0.002, 0.063]); under a grid every model is nearer
# from half strength on. At full strength every model is above the mean image for a breakage, by 0.013 to 0.021; under a leak PCA is (by 0.0240 [0.0164,
# 0.0325]) and the VAEs are not shown to be; under a grid all are below it, by 0.016 to 0.031. Whether cleaning helps depends on the artefact.

# %% [markdown]
# ## More latents, more artefact?
#
# The models of chapter 5, at every number of latents, and the strongest artefacts.

# %%
small = whole.resampled(p.grid.shape)
runs = fitted(p, "curve", small)
worst = graded_artefacts(whole, p.evaluation.artefact_strengths[-1:], p.evaluation.n_graded)
worst = worst.resampled(small.atlas.shape)
small_mean = small.split("train").images.mean(axis=0)

# %%
whats, at_end = ("reproduced", "pattern", "kept"), {"kind": worst.kinds}
rows = []
for labels, run in runs:
    found = graded_removal(run.model, worst, small_mean)
    of_what = {what: getattr(found, what)[:, 0] for what in whats}
    rows.append(scores_table(of_what, **labels, axes=at_end))
against_dims = pd.concat(rows, ignore_index=True)

# %%
panel = against_dims["kind"].str.capitalize() + ": " + against_dims["score"]
by = ["score", "kind", "panel", "model", "latent_dim"]
along_dims = summarise(against_dims.assign(panel=panel), by=by)
by_what = pd.concat([along_dims[along_dims["score"] == what] for what in whats])

# %%
figures.fig_curves(
    by_what,
    "latent_dim",
    "Number of latents L",
    panel="panel",
    ylabels=["Share"],
    columns=3,
    log_x=True,
    share_y=True,
).shows(
    "What comes back of artefacts of full strength, and of the brain around them, "
    "against the number of latents."
).made_from(
    f"Cohort {small.name} at {p.grid.shape[0]} × {p.grid.shape[1]}: {n_brains} clean test brains, "
    f"{len(p.grid.seeds)} fits of each VAE, 95 % intervals"
)

# %% [markdown]
# Here is where the models part. With its components PCA paints more and more of an artefact back, from 0.12 of a leak at 8 to 0.76 at 100 and from 0.16 to
# 0.85 of a grid's lines, as the paper shows it; from four latents on the VAEs stay at 0.07 to 0.16 of a leak and 0.14 to 0.16 of the lines, whatever the
# number of latents and whatever β. So it is true that a β-VAE removes what PCA reproduces, *if PCA has many components*; and it is as true of a VAE. The
# third row shows what PCA's components gain beside that: under a grid 100 of them keep 0.723 [0.675, 0.768] of the brain, where 8 do worse than the mean
# image. That VAEs with more than eight latents keep more of the brain is not shown.

# %% [markdown]
# ## The figures in numbers

# %% tags=["nbval-ignore-output"]
print("shares at full strength")
strongest = panels[panels["strength"] == max(graded.strengths)]
display(as_text(strongest, "panel", "model"))
print("paired differences of the shares, mean over strengths")
row = paired["score"] + ", " + paired["model"]
display(as_text(paired.assign(row=row), "row", "kind"))
print("paired differences of CW-SSIM to the clean section, full strength")
display(as_text(against, "model", "kind"))
print("full strength, the models of chapter 5")
ends = (p.model.latent_dim, along_dims["latent_dim"].max())
at_ends = pd.concat([along_dims[along_dims["latent_dim"] == n] for n in ends])
point = at_ends["model"] + ", L = " + at_ends["latent_dim"].astype(str)
as_text(at_ends.assign(point=point), "panel", "point")

# %%
back = shares[shares["score"] == "reproduced"].groupby(["model", "kind"])["value"].mean().unstack()
most = along_dims.query("score == 'reproduced' and kind == 'leak'").set_index("model")
painted = most[most["latent_dim"] == most.groupby("model")["latent_dim"].transform("max")]["value"]
pd.Series(
    {
        "β-VAE paints back less than a third of leaks and breakages": bool(
            back.loc["β-VAE", ["leak", "breakage"]].max() < 1 / 3
        ),
        "β-VAE paints back more of a grid than of a leak": bool(
            back.loc["β-VAE", "grid"] > back.loc["β-VAE", "leak"]
        ),
        "a denoiser paints back more of a leak than any of the three models": bool(
            back.loc[[*DENOISERS], "leak"].min() > back.loc[[*compared], "leak"].max()
        ),
        "PCA with very many components paints leaks back, the VAEs with as many latents do not": bool(
            painted["PCA"] > 0.5 > painted[["VAE", "β-VAE"]].max()
        ),
    }
)

# %% [markdown]
# **Found.** With eight latents PCA, VAE and β-VAE reject leaks, breakages and a grid's lines about alike; PCA keeps more of the brain around a leak, and
# around breakages and under grids no difference is shown. With its components PCA paints more of an artefact back, and the VAEs do not with more latents:
# what the paper shows holds against a PCA of many components, and of the plain VAE as well as of the β-VAE. How sure: the same 20 clean brains with each
# kind of artefact, so that the truth is known, three fits; at eight latents differences of the share reproduced, mean over strengths, beyond about 0.04
# are excluded for leaks and breakages, beyond 0.06 for grids.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)

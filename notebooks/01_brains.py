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
# # 1 · Brains
#
# **Which brains does this book read, which of them have artefacts, and how real are they?**
#
# **Answer.** The book reads {glue:text}`brains_n` {glue:text}`brains_kind` sections, one a brain, of {glue:text}`brains_size` pixels of
# {glue:text}`brains_pixel` µm. Quality control calls {glue:text}`brains_outliers` of them outliers; its rule on images finds {glue:text}`brains_breakage`
# breakages, {glue:text}`brains_grid` grids and {glue:text}`brains_leak` leaks, and suspects {glue:text}`brains_none` of the brains without an artefact.
# The one real brain that was measured here is {glue:text}`brains_inside` the simulated range: PCA leaves it {glue:text}`brains_error_ratio` times the error of a simulated one.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
brains = None  # the profile's, as the next
atlas = None
outlier_limit = None

# %% tags=["hide-cell"]
from brainvae_core.settings import read_settings

p = read_settings(globals())
print(p)

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import (
    ARTEFACTS,
    Preprocessing,
    artefact_free,
    factor_extremes,
    is_outlier,
    known_factors,
    run_quality_control,
)
from brainvae_core.cohorts.artefacts import HOLE_MM, LEAK_MM, SEAM_LOSS, STRENGTHS
from brainvae_core.cohorts.simulated import BRIGHTNESS, DISPLACEMENT_MM
from brainvae_core.figures.style import percent
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record, quoted
from brainvae_core.results import measured
from IPython.display import display

# %% [markdown]
# ## Where they come from
#
# A cohort has one coronal section a mouse, all registered to one atlas slice. It comes from a simulator, the paper's authors, the
# Allen Institute, or your own folder ([how](../book/acquisition.md)).

# %%
cohort = prepare_cohort(p)
print(cohort)

# %% tags=["hide-input"]
source, pixel_um = f"Cohort {cohort.name}, {len(cohort)} brains", cohort.atlas.pixel_um
train = cohort.split("train")
training = f"Cohort {cohort.name}, {len(train)} training brains"
if cohort.refused:
    reasons = pd.Series(cohort.refused)
    display(pd.Series({"kept": len(cohort), **reasons.value_counts()}, name="brains").to_frame())
Record(
    {
        "brains of the cohort": len(cohort),
        **{f"{part} brains": len(cohort.split(part)) for part in ("train", "validation", "test")},
        "height of a section (pixels)": p.cohort.shape[0],
        "width of a section (pixels)": p.cohort.shape[1],
        "size of a pixel (µm)": pixel_um,
    }
)

# %% [markdown]
# The paper images red auto-fluorescence by serial two-photon microscopy. A **leak** is green tracer signal that bleeds into the red channel at the injection
# site. A **breakage** is torn or missing tissue, and a **grid** is the seams of the image tiles. The simulator plants one in
# {glue:text}`brains_artefact_share` of the brains: leaks of {glue:text}`brains_leaks` mm radius in the right half,
# holes of {glue:text}`brains_holes` mm mean radius, and seams that lose {glue:text}`brains_seams` % of brightness.

# %% tags=["hide-input"]
metadata = cohort.metadata
kind = metadata["artefact"].to_numpy()
rows = [i for name in ("none", *ARTEFACTS) for i in np.flatnonzero(kind == name)[:2]]
figures.fig_sections(cohort.images[rows], kind[rows], pixel_um).shows(
    "Two brains without an artefact, and two with each kind of artefact."
).made_from(source)

# %% [markdown]
# ## Fig. 2A · The average section and the regions
#
# Every model has to beat the average section. The paper names four of its six regions: primary somatosensory cortex (SSp), hippocampal
# formation (HPF), striatum (STR) and thalamus (TH). Retrosplenial cortex (RSP) and hypothalamus (HY) are our choice. On this plane HPF is the dorsal hippocampus
# (CA, DG). STR is the tail of the caudoputamen and striatum-like amygdala, not the dorsal striatum.

# %% tags=["hide-input"]
mean_section = train.images.mean(axis=0)
masks = cohort.atlas.roi_masks(p.fields.rois)
of_atlas = {"pixel_um": pixel_um, "cohort_name": cohort.name}
behind = (p.cohort.plane - 216) * 0.025
side = "behind" if behind >= 0 else "in front of"
figures.fig_2a(mean_section, cohort.atlas.template, masks, p.fields.rois, **of_atlas).shows(
    f"Atlas: {cohort.atlas.name}, for coronal plane {p.cohort.plane} of the CCF at 25 µm, about "
    f"{abs(behind):.2f} mm {side} bregma (estimated at plane 216)."
).made_from(training)

# %% [markdown]
# ## How they differ
#
# Simulated brains differ by {glue:text}`brains_factors` planted factors, each standard normal over brains. HPF and the thalamus vary in brightness by {glue:text}`brains_gain` a standard
# deviation (SD). Illumination makes one side darker and the other brighter. A factor that moves tissue changes only pixels along borders. One SD moves the cortex's inner border by {glue:text}`brains_cortical_thickness` µm, the ventricle's wall by
# {glue:text}`brains_ventricle_size` µm, the border of hippocampus and thalamus (AP position) by {glue:text}`brains_ap_position` µm. It moves the surface by
# {glue:text}`brains_brain_height` µm in height and {glue:text}`brains_brain_width` µm in width. Registration removes most of height and width, which here
# stand for what it leaves. For acquired brains the figure shows what was recorded, such as sex, or the injection's place and volume.

# %% tags=["hide-input"]
factors = known_factors(train)
extremes = factor_extremes(factors, train.images if train.clean is None else train.clean)
figures.fig_factors(extremes, mean_section, pixel_um, ("lowest 5 %", "highest 5 %")).shows(
    f"Means of the {max(len(train) // 20, 1)} training brains lowest and highest in each factor, "
    "and their difference."
).made_from(training)

# %% [markdown]
# ## Quality control
#
# Here every section is multiplied by one number, which brings it to the training brains' average brightness, as in the paper. Before that,
# brightness varies by {glue:text}`brains_spread` of its mean. The paper then removes "resulted outliers", without a rule. Our rule has four
# numbers a brain: its *difference* from the median section, its shares of dark (*missing*) and of *saturated* pixels, and the *gain* that adjusted its brightness.
# *Missing* also counts background inside the atlas's outline, so a narrow brain scores high without damage. A brain is an outlier if one of them lies {glue:text}`brains_limit`
# robust SD or more above the median training brain (the gain: above or below).

# %%
checked = run_quality_control(cohort, outlier_limit=p.cohort.outlier_limit)

# %% tags=["hide-input"]
found, fitted = checked.metadata, Preprocessing.of(checked)
before = fitted.brightness / found["gain"].to_numpy()
names = ["difference", "missing", "saturated", "gain"]
statistics = found[[f"{name}_z" for name in names]].set_axis(names, axis=1)
outlier = is_outlier(found).to_numpy()
by_rule = f"{source}; the rule is fitted on the training brains"
figures.fig_quality(statistics, outlier, p.cohort.outlier_limit).shows(
    "The four statistics of quality control, of every brain; triangles mark the outliers."
).made_from(by_rule)

# %% tags=["hide-input"]
furthest = statistics.assign(gain=statistics["gain"].abs())
worst = np.argsort(-furthest.max(axis=1).to_numpy(), kind="stable")[:8]
columns = furthest.to_numpy()[worst].argmax(axis=1)
why = [f"{names[c]} {furthest.iloc[row, c]:.1f} SD" for row, c in zip(worst, columns, strict=True)]
figures.fig_sections(checked.images[worst], found.index[worst], pixel_um, words=why).shows(
    "The eight brains farthest from the median brain, with the statistic and its distance."
).made_from(by_rule)

# %% [markdown]
# Outliers are set aside only with `drop_brains`, which is {glue:text}`brains_dropped` here.
#
# ## Which brains are free of artefacts
#
# Receptive fields (chapter 7) are read on brains that a rule does not suspect of an artefact; it misses some. The rule takes images alone, before any fit, with three scores: the brightest and
# the darkest spot of 0.2 mm, and stripes. A brain is suspected when one of them lies 4 robust SD above the median, or when it is an outlier. An
# **unsuspected** brain passes this rule; a **clean** brain is a simulated one as it was before an artefact was planted. Where artefacts are planted, the rule can be checked.

# %% tags=["hide-input"]
clean = pd.Series(artefact_free(checked), index=found.index)
leaks = metadata.reindex(columns=["artefact_strength", "injection_structure"])
leaks = leaks.assign(clean=clean, at=np.arange(len(clean)))[kind == "leak"]
leaks = leaks.sort_values("artefact_strength")
in_cortex = leaks["injection_structure"].isin(["SSp", "RSP"])
shown = pd.concat([leaks[~leaks["clean"]][:4], leaks[leaks["clean"]][-4:]])
called = shown["clean"].map({True: "unsuspected", False: "suspected"})
titles = called + shown["artefact_strength"].map(", strength {:.2f}".format)
if len(shown):
    pictured = figures.fig_sections(cohort.images[shown["at"]], list(titles), pixel_um)
    display(
        pictured.shows(
            "The faintest leaks that the rule suspected, and the strongest that it did not."
        ).made_from(source)
    )

# %% [markdown]
# Strength alone does not decide whether a leak is found: {glue:text}`brains_missed_cortex` of the {glue:text}`brains_missed` missed leaks lie in the
# cortex, and {glue:text}`brains_found_cortex` of the {glue:text}`brains_found` found. The rule measures each place by how much training brains vary there, and they vary
# most at the rim.
#
# ## How real the simulator is
#
# The real brain is a serial two-photon section at 50 µm. Brains simulated on the same CCF slice stand beside it.
#
# ```{figure} ../book/_static/real_beside_simulated.png
# :alt: A simulated and a real section above; below, what a PCA of simulated brains makes of each. The real section has bright edges and tiles.
# A simulated brain and the real one, and what PCA with eight components, fitted to simulated brains, makes of each. The real section has a bright rim, uneven
# light and seams between tiles. Real brain: copyright (c) 2021 Adam Tyson, BSD 3-Clause ({download}`notice <../book/_static/real_sections_licence.txt>`).
# ```

# %% tags=["hide-input"]
realism = measured("realism")
drawn = realism["measure"].isin(["deviation, power", "error, power"])
spectra = realism[drawn].rename(columns={"of": "model"})
spectra["low"], spectra["high"] = (spectra[e].fillna(spectra["value"]) for e in ("low", "high"))
said = {"deviation, power": "Deviation from the mean", "error, power": "Error of PCA, L = 8"}
figures.fig_curves(
    spectra.assign(score=spectra["measure"].map(said)),
    "size_um",
    "Wavelength (µm)",
    ylabels=["Power (squared grey values)"],
    log_x=True,
    log_y=True,
).shows(
    "Power of the deviation from the mean section and of PCA's error, by wavelength; for simulated brains the median."
).made_from("CCF slice, 80 simulated test brains and one real brain, 160 × 224 pixels")

# %% tags=["hide-input"]
units = realism[~drawn]
value, low, high = (units[column].map("{:.3g}".format) for column in ("value", "low", "high"))
text = value + ("  [" + low + " to " + high + "]").where(units["low"].notna(), "")
units.assign(text=text).pivot(index="measure", columns="of", values="text").rename_axis(
    index="median [95 % of brains]", columns=""
)

# %% [markdown]
# At wavelengths of 0.2 to 0.7 mm the real brain deviates from the mean with {glue:text}`brains_detail` times the power of a simulated one, within their range. Of its excess of PCA's error {glue:text}`brains_large_share` is at wavelengths above 1 mm.
# Of the six measures in the table {glue:text}`brains_outside` lie outside the range of the simulated brains: {glue:text}`brains_outside_names`.
# The book's own brains, on the drawn atlas, were not compared. So what models do on real brains is open.

# %% tags=["hide-input"]
real = realism[realism["of"] == "real brain"].set_index(["measure", "size_um"])
usual = realism[realism["of"] == "simulated brains"].set_index(["measure", "size_um"])
ratio, excess = real["value"] / usual["value"], real["value"] - usual["value"]
outside = (real["value"] < usual["low"]) | (real["value"] > usual["high"])
outside = outside[units["measure"].unique()].droplevel("size_um")
excess, detail = excess["error, power"], ratio["deviation, power"]
suspected = {name: (~clean[kind == name]).sum() for name in ("none", *ARTEFACTS)}
quoted(
    brains_n=len(cohort),
    brains_kind="simulated" if cohort.factors is not None else "acquired",
    brains_size=" × ".join(map(str, p.cohort.shape)),
    brains_pixel=pixel_um,
    brains_factors=factors.shape[1],
    brains_gain=percent(BRIGHTNESS["brightness_HPF"], 0),
    **{f"brains_{name}": f"{1000 * size:.0f}" for name, size in DISPLACEMENT_MM.items()},
    brains_artefact_share=percent((kind != "none").mean(), 0),
    brains_leaks=" to ".join(f"{LEAK_MM[0] + LEAK_MM[1] * s:.2g}" for s in STRENGTHS),
    brains_holes=" to ".join(f"{HOLE_MM * s:.2g}" for s in STRENGTHS),
    brains_seams=" to ".join(f"{100 * SEAM_LOSS * s:.0f}" for s in STRENGTHS),
    brains_outliers=outlier.sum(),
    brains_limit=p.cohort.outlier_limit,
    brains_spread=percent(before.std() / before.mean(), 0),
    brains_dropped="on" if fitted.drop_brains else "off",
    **{f"brains_{k}": f"{n} of {(kind == k).sum():,}" for k, n in suspected.items()},
    brains_missed=leaks["clean"].sum(),
    brains_found=(~leaks["clean"]).sum(),
    brains_missed_cortex=(in_cortex & leaks["clean"]).sum(),
    brains_found_cortex=(in_cortex & ~leaks["clean"]).sum(),
    brains_inside="outside" if outside["error of PCA (RMS greys)"] else "inside",
    brains_error_ratio=f"{ratio['error of PCA (RMS greys)', 0]:.1f}",
    brains_large_share=percent(excess[excess.index > 1000].sum() / excess.sum(), 0),
    brains_detail=f"{detail[(detail.index > 190) & (detail.index < 750)].mean():.1f}",
    brains_outside=outside.sum(),
    brains_outside_names="; ".join(outside.index[outside]),
)

# %% [markdown]
# **How sure.** The counts are exact for one simulated cohort of {glue:text}`brains_n` brains, whose artefacts the same project plants. On real brains what
# the rule misses is unknown. The comparison has one real brain (n = 1) from another laboratory than the paper's; a second brain from the paper's own data would change it most.
# Nothing here is a finding about mice.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)

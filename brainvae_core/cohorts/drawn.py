"""An atlas slice that ships as code: smooth curves in the likeness of CCFv3's coronal plane 286."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.draw import polygon2mask

from brainvae_core.cohorts.atlas import Atlas

HALF_SHAPE = (320, 224)  # one hemisphere; the other is its mirror image
POINTS_A_SPAN = 24
AREA_BLUR = 8.0  # pixels, across borders of cortical areas
BLUR = 1.2  # pixels, about the softness of the average template
CORTICAL_PLATE = ["RSP", "PTLp", "SSp", "SSs", "AUD", "TEa", "ECT", "PERI", "PIR", "COA"]
TRACTS_AND_VENTRICLES = ["fiber tracts", "cc", "ec", "int", "fi", "fr", "mtt", "fx", "VL", "V3"]

# All chosen by eye. Points are (ML, DV) pixels of 25 µm in the left hemisphere, whose midline is at
# ML 223.5; points beyond it or outside the brain only shape a curve and are clipped. A curve runs
# smoothly through its points and ends in a straight chord, or smoothly where the last point repeats
# the first. At most twelve points draw a region.
# fmt: off
# id: (acronym, name, parent id), as in the CCFv3 ontology.
STRUCTURES = {
    997: ("root", "root", 0), 8: ("grey", "Basic cell groups and regions", 997),
    567: ("CH", "Cerebrum", 8), 688: ("CTX", "Cerebral cortex", 567),
    695: ("CTXpl", "Cortical plate", 688), 315: ("Isocortex", "Isocortex", 695),
    453: ("SS", "Somatosensory areas", 315), 322: ("SSp", "Primary somatosensory area", 453),
    378: ("SSs", "Supplemental somatosensory area", 453), 247: ("AUD", "Auditory areas", 315),
    254: ("RSP", "Retrosplenial area", 315),
    22: ("PTLp", "Posterior parietal association areas", 315),
    541: ("TEa", "Temporal association areas", 315), 895: ("ECT", "Ectorhinal area", 315),
    922: ("PERI", "Perirhinal area", 315), 698: ("OLF", "Olfactory areas", 695),
    961: ("PIR", "Piriform area", 698), 631: ("COA", "Cortical amygdalar area", 698),
    1089: ("HPF", "Hippocampal formation", 695), 1080: ("HIP", "Hippocampal region", 1089),
    375: ("CA", "Ammon's horn", 1080), 726: ("DG", "Dentate gyrus", 1080),
    703: ("CTXsp", "Cortical subplate", 688), 623: ("CNU", "Cerebral nuclei", 567),
    477: ("STR", "Striatum", 623), 485: ("STRd", "Striatum dorsal region", 477),
    672: ("CP", "Caudoputamen", 485), 278: ("sAMY", "Striatum-like amygdalar nuclei", 477),
    343: ("BS", "Brain stem", 8), 1129: ("IB", "Interbrain", 343), 549: ("TH", "Thalamus", 1129),
    1097: ("HY", "Hypothalamus", 1129), 1009: ("fiber tracts", "fiber tracts", 997),
    983: ("lfbs", "lateral forebrain bundle system", 1009), 776: ("cc", "corpus callosum", 983),
    956: ("fa", "corpus callosum, anterior forceps", 776), 579: ("ec", "external capsule", 956),
    784: ("cst", "corticospinal tract", 983), 6: ("int", "internal capsule", 784),
    991: ("mfbs", "medial forebrain bundle system", 1009), 768: ("mfbc", "cerebrum related", 991),
    1099: ("fxs", "fornix system", 768), 603: ("fi", "fimbria", 1099),
    737: ("fxpo", "postcommissural fornix", 1099), 436: ("fx", "columns of the fornix", 737),
    824: ("mfsbshy", "hypothalamus related", 991), 46: ("mfbsma", "mammillary related", 824),
    690: ("mtt", "mammillothalamic tract", 46), 1083: ("mfbse", "epithalamus related", 824),
    595: ("fr", "fasciculus retroflexus", 1083), 73: ("VS", "ventricular systems", 997),
    81: ("VL", "lateral ventricle", 73), 129: ("V3", "third ventricle", 73),
}

# The surface of the cerebrum, from the dorsal midline round to where it meets the hypothalamus.
CEREBRUM = [
    (238, 60), (208, 11), (160, 13), (109, 28), (56, 65), (25, 116), (19, 160), (34, 215),
    (70, 289), (97, 301), (151, 267), (156, 252),
]

# acronym: (mean brightness before layers and tints, its curves), in the order of painting: later
# regions cover earlier ones, so that an area of cortex is drawn as everything beyond its border.
REGIONS = {
    "RSP": (0.65, [[(240, -10), (150, -10), (150, 80), (240, 80)]]),
    "PTLp": (0.7, [[(166, -5), (168, 12), (172, 34), (176, 60), (140, 80), (60, 60), (80, 0)]]),
    "SSp": (0.8, [[(98, 10), (110, 29), (117, 44), (124, 52), (136, 55), (158, 58), (120, 110),
        (60, 140), (0, 100), (20, 20)]]),
    "SSs": (0.75, [[(44, 48), (57, 65), (73, 84), (88, 101), (104, 112), (75, 165), (0, 165),
        (0, 60)]]),
    "AUD": (0.7, [[(28, 74), (39, 89), (53, 106), (65, 118), (67, 130), (62, 144), (50, 160),
        (-20, 150)]]),
    "TEa": (0.65, [[(0, 149), (20, 149), (50, 150), (80, 151), (80, 200), (0, 200)]]),
    "ECT": (0.6, [[(0, 178), (20, 178), (50, 177), (80, 176), (80, 230), (0, 230)]]),
    "PERI": (0.55, [[(0, 195), (20, 195), (50, 194), (80, 190), (80, 230), (0, 230)]]),
    "PIR": (0.5, [[(10, 222), (34, 215), (52, 209), (72, 200), (90, 250), (90, 310), (20, 310)]]),
    "COA": (0.5, [[(70, 300), (84, 281), (100, 273), (126, 264), (150, 285), (110, 320)]]),
    "fiber tracts": (0.2, [[(240, 78), (180, 60), (120, 80), (85, 115), (75, 145), (76, 190),
        (120, 230), (159, 263), (180, 280)]]),
    "cc": (0.2, [[(240, 63), (214, 64), (192, 46), (168, 50), (142, 57), (112, 77), (92, 97),
        (120, 100), (160, 80), (190, 80), (214, 82), (240, 84)]]),
    "ec": (0.2, [[(92, 97), (80, 114), (70, 133), (64, 160), (66, 192), (71, 220), (75, 240),
        (80, 220), (78, 180), (95, 130), (120, 100)]]),
    "int": (0.1, [[(94, 116), (130, 130), (130, 170), (155, 200), (175, 230), (175, 245),
        (156, 250), (115, 220), (95, 185), (85, 140)]]),
    "fi": (0.15, [[(98, 110), (128, 110), (128, 134), (118, 141), (104, 139), (101, 126)]]),
    "STR": (0.5, [[(78, 190), (100, 180), (112, 202), (108, 216), (94, 214), (78, 196)]]),
    "CTXsp": (0.6, [[(72, 184), (84, 197), (96, 210), (114, 226), (124, 246), (127, 262),
        (112, 272), (94, 278), (84, 269), (76, 246), (72, 210)]]),
    "sAMY": (0.55, [[(96, 211), (104, 204), (118, 210), (138, 231), (154, 247), (162, 262),
        (136, 290), (124, 267), (123, 246), (110, 238), (106, 225)]]),
    "CP": (0.65, [[(93, 116), (96, 122), (88, 142), (91, 162), (99, 188), (92, 197), (80, 195),
        (69, 178), (69, 154), (78, 131), (93, 116)]]),
    "HY": (0.45, [[(240, 297), (214, 295), (206, 290), (185, 287), (172, 270), (160, 252),
        (167, 238), (164, 226), (146, 210), (134, 186), (180, 170), (240, 180)]]),
    "TH": (0.5, [[(240, 128), (214, 103), (204, 114), (180, 113), (142, 111), (123, 117),
        (119, 138), (109, 160), (113, 176), (150, 196), (190, 212), (240, 211)]]),
    "CA": (0.75, [[(103, 106), (106, 94), (126, 73), (148, 60), (172, 57), (186, 62), (198, 76),
        (218, 88), (207, 113), (158, 110), (114, 117), (103, 106)]]),
    "DG": (0.65, [[(140, 96), (146, 87), (160, 81), (175, 81), (190, 92), (209, 100), (206, 112),
        (194, 118), (156, 110), (166, 101), (148, 99), (140, 96)]]),
    "VL": (0.15, [[(104, 98), (95, 108), (92, 116), (98, 126), (102, 137), (102, 118), (104, 98)]]),
    "fr": (0.2, [[(199, 141), (206, 137), (217, 134), (210, 143), (203, 144), (199, 141)]]),
    "mtt": (0.1, [[(196, 214), (200, 209), (204, 214), (200, 219), (196, 214)]]),
    "fx": (0.15, [[(182, 254), (186, 250), (190, 254), (186, 258), (182, 254)]]),
    "V3": (0.05, [[(226, 87), (216, 104), (221, 117), (221, 133), (226, 134)], [(226, 229),
        (222, 236), (222, 276), (220, 291), (226, 292)]]),
}

# Factor on brightness against depth. Cortex: 0 at the surface to 1 at white matter (layers 1, 2/3,
# 4, 5, 6). Ammon's horn: pixels from the white matter around it (oriens, the pyramidal line,
# radiatum, lacunosum-moleculare). Dentate gyrus: pixels from its own border (molecular layer,
# granule cells, hilus).
CORTEX_LAYERS = ([0, 0.08, 0.25, 0.45, 0.65, 0.85, 1], [0.7, 0.8, 0.95, 1.1, 1.05, 0.9, 0.6])
CA_LAYERS = ([0, 2, 5, 7, 9, 15, 17, 19], [1.1, 1.2, 1.15, 0.8, 1, 1, 0.75, 1])
DG_LAYERS = ([0, 1, 3, 5, 7, 9, 12], [0.8, 1.15, 1.25, 1, 0.6, 0.6, 0.8])

# Soft spots in grey matter: (ML, DV, radius in pixels, added brightness).
TINTS = [
    *[(116, 47, 4, 0.1), (100, 56, 4, 0.1), (84, 66, 4, 0.1), (74, 77, 4, 0.1)],  # barrels, layer 4
    *[(130, 120, 7, 0.15), (150, 156, 14, 0.12), (204, 122, 8, -0.1)],  # geniculate, VP, habenula
    *[(117, 160, 5, -0.1), (212, 165, 14, -0.05)],  # reticular nucleus, midline thalamus
    *[(75, 158, 8, 0.1), (152, 212, 6, 0.3)],  # lateral caudoputamen, subthalamic nucleus
    *[(180, 202, 8, -0.15), (180, 238, 10, -0.15), (216, 290, 8, -0.2)],  # ZI, LHA, infundibulum
    (218, 98, 8, -0.2),  # where the two hippocampi meet the dorsal third ventricle
]
# fmt: on


@cache
def drawn_atlas() -> Atlas:
    """The project's own atlas slice, drawn by hand.

    320 × 448 pixels of 25 µm, symmetric about the midline between columns 223 and 224. Its regions
    carry the ids, acronyms and parents of the CCFv3 ontology and lie about where coronal plane 286
    has them: the points were chosen by eye beside pictures of that plane, nothing was fitted to it
    and no Allen data is part of it. Every caller gets the same object, so arrays are read-only.
    """
    labels = _paint()
    template = _shade(labels)
    arrays = [np.hstack([half, half[:, ::-1]]) for half in (labels, template)]
    for array in arrays:
        array.setflags(write=False)
    rows = [(i, acronym, name, parent) for i, (acronym, name, parent) in STRUCTURES.items()]
    structures = pd.DataFrame(rows, columns=["id", "acronym", "name", "parent_id"])
    return Atlas(*arrays, structures=structures, pixel_um=25.0, name="drawn atlas")


def _smooth_curve(points: list[tuple[float, float]]) -> np.ndarray:
    """A cubic spline through (ML, DV) points, as the corners of a fine polygon, shape (n, 2)."""
    # Centripetal knots keep the curve from looping where points lie close.
    points = np.asarray(points, dtype=float)
    knots = np.r_[0, np.cumsum(np.sqrt(np.hypot(*np.diff(points, axis=0).T)))]
    closed = np.array_equal(points[0], points[-1])
    spline = CubicSpline(knots, points, bc_type="periodic" if closed else "natural")
    fine = np.linspace(0, len(points) - 1, (len(points) - 1) * POINTS_A_SPAN + 1)
    return spline(np.interp(fine, np.arange(len(points)), knots))


def _paint() -> np.ndarray:
    """Structure ids of the left hemisphere, later regions over earlier ones."""
    ids = {acronym: i for i, (acronym, _, _) in STRUCTURES.items()}
    labels = np.zeros(HALF_SHAPE, dtype=np.uint32)
    cerebrum = polygon2mask(HALF_SHAPE, _smooth_curve(CEREBRUM)[:, ::-1])
    for acronym, (_, curves) in REGIONS.items():
        for points in curves:
            inside = polygon2mask(HALF_SHAPE, _smooth_curve(points)[:, ::-1])
            on_surface = acronym in (*CORTICAL_PLATE, "sAMY")
            labels[inside & cerebrum if on_surface else inside] = ids[acronym]
    return labels


def _shade(labels: np.ndarray) -> np.ndarray:
    """Brightness of the left hemisphere: base, layers, soft spots, blur."""
    of = {acronym: labels == i for i, (acronym, _, _) in STRUCTURES.items()}
    image = np.zeros(HALF_SHAPE)
    for acronym, (brightness, _) in REGIONS.items():
        image[of[acronym]] = brightness

    plate = np.any([of[acronym] for acronym in CORTICAL_PLATE], axis=0)
    # Areas of cortex shade into each other: a mean over the plate alone, not over its neighbours.
    spread = [gaussian_filter(a, AREA_BLUR, mode="reflect") for a in (image * plate, plate * 1.0)]
    image[plate] = spread[0][plate] / spread[1][plate]
    # The midline is a surface too: the two retrosplenial cortices face each other across a fissure.
    brain = np.pad(labels > 0, ((0, 0), (0, 1)))
    from_surface = distance_transform_edt(brain)[:, :-1]
    from_inner = distance_transform_edt(plate | (labels == 0))
    depth = from_surface / (from_surface + from_inner)
    image[plate] *= np.interp(depth[plate], *CORTEX_LAYERS)

    tracts = np.any([of[acronym] for acronym in TRACTS_AND_VENTRICLES], axis=0)
    image[of["CA"]] *= np.interp(distance_transform_edt(~tracts)[of["CA"]], *CA_LAYERS)
    image[of["DG"]] *= np.interp(distance_transform_edt(of["DG"])[of["DG"]], *DG_LAYERS)

    dv, ml = np.indices(HALF_SHAPE)
    grey = (labels > 0) & ~tracts
    for x, y, radius, added in TINTS:
        spot = np.exp(-((ml - x) ** 2 + (dv - y) ** 2) / (2 * radius**2))
        image += added * spot * grey
    # "reflect" repeats the pixel at the midline, which is what the mirrored half would show.
    return gaussian_filter(image, BLUR, mode="reflect").clip(0, 1).astype(np.float32)

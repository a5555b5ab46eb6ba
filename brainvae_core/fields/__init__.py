"""What a model learned: which inputs move its latents, and which outputs its latents move."""

# ruff: noqa: F401

import inspect

from brainvae_core.fields.association import (
    Agreement,
    BothDirections,
    agreement_of,
    both_directions,
    cross_agreement,
    field_agreement,
)
from brainvae_core.fields.independence import (
    Scored,
    has_spot,
    impact_correlation,
    normalised_impacts,
    scored_field,
    share_gap,
    share_localised,
    share_moved,
    share_unmoved,
    uncorrelatedness,
)
from brainvae_core.fields.projective import (
    ProjectiveField,
    Rotated,
    asymmetry,
    outlier_latents,
    projective_field,
    region_profile,
    stratified_rgb,
    tail_asymmetry,
    tail_ratio,
    traversal,
)
from brainvae_core.fields.receptive import (
    ReceptiveField,
    null_divergence,
    perturb,
    receptive_field,
    region_brightness,
    weight_range,
)
from brainvae_core.fields.truth import (
    PlantedFields,
    Recovery,
    planted_fields,
    recover,
    recover_at_random,
)

__all__ = [name for name in dir() if name[0] != "_" and not inspect.ismodule(globals()[name])]

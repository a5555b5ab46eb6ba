"""CW-SSIM at the headline setting (level 4, 8 orientations, 320 × 448): milliseconds a pair."""

import statistics
import time

import numpy as np

from brainvae_core.metrics import cw_ssim

LIMIT_MS = 8.0

rng = np.random.default_rng(0)
reference, images = rng.random((2, 32, 320, 448), dtype=np.float32)
cw_ssim(reference[0], images[:2])
for name, against in (("one reference each", reference), ("one shared reference", reference[0])):
    milliseconds = []
    for _ in range(5):
        start = time.perf_counter()
        cw_ssim(against, images)
        milliseconds.append(1000 * (time.perf_counter() - start) / len(images))
    print(f"{name}: median {statistics.median(milliseconds):.1f} ms of 5 × {len(images)} pairs")
print(f"limit: {LIMIT_MS:.0f} ms a pair on two cores")

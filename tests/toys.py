"""Models that read and write regions by a table, and brains of such regions."""

import numpy as np


class Toy:
    """Reads the regions' brightness by one table, (latent_dim, n_rois), and writes by another."""

    def __init__(self, masks, reads, writes=None):
        self.masks, self.reads = masks, np.asarray(reads)
        self.writes = self.reads if writes is None else np.asarray(writes)

    def encode(self, images):
        means = np.stack([images[:, m].mean(axis=1) for m in self.masks], axis=1) - 0.5
        return (means @ self.reads.T).astype(np.float32)

    def decode(self, z):
        levels = 0.5 + np.asarray(z) @ self.writes
        return np.tensordot(levels, self.masks.astype(float), 1).astype(np.float32)


def bands(shape, edges):
    """Masks of the rows from each edge to the next."""
    drawn = np.zeros((len(edges) - 1, *shape), dtype=bool)
    for mask, top, bottom in zip(drawn, edges, edges[1:], strict=False):
        mask[top:bottom] = True
    return drawn


def brains_of_regions(masks, n):
    """Brains whose regions are equally bright on average and vary alike and independently."""
    rng, spread = np.random.default_rng(0), np.linspace(-1, 1, n)
    levels = 0.5 + 0.2 * rng.permuted(np.tile(spread, (len(masks), 1)), axis=1)
    return np.tensordot(levels.T, masks.astype(np.float32), 1).astype(np.float32)


class Answers:
    """Answers what it is told to, whatever it is asked."""

    def __init__(self, encode=None, decode=None, posterior=None):
        for name, answer in {"encode": encode, "decode": decode, "posterior": posterior}.items():
            if answer:
                setattr(self, name, answer)

"""Seconds a step of a plain PyTorch loop: float32, NCHW, Adam, two loader processes, a log a step.

    python benchmarks/peers/eager_step.py images.npy --batch 64 --device cuda

The loop is written as the authors' base code (1Konny/Beta-VAE) goes about it: images from a
DataLoader in shuffled batches, Bernoulli loss on logits summed over pixels, numbers logged at once.
The network is the paper's in PyTorch's own layers, none of ours among them.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F
from plain import WARM_UP, PlainVAE, told
from torch.utils.data import DataLoader


def main():
    given = told()
    device = torch.device(given.device)
    images = np.load(given.images)
    loader = DataLoader(
        torch.from_numpy(images),  # one at a time, (height, width)
        batch_size=given.batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
    )
    model = PlainVAE(8, images.shape[1:]).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=2e-4)
    log = []
    while len(log) < WARM_UP + given.steps:
        for batch in loader:
            if len(log) == WARM_UP:
                start = time.perf_counter()
            batch = batch.to(device, non_blocking=True)
            mean, logvar = model.posterior_parameters(batch)
            logits = model.logits(mean + torch.exp(logvar / 2) * torch.randn_like(mean))
            reconstruction = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
            reconstruction = reconstruction / len(batch)
            kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()
            loss = reconstruction + 3 * kl
            adam.zero_grad()
            loss.backward()
            adam.step()
            log.append((loss.item(), reconstruction.item(), kl.item()))
            if len(log) == WARM_UP + given.steps:
                break
    if device.type == "cuda":
        torch.cuda.synchronize()
    print((time.perf_counter() - start) / given.steps)


if __name__ == "__main__":
    main()

"""Transposed convolutions with PyTorch's parameters and numbers, in arrangements that are faster.

Chosen by CPU time layer by layer; `benchmarks/train_step.py` times the whole network. Plain
operations on every device; on GPUs their speed is unmeasured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution that adds its bias afterwards.

    oneDNN takes half as long again for a transposed convolution's gradients if the bias's is among
    them; as a sum of its own that gradient costs next to nothing.
    """

    def forward(self, x):
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding)
        return y.add_(self.bias[:, None, None])


class UpsamplingToImage(nn.ConvTranspose2d):
    """A 4 × 4, stride-2, pad-1 transposed convolution to one channel.

    Run forward as a 2 × 2 convolution to four channels, one for each place in a block of 2 × 2
    pixels: a transposed convolution to a single channel leaves a CPU's vector lanes empty.
    """

    def __init__(self, in_channels: int):
        super().__init__(in_channels, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        # Under autocast x comes in half precision, and gradients are taken in one precision.
        return _ToImage.apply(x, self.weight.to(x.dtype)) + self.bias


class _ToImage(torch.autograd.Function):
    """(n, channels, h, w) and (channels, 1, 4, 4) to (n, 1, 2h, 2w)."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        # Row 2·i + p of the kernel reaches place p of the block i further on. (c, i, p, j, q)
        kernel = weight.reshape(-1, 2, 2, 2, 2).flip(1, 3).permute(2, 4, 0, 1, 3)
        kernel = kernel.reshape(4, -1, 2, 2).contiguous(memory_format=torch.channels_last)
        blocks = F.conv2d(x, kernel, padding=1).permute(0, 2, 3, 1)  # (n, h + 1, w + 1, 4)
        # F.pixel_shuffle, in a third of its time on a CPU.
        image = blocks.unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return image[:, None, 1:-1, 1:-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        # The transposed convolution's own: a convolution of one channel, which is fast.
        x, weight = ctx.saved_tensors
        return torch.ops.aten.convolution_backward(
            gradient.to(x.dtype).contiguous(memory_format=torch.channels_last),
            x,
            weight,
            bias_sizes=None,
            stride=[2, 2],
            padding=[1, 1],
            dilation=[1, 1],
            transposed=True,
            output_padding=[0, 0],
            groups=1,
            output_mask=[True, True, False],
        )[:2]

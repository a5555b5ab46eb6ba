"""The network's 4 × 4 convolutions with PyTorch's parameters and numbers, arranged to be faster.

Chosen by CPU time layer by layer; `benchmarks/train_step.py` times the whole network. Plain
operations on every device; on GPUs their speed is unmeasured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS_LAST = torch.channels_last


class FromImage(nn.Conv2d):
    """A 4 × 4, stride-2, pad-1 convolution of one channel.

    Run as a 2 × 2 convolution of four channels, one for each place in a block of 2 × 2 pixels: one
    channel leaves a CPU's vector lanes empty.
    """

    def __init__(self, out_channels: int):
        super().__init__(1, out_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        n, _, height, width = x.shape
        rows, columns = height // 2 + 1, width // 2 + 1
        # Row 2·i + p, of the image and of the kernel, is place p of block i. (·, i, p, j, q)
        blocks = F.pad(x, (1, 1, 1, 1)).reshape(n, rows, 2, columns, 2).permute(0, 2, 4, 1, 3)
        blocks = blocks.reshape(n, 4, rows, columns)
        kernel = self.weight.reshape(-1, 2, 2, 2, 2).permute(0, 2, 4, 1, 3).reshape(-1, 4, 2, 2)
        return F.conv2d(
            blocks.contiguous(memory_format=CHANNELS_LAST),
            kernel.contiguous(memory_format=CHANNELS_LAST),
            self.bias,
        )


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution whose bias has a gradient of its own.

    oneDNN takes three times as long for a transposed convolution's gradients if the bias's is among
    them; as a sum of its own that gradient costs next to nothing.
    """

    def forward(self, x):
        return _Upsample.apply(x, self.weight, self.bias, self.stride, self.padding)


class UpsamplingToImage(nn.ConvTranspose2d):
    """A 4 × 4, stride-2, pad-1 transposed convolution to one channel.

    Run forward as a 2 × 2 convolution to four channels, as `FromImage` is.
    """

    def __init__(self, in_channels: int):
        super().__init__(in_channels, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        return _ToImage.apply(x, self.weight) + self.bias


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return F.conv_transpose2d(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        to_x, to_weight = _gradients(gradient, *ctx.saved_tensors, *ctx.geometry)
        return to_x, to_weight, gradient.sum((0, 2, 3)), None, None


class _ToImage(torch.autograd.Function):
    """(n, channels, h, w) and (channels, 1, 4, 4) to (n, 1, 2h, 2w)."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        # Row 2·i + p of the kernel reaches place p of the block i further on. (c, i, p, j, q)
        kernel = weight.reshape(-1, 2, 2, 2, 2).flip(1, 3).permute(2, 4, 0, 1, 3)
        kernel = kernel.reshape(4, -1, 2, 2).contiguous(memory_format=CHANNELS_LAST)
        blocks = F.conv2d(x, kernel, padding=1).permute(0, 2, 3, 1)  # (n, h + 1, w + 1, 4)
        # F.pixel_shuffle, in a third of its time on a CPU.
        image = blocks.unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return image[:, None, 1:-1, 1:-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        # The transposed convolution's own: a convolution of one channel, which is fast.
        return _gradients(gradient, *ctx.saved_tensors, (2, 2), (1, 1))


def _gradients(gradient, x, weight, stride, padding):
    """Of a transposed convolution, to its input and its weight."""
    return torch.ops.aten.convolution_backward(
        gradient.contiguous(memory_format=CHANNELS_LAST),
        x,
        weight,
        bias_sizes=None,
        stride=stride,
        padding=padding,
        dilation=[1, 1],
        transposed=True,
        output_padding=[0, 0],
        groups=1,
        output_mask=[True, True, False],
    )[:2]

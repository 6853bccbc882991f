"""Time of depthwise convolutions, pools and norms, with their derivatives: the library and ours.

*Rewritten* are the library's products, as they run where there are no kernels in C++.
"""

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import interleaved
from darts_gdas import native
from darts_gdas.nets.depthwise import depthwise_conv2d
from darts_gdas.nets.pooling import normalized_pool
from darts_gdas.runtime.compute import Compute, Device, Precision

POOLS = {
    "nothing": nn.Identity(),
    "largest of 3x3": nn.MaxPool2d(3, 1, padding=1),
    "mean of 3x3": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    "largest of 3x3, stride 2": nn.MaxPool2d(3, 2, padding=1),
    "mean of 3x3, stride 2": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=[d.name for d in Device], default="auto")


def run(arguments: argparse.Namespace) -> None:
    found = native.chosen()
    try:
        _convolutions(arguments)
        _norms(arguments)
    finally:
        native.choose(found)


def _convolutions(arguments: argparse.Namespace) -> None:
    compute = Compute.select(Device[arguments.device], Precision.fp32, True, arguments.threads)
    channels, size = arguments.channels, arguments.size
    print(f"{compute.describe()}, torch {torch.__version__};", end=" ")
    print(f"images [{arguments.batch}, {channels}, {size}, {size}], forward and backward pass\n")
    print(
        "| kernel | stride | dilation | library, contiguous, ms | library, channels_last, ms |",
        end="",
    )
    print(" rewritten, ms | ours, ms | channels_last / ours |\n|---|---|---|---|---|---|---|---|")
    for stride in (1, 2):
        for kernel, dilation in ((3, 1), (5, 1), (3, 2), (5, 2)):
            x = torch.randn(arguments.batch, channels, size, size, device=compute.device)
            weight = torch.randn(channels, 1, kernel, kernel, device=compute.device)
            last = x.contiguous(memory_format=torch.channels_last)
            for leaf in (x, last, weight):
                leaf.requires_grad_()
            geometry = {"stride": stride, "dilation": dilation}
            padding = dilation * (kernel // 2)

            def library(x=x, weight=weight, geometry=geometry, padding=padding):
                y = F.conv2d(x, weight, padding=padding, groups=channels, **geometry)
                return torch.autograd.grad(y, (x, weight), torch.ones_like(y))

            def ours(kernels, x=last, weight=weight, geometry=geometry):
                native.choose(kernels)
                y = depthwise_conv2d(x, weight, **geometry)
                return torch.autograd.grad(y, (x, weight), torch.ones_like(y))

            calls = {
                "first": library,
                "last": lambda f=library, x=last: f(x),
                "rewritten": partial(ours, native.Kernels.library),
                "ours": partial(ours, native.Kernels.auto),
            }
            times = interleaved(calls, repeats=arguments.repeats, device=compute.device)
            first, before, rewritten, after = (1e3 * times[name] for name in calls)
            print(
                f"| {kernel}x{kernel} | {stride} | {dilation} | {first:.2f} | {before:.2f} "
                f"| {rewritten:.2f} | {after:.2f} | {before / after:.2f} |"
            )


def _norms(arguments: argparse.Namespace) -> None:
    """Images normalised by their batch, as they are and behind pools, on a CPU."""
    device = torch.device("cpu")
    x = torch.randn(arguments.batch, arguments.channels, arguments.size, arguments.size)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    print("\n| before the norm | library, ms | ours, ms | library / ours |\n|---|---|---|---|")
    for name, pool in POOLS.items():

        def normalized(kernels, pool=pool):
            native.choose(kernels)
            y, *_ = normalized_pool(x, pool, 1e-5)
            return torch.autograd.grad(y, x, torch.ones_like(y))

        calls = {
            kernels.value: partial(normalized, kernels)
            for kernels in (native.Kernels.library, native.Kernels.auto)
        }
        times = interleaved(calls, repeats=arguments.repeats, device=device)
        before, after = (1e3 * times[name] for name in calls)
        print(f"| {name} | {before:.2f} | {after:.2f} | {before / after:.2f} |")

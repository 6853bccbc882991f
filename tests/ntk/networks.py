"""Small float64 networks with all that a network may do to its weights."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet
from darts_gdas.space import Genotype


class Call(nn.Module):
    """A function of the network itself, which holds some parts, and samples."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def cancelling(width: int = 50) -> tuple[nn.Module, nn.Module, nn.Module]:
    """One network less another that is it with its hidden units in another order, and the two.

    Outputs are 0 up to rounding; gradients are not.
    """
    one, two = (
        nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3)) for _ in range(2)
    )
    with torch.no_grad():
        for name, w in one.named_parameters():
            axes = {"2.weight": [1], "2.bias": []}.get(name, [0])
            two.get_parameter(name).copy_(w.flip(axes))
    return Call(lambda net, x: net.one(x) - net.two(x), one=one, two=two), one, two


class Affine(nn.Module):
    """A parameter that belongs to no known layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Tokens(nn.Module):
    """Linear layers that see [samples, tokens, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.gelu(self.first(x)))
        return self.head((y * y).mean(1))


class Block(nn.Module):
    """A residual block, its ReLUs in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(x + self.body(x))


class Tied(nn.Module):
    """One weight in two layers, a bias of its own each; and one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.again, self.head = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.head(torch.tanh(self.again(torch.tanh(self.again(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, 3, groups=2, padding=2, dilation=2),
        nn.SiLU(),
        nn.Conv2d(8, 6, 1, stride=2),
        nn.SiLU(),
        nn.Conv2d(6, 6, (5, 3), groups=6, padding=(2, 1), stride=(1, 2)),
        nn.SiLU(),
        nn.Conv2d(6, 12, (4, 1), groups=6, padding=(2, 0)),  # two outputs per input
        nn.SiLU(),
        nn.Conv2d(12, 5, 1, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def cnn_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Conv1d(4, 4, 5, groups=4, stride=2),
        nn.ReLU(),
        nn.Conv1d(4, 3, 1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(3, 3),
        nn.BatchNorm1d(3),
    )


def cnn_3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1),
        nn.BatchNorm3d(2),
        nn.ReLU(),
        nn.Conv3d(2, 3, (1, 2, 2), stride=(1, 2, 1)),
        nn.Flatten(),
        nn.LazyLinear(2),
    )


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        Block(4),
        Block(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def own_parameter() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), Affine(4), nn.Tanh(), nn.Linear(4, 2))


def derived(name: str) -> nn.Module:
    return DerivedNet.build(
        Genotype.load(name), channels=4, layers=3, num_classes=3, auxiliary=False
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (5,)),
    "cnn": (cnn, (3, 11, 12)),
    "conv1d": (cnn_1d, (2, 9)),
    "conv3d": (cnn_3d, (1, 4, 4, 3)),
    "tokens": (Tokens, (3, 4)),
    "tied": (Tied, (5,)),
    "resnet": (resnet, (3, 5, 6)),
    "darts": (lambda: derived("DARTS_V2"), (3, 8, 8)),
    "pc_darts, odd sizes": (lambda: derived("PC_DARTS_image"), (3, 9, 7)),
}
"""By name: how to make one that every method takes, and the shape of a sample."""


def settled(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """In float64 and evaluation, its norms with statistics and weights of their own."""
    model = model.double().eval()
    model(torch.zeros(1, *shape, dtype=torch.float64))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
    return model


def make(name: str, samples: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    """A network by name, samples, and one sample fewer of others."""
    factory, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = settled(factory(), shape)
        x = torch.randn(2 * samples - 1, *shape, dtype=torch.float64)
    return model, x[:samples], x[samples:]

"""A first-order search as it is usually written, as a program: `python -m benchmarks.plain_search`.

Half of the training images for the weights, half for the alphas; each step moves the alphas, then
the weights; after each epoch all images of the second half are evaluated, and the alphas saved.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter
from torchvision import datasets, transforms

from benchmarks.reference import PlainSuperNet
from darts_gdas.nets import Layout
from darts_gdas.search import ArchParameters, GumbelHard, Softmax
from darts_gdas.space import SearchSpace


def main() -> None:
    """Search, and print one line per epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("method", choices=("darts", "gdas"))
    for name in ("channels", "layers", "batch", "epochs", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    weight_half, arch_half, test = _load(arguments.images)
    space = SearchSpace.named("darts")
    net = PlainSuperNet(space, Layout(arguments.channels, arguments.layers, 10))
    alphas = ArchParameters(space)
    one = arguments.method == "gdas"
    relaxation = GumbelHard() if one else Softmax()
    optimizer = torch.optim.SGD(net.parameters(), 0.025, 0.9, weight_decay=3e-4)
    arch_optimizer = torch.optim.Adam(alphas.parameters(), 3e-4, (0.5, 0.999), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs, 1e-3)
    writer, noise = SummaryWriter("logs"), torch.Generator().manual_seed(0)

    def logits(images: Tensor) -> Tensor:
        mixture = relaxation(alphas, progress=0.5, rng=noise)
        return net(images, {kind: cell.ops for kind, cell in mixture.items()}, one)

    for epoch in range(arguments.epochs):
        net.train()
        correct = seen = 0
        pairs = zip(_batches(weight_half, arguments), _batches(arch_half, arguments), strict=True)
        for (images, labels), (arch_images, arch_labels) in pairs:
            arch_optimizer.zero_grad()
            F.cross_entropy(logits(arch_images), arch_labels).backward()
            arch_optimizer.step()
            optimizer.zero_grad()
            out = logits(images)
            F.cross_entropy(out, labels).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            correct, seen = correct + (out.argmax(1) == labels).sum().item(), seen + len(labels)
        schedule.step()
        accuracy = _accuracy(net, logits, DataLoader(test, arguments.batch))
        writer.add_scalar("train/accuracy", correct / seen, epoch)
        writer.add_scalar("arch/accuracy", accuracy, epoch)
        state = {"net": net.state_dict(), "alphas": alphas.state_dict()}
        torch.save({**state, "optimizer": optimizer.state_dict()}, "checkpoint.pt")
        print(epoch, correct / seen, accuracy, flush=True)
    writer.close()


def _load(images: Path) -> tuple[Dataset, Dataset, Dataset]:
    tensor = [transforms.ToTensor(), transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))]
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    train = datasets.ImageFolder(str(images / "train"), transforms.Compose([*crop, *tensor]))
    plain = datasets.ImageFolder(str(images / "train"), transforms.Compose(tensor))
    order = torch.randperm(len(train)).tolist()
    half = len(train) // 2
    return Subset(train, order[:half]), Subset(train, order[half:]), Subset(plain, order[half:])


def _batches(images: Dataset, arguments: argparse.Namespace) -> DataLoader:
    return DataLoader(images, arguments.batch, shuffle=True, drop_last=True)


@torch.no_grad()
def _accuracy(net: PlainSuperNet, logits, batches: DataLoader) -> float:
    net.eval()
    right = [(logits(images).argmax(1) == labels).float() for images, labels in batches]
    return torch.cat(right).mean().item()


if __name__ == "__main__":
    main()

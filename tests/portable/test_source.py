"""The stand-alone file: the same function, in code that a linter and a formatter accept."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import CHAIN, NASBENCH201, OPERATIONS, DerivedNet, Layout, Stem
from darts_gdas.portable.cell_code import written_edges
from darts_gdas.portable.source import quoted, source_of, weights_of
from darts_gdas.runtime.augment import Normalize
from darts_gdas.space import CellGenotype, Edge, Genotype, published_names
from darts_gdas.tasks.model import TrainedModel

EXACT = {"rtol": 1e-10, "atol": 1e-10}
MEAN, STD = [0.491, 0.482, 0.447], [0.247, 0.243, 0.262]


def one_operation(name: str) -> Genotype:
    """Cells that read every state through the same operation, one state twice."""
    nodes = ((Edge(name, 0), Edge(name, 1)), (Edge(name, 2), Edge(name, 0), Edge(name, 0)))
    return Genotype({kind: CellGenotype(nodes, (2, 3)) for kind in ("normal", "reduce")})


def bench(*names: str) -> Genotype:
    a, b, c, d, e, f = names * (6 // len(names))
    return Genotype.from_arch_string(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|")


def model_of(genotype: Genotype, layout: Layout, size: tuple[int, int] = (9, 8)) -> TrainedModel:
    """A float64 network whose weights and statistics are none that a module begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DerivedNet(genotype, layout, auxiliary=True).double()
        for norm in (part for part in net.modules() if isinstance(part, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
        net(torch.randn(4, layout.in_channels, *size).double())
    channels = layout.in_channels
    normalize = Normalize(torch.tensor(MEAN[:channels]), torch.tensor(STD[:channels]))
    classes = tuple(f"class {i}" for i in range(layout.num_classes))
    return TrainedModel(net.eval(), normalize, classes, size)


def pixels(model: TrainedModel, batch: int = 3) -> Tensor:
    shape = (batch, model.net.layout.in_channels, *model.image_size)
    source = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, dtype=torch.uint8, generator=source)


def expected(model: TrainedModel, images: Tensor) -> Tensor:
    """The network's logits with a normalisation in float64."""
    mean, std = (x.double()[:, None, None] for x in (model.normalize.mean, model.normalize.std))
    return model.net((images.double() / 255 - mean) / std)


def loaded(model: TrainedModel) -> nn.Module:
    """The written network with its weights, made in this process."""
    module = ModuleType("network")
    exec(compile(source_of(model, ["A network."]), "network.py", "exec"), module.__dict__)
    net = module.Net().double()
    net.load_state_dict(weights_of(model.net))
    return net.eval()


DEAD = Genotype(
    {
        kind: CellGenotype(
            (
                (Edge("sep_conv_3x3", 0),),
                (Edge("none", 0), Edge("none", 2)),
                (Edge("skip_connect", 3), Edge("none", 2), Edge("nor_conv_3x3", 1)),
            ),
            (4,),
        )
        for kind in ("normal", "reduce")
    }
)
"""Nothing reads node 0 but through `none`, and node 1 is zero."""

CHAIN_OF_FOUR = Genotype(
    {
        f"block{i}": CellGenotype(((Edge(name, 0),),), (1,), 1)
        for i, name in enumerate(("skip_connect", "mbconv3_5x5", "mbconv6_3x3", "mbconv6_7x7"))
    }
)

NETWORKS = {
    **{name: (Genotype.load(name), Layout(4, 4, 5)) for name in published_names()},
    **{name: (one_operation(name), Layout(4, 4, 5)) for name in OPERATIONS},
    "imagenet": (Genotype.load("DARTS_V2"), Layout(4, 3, 5, stem=Stem.imagenet)),
    "grey, no reduction": (one_operation("sep_conv_3x3"), Layout(4, 1, 5, 1, reductions=())),
    "bench": (
        bench("nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none"),
        Layout(4, 5, 3, skeleton=NASBENCH201),
    ),
    "chain": (CHAIN_OF_FOUR, Layout(4, 4, 3, skeleton=CHAIN, reductions=(1,), widths=(1, 2, 2, 3))),
    "dead node": (DEAD, Layout(4, 3, 5)),
    "bench none": (bench("none"), Layout(4, 8, 3, skeleton=NASBENCH201)),
}
LARGER = {"imagenet": (40, 33)}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_written_network_is_the_network(name: str):
    model = model_of(*NETWORKS[name], LARGER.get(name, (9, 8)))
    net = loaded(model)
    for batch in (1, 3):
        images = pixels(model, batch)
        with torch.no_grad():
            assert_close(net(images), expected(model, images), **EXACT)


@pytest.mark.parametrize("name", ["DARTS_V2", "AmoebaNet", "bench", "chain"])
def test_the_written_network_trains_alike(name: str):
    """Gradients of all weights, with the statistics of the batch, by two implementations."""
    model = model_of(*NETWORKS[name])
    net, images = loaded(model).train(), pixels(model)
    model.net.auxiliary = None
    model.net.train()
    for logits in (net(images), expected(model, images)):
        logits.square().sum().backward()
    gradients = {name: weight.grad for name, weight in net.named_parameters()}
    ours = {name: weight for name, weight in model.net.named_parameters()}
    renamed = [*weights_of(model.net)]
    matched = dict(zip(model.net.state_dict(), renamed, strict=True))
    for old, weight in ours.items():
        assert_close(gradients[matched[old]], weight.grad, rtol=1e-8, atol=1e-8)


def test_it_loads_in_a_fresh_process_without_this_project(tmp_path: Path):
    """Five files and their weights, in float64, where importing darts_gdas is an error."""
    names = ["DARTS_V2", "noise", "imagenet", "bench", "chain"]
    models = {name: model_of(*NETWORKS[name], LARGER.get(name, (9, 8))) for name in names}
    for name, model in models.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.py").write_text(source_of(model, ["A network."]))
        torch.save(weights_of(model.net), tmp_path / name / "network.pt")
        torch.save(pixels(model), tmp_path / name / "images")
    program = (
        "import sys; sys.modules['darts_gdas'] = None\n"
        "import importlib, torch\n"
        f"for name in {names}:\n"
        "    sys.path[:0] = [name]; sys.modules.pop('network', None)\n"
        "    importlib.invalidate_caches(); from network import Net\n"
        "    net = Net(); net.double().load_state_dict(torch.load(f'{name}/network.pt'))\n"
        "    torch.save(net.eval()(torch.load(f'{name}/images')).detach(), f'{name}/logits')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, model in models.items():
        logits = torch.load(tmp_path / name / "logits")
        assert_close(logits, expected(model, pixels(model)).detach(), **EXACT)


def test_the_code_is_as_a_linter_and_a_formatter_want_it(tmp_path: Path):
    for name, (genotype, layout) in NETWORKS.items():
        model = model_of(genotype, layout, LARGER.get(name, (9, 8)))
        source = source_of(model, ["A network.", "", "For people."])
        (tmp_path / f"{name.replace(' ', '_')}.py").write_text(source)
    options = ["--isolated", "--line-length", "100", "--no-cache", str(tmp_path)]
    for command in (["check", "--select", "E,F,I,B,UP,SIM"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_only_blocks_in_use_are_written():
    source = source_of(model_of(*NETWORKS["bench none"]), ["A network."])
    found = re.findall(r"^(?:class|def) (\w+)\(", source, re.MULTILINE)
    assert found == ["ReluFirst", "ReluConvNorm", "ResidualReduction", "NormalCell", "Net"]
    assert "class ReductionCell" not in source and "math" not in source


def test_a_state_that_is_read_twice_has_two_names():
    edges = written_edges(one_operation("noise").cells["normal"], 1)
    assert [edge.label for edge in edges if edge.node == 1] == [
        "node0_to_node1", "before_to_node1", "before_to_node1_2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["a", "it's", 'say "so"', "both ' and \"", "\\", "\\'", "\u00e9\U0001f600", "\n"]
)
def test_class_names_are_ascii_literals(text: str):
    literal = quoted(text)
    assert eval(literal) == text and literal.isascii() and literal[0] == literal[-1] == '"'


def test_a_block_of_several_operations_is_refused():
    nodes = ((Edge("mbconv3_3x3", 0),), (Edge("mbconv3_3x3", 1),))
    model = model_of(Genotype({"block0": CellGenotype(nodes, (2,), 1)}), ONE_BLOCK)
    with pytest.raises(ValueError, match="a block is written as its only operation; export this"):
        source_of(model, ["A network."])


@pytest.mark.parametrize("name", ["skip_connect", "max_pool_3x3", "sep_conv_5x5", "noise"])
def test_any_operation_may_be_a_block(name: str):
    cells = {"block0": CellGenotype(((Edge(name, 0),),), (1,), 1)}
    model = model_of(Genotype(cells), ONE_BLOCK)
    images = pixels(model)
    with torch.no_grad():
        assert_close(loaded(model)(images), expected(model, images), **EXACT)


ONE_BLOCK = Layout(4, 1, 3, skeleton=CHAIN, reductions=())

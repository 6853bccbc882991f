"""Genotypes: the discrete cells that a search returns and a retraining builds."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from darts_gdas.space.frozen import FrozenDict
from darts_gdas.space.peer_strings import bare_string, is_peer_text, peer_cells

PUBLISHED = resources.files("darts_gdas.space") / "published"
_PLACES = ("reductions", "widths")
_ARCH_EDGE = re.compile(r"\|([a-z0-9_]+)~(\d)")
_OP = r"\|[a-z0-9_]+~"
_ARCH_STRING = re.compile(rf"{_OP}0\|\+{_OP}0{_OP}1\|\+{_OP}0{_OP}1{_OP}2\|")


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation applied to one earlier state of the cell.

    Attributes:
        op: Name of the operation, a key of `darts_gdas.nets.OPERATIONS`.
        source: State that is read: the cell's inputs come first (0 is c_{k-2}, 1 is c_{k-1}),
            then the nodes in order.
    """

    op: str
    source: int


@dataclass(frozen=True, slots=True)
class CellGenotype:
    """One discrete cell: what each node sums, and which states leave the cell.

    A node may read one state twice and may read any number of states (NASNet's and AmoebaNet's
    cells do); "two distinct inputs per node" is a rule of derivation, not of what a cell may be.

    Attributes:
        nodes: The edges into each node, in node order. Node i is state `num_inputs + i`.
        output: The states that are concatenated, as state indices; nodes only.
        num_inputs: Number of states that enter the cell.
    """

    nodes: tuple[tuple[Edge, ...], ...]
    output: tuple[int, ...]
    num_inputs: int = 2

    def __post_init__(self) -> None:
        if self.num_inputs < 1 or not self.nodes:
            raise ValueError(
                "a cell needs at least one input and one node, "
                f"got {self.num_inputs} inputs and {len(self.nodes)} nodes"
            )
        for node, edges in enumerate(self.nodes):
            self._check_node(node, edges)
        states = range(self.num_inputs, self.num_inputs + len(self.nodes))
        if not self.output or len(set(self.output)) < len(self.output):
            raise ValueError(f"output must name distinct states, got {list(self.output)}")
        if not set(self.output) <= set(states):
            raise ValueError(
                f"output may only name the nodes' states {states[0]}..{states[-1]}, "
                f"got {list(self.output)}"
            )

    def _check_node(self, node: int, edges: tuple[Edge, ...]) -> None:
        if not edges:
            raise ValueError(f"node {node} has no edge; every node reads at least one state")
        for edge in edges:
            if not 0 <= edge.source < self.num_inputs + node:
                raise ValueError(
                    f"node {node} reads state {edge.source}, but only states "
                    f"0..{self.num_inputs + node - 1} exist before it"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON."""
        return {
            "inputs": self.num_inputs,
            "nodes": [[[edge.op, edge.source] for edge in edges] for edges in self.nodes],
            "output": list(self.output),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CellGenotype":
        """The inverse of `to_dict`; a malformed value is a `ValueError` that says where."""
        _require_keys(data, {"inputs", "nodes", "output"}, "a cell")
        nodes = tuple(
            tuple(_edge_from_list(edge, node) for edge in _list(edges, f"node {node}"))
            for node, edges in enumerate(_list(data["nodes"], "nodes"))
        )
        return cls(nodes, _integers(data["output"], "output"), _integer(data["inputs"], "inputs"))


@dataclass(frozen=True, slots=True)
class Genotype:
    """A discrete architecture: one cell per kind. A value: hashable, comparable, JSON in and out.

    Attributes:
        cells: The cell of each kind, "normal" and "reduce" in the DARTS space.
        reductions: Positions that halve the resolution, where cells were chosen for their places
            (chains of blocks). None leaves it to the network.
        widths: Channels at each place in multiples of the network's, likewise.

    Example:
        >>> genotype = Genotype.load("DARTS_V2")
        >>> genotype.cells["normal"].nodes[0]
        (Edge(op='sep_conv_3x3', source=0), Edge(op='sep_conv_3x3', source=1))
    """

    cells: Mapping[str, CellGenotype]
    reductions: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("a genotype needs at least one cell")
        object.__setattr__(self, "cells", FrozenDict(self.cells))

    @property
    def operations(self) -> frozenset[str]:
        """Names of all operations in use."""
        return frozenset(
            edge.op for cell in self.cells.values() for edges in cell.nodes for edge in edges
        )

    @property
    def num_inputs(self) -> dict[str, int]:
        """States that enter a cell, by kind."""
        return {kind: cell.num_inputs for kind, cell in self.cells.items()}

    def to_json(self) -> str:
        """A JSON text with one line per node."""
        kinds = (f"{json.dumps(kind)}: {_cell_json(cell)}" for kind, cell in self.cells.items())
        places = ((name, getattr(self, name)) for name in _PLACES)
        more = (f',\n"{name}": {json.dumps(v)}' for name, v in places if v is not None)
        return '{"cells": {\n  ' + ",\n  ".join(kinds) + "\n}" + "".join(more) + "}\n"

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Read `to_json`'s text.

        Raises:
            ValueError: If the text is not JSON or not a valid genotype; the message says where.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from None
        given = [name for name in _PLACES if isinstance(data, Mapping) and name in data]
        _require_keys(data, {"cells", *given}, "a genotype")
        if not isinstance(data["cells"], dict):
            raise ValueError(f"cells must map kinds to cells, got {data['cells']!r}")
        cells = {}
        for kind, cell in data["cells"].items():
            try:
                cells[kind] = CellGenotype.from_dict(cell)
            except ValueError as error:
                raise ValueError(f"cell {kind!r}: {error}") from None
        places = {name: _integers(data[name], name) for name in given}
        return cls(cells, **places)

    def to_arch_string(self) -> str:
        """The cell as NAS-Bench-201 writes it: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

        Raises:
            ValueError: If it is no cell of that space: one kind, one input, three nodes that each
                read every earlier state, the last one the output.
        """
        cell = next(iter(self.cells.values()))
        sources = [[edge.source for edge in edges] for edges in cell.nodes]
        if (
            len(self.cells) > 1
            or cell.num_inputs != 1
            or cell.output != (3,)
            or (sources != [[0], [0, 1], [0, 1, 2]])
        ):
            raise ValueError("only cells of NAS-Bench-201 can be written as its strings")
        nodes = ("".join(f"|{edge.op}~{edge.source}" for edge in edges) for edges in cell.nodes)
        return "+".join(f"{node}|" for node in nodes)

    @classmethod
    def from_arch_string(cls, text: str) -> "Genotype":
        """The inverse of `to_arch_string`; the kind is called "normal".

        AutoDL-Projects' logs print it in words, `Structure(4 nodes with |op~0|+...)`.

        Example:
            >>> text = "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
            >>> Genotype.from_arch_string(text).cells["normal"].nodes[2][2]
            Edge(op='nor_conv_3x3', source=2)

        Raises:
            ValueError: If the text has another form.

        Reference:
            Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326.
        """
        text = bare_string(text)
        if not _ARCH_STRING.fullmatch(text):
            raise ValueError(
                f"a NAS-Bench-201 cell is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, "
                f"got {text[:200]!r}"
            )
        nodes = tuple(
            tuple(Edge(op, int(source)) for op, source in _ARCH_EDGE.findall(node))
            for node in text.split("+")
        )
        return cls({"normal": CellGenotype(nodes, (3,), 1)})

    @classmethod
    def load(cls, source: str | Path) -> "Genotype":
        """A published genotype by name, a cell by its string, or one from a file.

        Args:
            source: A name out of `published_names()`; a text of `to_arch_string`, of `to_json` or
                in others' words (`space.peer_strings`); a file with one; or a run's folder.

        Raises:
            ValueError: If it is neither, or the file is not a valid genotype.
        """
        if not str(source).strip():
            raise ValueError("genotype is empty; name a published one, a file or a run's folder")
        if str(source) in published_names():
            return cls.from_json((PUBLISHED / f"{source}.json").read_text())
        if is_written_out(str(source)):
            return cls._from_text(str(source))
        path = Path(source)
        try:
            path = path / "genotype.json" if path.is_dir() else path
            text = path.read_text(encoding="utf-8-sig")  # editors may put a mark first
        except OSError as error:
            raise ValueError(
                f"genotype {str(path)[:200]!r} is neither a published name "
                f"({', '.join(published_names())}) nor a file that can be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"genotype {str(path)!r} is not a text file") from None
        try:
            return cls._from_text(text)
        except ValueError as error:
            raise ValueError(f"genotype {str(path)!r}: {error}") from None

    @classmethod
    def _from_text(cls, text: str) -> "Genotype":
        """Any of the forms in which a cell is written."""
        if bare_string(text).startswith("|"):
            return cls.from_arch_string(text)
        return cls.from_json(json.dumps(peer_cells(text)) if is_peer_text(text) else text)


def is_written_out(source: str) -> bool:
    """Whether it is a cell itself, in any of its forms, not the name or the file of one."""
    return bare_string(source).startswith(("|", "{")) or is_peer_text(source)


def published_names() -> tuple[str, ...]:
    """Names that `Genotype.load` knows without a file, sorted."""
    files = (Path(str(file)) for file in PUBLISHED.iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix == ".json"))


def _cell_json(cell: CellGenotype) -> str:
    data = cell.to_dict()
    nodes = ",\n    ".join(json.dumps(edges) for edges in data["nodes"])
    return (
        f'{{"inputs": {data["inputs"]}, "nodes": [\n    {nodes}\n  ], '
        f'"output": {json.dumps(data["output"])}}}'
    )


def _require_keys(data: Any, keys: set[str], what: str) -> None:
    if not isinstance(data, Mapping) or set(data) != keys:
        got = sorted(map(str, data)) if isinstance(data, Mapping) else repr(data)
        raise ValueError(f"{what} has exactly the keys {sorted(keys)}, got {got}")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {value!r}")
    return value


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where} must hold whole numbers, got {value!r}")
    return value


def _integers(value: Any, where: str) -> tuple[int, ...]:
    return tuple(_integer(item, where) for item in _list(value, where))


def _edge_from_list(value: Any, node: int) -> Edge:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)):
        raise ValueError(f"node {node}: an edge is [operation, source state], got {value!r}")
    return Edge(value[0], _integer(value[1], f"node {node}"))

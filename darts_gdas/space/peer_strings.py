"""Cells as other projects print them; read as literals, so that no text runs."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from darts_gdas.reasons import reason

PRINTED = "Genotype("
"""How a cell of DARTS begins."""

KINDS = ("normal", "reduce")
IGNORED = ("connectN", "connects")
NNI_NETWORK = ("depth", "width")
"""What NNI's spaces search beside the cells; here the network has numbers of its own."""

_BEGINNING = re.compile(r"\s*(Genotype\((?!\d+\)\.)|\{\s*['\"](normal|reduce|depth|width)\b)")
_STRUCTURE = re.compile(r"_?Structure\(\d+ nodes with (.*)\)")


def bare_string(text: str) -> str:
    """The cell in `Structure(4 nodes with |op~0|+...)`, a text of AutoDL-Projects' logs.

    Example:
        >>> bare_string("Structure(4 nodes with |none~0|)"), bare_string("|none~0|")
        ('|none~0|', '|none~0|')
    """
    return _STRUCTURE.sub(r"\1", text.strip())


def is_peer_text(text: str) -> bool:
    """Whether a text begins as `peer_cells` takes it."""
    return _BEGINNING.match(text) is not None


def peer_cells(text: str) -> dict[str, Any]:
    """What `Genotype.from_json` takes, of what DARTS, GDAS, AutoDL-Projects and NNI print.

    That is `Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)` or a
    dictionary of the same names. Two edges make a node, whether they stand in a pair or one after
    the other; what follows operation and source in an edge is a weight and is left out.

    NNI's `export_top_models()` gives `{"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0],
    ...}`, in version 2 with a bare number for the source. All nodes leave the cell, as in its space
    `DARTS`; those of its others, `NASNet` and the like, have loose ends.

    Example:
        >>> nodes = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"
        >>> cells = f"normal={nodes}, normal_concat=[2], reduce={nodes}, reduce_concat=range(2, 3)"
        >>> peer_cells(f"Genotype({cells})")["cells"]["reduce"]["output"]
        [2]

    Raises:
        ValueError: If the text has another form.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        parts = _parts(tree)
        if any("/" in name for name in parts):
            return {"cells": _cells_of_nni(parts)}
        if set(parts) - set(IGNORED) != {
            f"{kind}{end}" for kind in KINDS for end in ("", "_concat")
        }:
            raise ValueError(f"it names {sorted(parts)}")
        return {
            "cells": {
                kind: {
                    "inputs": 2,
                    "nodes": _nodes(ast.literal_eval(parts[kind])),
                    "output": _states(parts[f"{kind}_concat"]),
                }
                for kind in KINDS
            }
        }
    except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(
            "a cell of DARTS or GDAS is written Genotype(normal=[('sep_conv_3x3', 0), ...], "
            "normal_concat=range(2, 6), reduce=[...], reduce_concat=...), one of NNI "
            f"{{'normal/op_2_0': 'sep_conv_3x3', 'normal/input_2_0': [0], ...}}: {reason(error)}"
        ) from None


def _parts(tree: ast.expr) -> Mapping[str, ast.expr]:
    if isinstance(tree, ast.Dict):
        return {
            str(ast.literal_eval(k)): v for k, v in zip(tree.keys, tree.values, strict=True) if k
        }
    if isinstance(tree, ast.Call) and not tree.args:
        return {keyword.arg: keyword.value for keyword in tree.keywords if keyword.arg}
    raise ValueError("it is neither a call by names nor a dictionary")


def _cells_of_nni(parts: Mapping[str, ast.expr]) -> dict[str, Any]:
    """The cells of `{kind}/op_{state}_{edge}` and `{kind}/input_{state}_{edge}`."""
    rest = {name: ast.literal_eval(v) for name, v in parts.items() if name not in NNI_NETWORK}
    cells = {}
    for kind in KINDS:
        nodes: list[list[list[Any]]] = []
        while f"{kind}/op_{2 + len(nodes)}_0" in rest:
            edges, state = [], 2 + len(nodes)
            while (name := f"{kind}/op_{state}_{len(edges)}") in rest:
                source = rest.pop(name.replace("/op_", "/input_"))
                (source,) = source if isinstance(source, list) else [source]
                edges.append([rest.pop(name), source])
            nodes.append(edges)
        cells[kind] = {"inputs": 2, "nodes": nodes, "output": [*range(2, 2 + len(nodes))]}
    if rest:
        raise ValueError(f"it names {sorted(rest)}")
    return cells


def _nodes(items: Any) -> list[list[list[Any]]]:
    """Edges by node, as [operation, source]."""
    if items and isinstance(items[0][0], str):
        if len(items) % 2:
            raise ValueError(f"{len(items)} edges are no pairs")
        items = [items[i : i + 2] for i in range(0, len(items), 2)]
    return [[[edge[0], edge[1]] for edge in node] for node in items]


def _states(tree: ast.expr) -> list[int]:
    """A list of states, or `range(2, 6)`."""
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "range":
        bounds = [ast.literal_eval(bound) for bound in tree.args]
        if len(bounds) > 2 or max(bounds) > 100:
            raise ValueError(f"range{tuple(bounds)} are no states of a cell")
        return list(range(*bounds))
    return list(ast.literal_eval(tree))

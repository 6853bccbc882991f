"""Cells as other projects print them; read as literals, so that no text runs."""

import ast
from collections.abc import Mapping
from typing import Any

from darts_gdas.reasons import reason

PRINTED = "Genotype("
"""How a cell of DARTS begins."""

PEER_BEGINNINGS = (PRINTED, "{'normal'", '{"normal"')
KINDS = ("normal", "reduce")
IGNORED = ("connectN", "connects")


def peer_cells(text: str) -> dict[str, Any]:
    """What `Genotype.from_json` takes, of what DARTS, GDAS and AutoDL-Projects print.

    That is `Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)` or a
    dictionary of the same names. Two edges make a node, whether they stand in a pair or one after
    the other; what follows operation and source in an edge is a weight and is left out.

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
    except (ValueError, TypeError, IndexError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(
            "a cell of DARTS or GDAS is written Genotype(normal=[('sep_conv_3x3', 0), ...], "
            f"normal_concat=range(2, 6), reduce=[...], reduce_concat=...): {reason(error)}"
        ) from None


def _parts(tree: ast.expr) -> Mapping[str, ast.expr]:
    if isinstance(tree, ast.Dict):
        return {
            str(ast.literal_eval(k)): v for k, v in zip(tree.keys, tree.values, strict=True) if k
        }
    if isinstance(tree, ast.Call) and not tree.args:
        return {keyword.arg: keyword.value for keyword in tree.keywords if keyword.arg}
    raise ValueError("it is neither a call by names nor a dictionary")


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

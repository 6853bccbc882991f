"""The closing words of a run: what was found, what it costs, where it is, what to do next."""

from collections.abc import Mapping

from darts_gdas.report.numbers import is_number
from darts_gdas.space import CellGenotype, Genotype


def genotype_lines(genotype: Genotype) -> list[str]:
    """A genotype as text: one line per node, states named as in the drawings."""
    lines = []
    for kind, cell in genotype.cells.items():
        lines.append(f"{kind} cell")
        for node, edges in enumerate(cell.nodes):
            terms = " + ".join(f"{edge.op}({state_name(cell, edge.source)})" for edge in edges)
            lines.append(f"  node {node} = {terms}")
        outputs = ", ".join(state_name(cell, state) for state in cell.output)
        lines.append(f"  output = {outputs if len(cell.output) == 1 else f'concat({outputs})'}")
    return lines


def state_name(cell: CellGenotype, state: int) -> str:
    """A state as the drawings name it: "c_k-2", "node 0"."""
    if state < cell.num_inputs:
        return f"c_k-{cell.num_inputs - state}"
    return f"node {state - cell.num_inputs}"


def summary(title: str, facts: Mapping[str, str], body: list[str], *following: str) -> str:
    """The closing text of a run.

    Args:
        title: First line.
        facts: Names and values, aligned below each other.
        body: Further lines, for example a genotype's.
        following: What the user types next, each in a line; behind a # what it means.
    """
    width = max(len(name) for name in facts)
    lines = ["", title, "=" * len(title), *body, *([""] if body else [])]
    lines += [f"{name:<{width}}  {value}" for name, value in facts.items()]
    lines += ["", "Next:", *(f"  {line}" for line in following), ""]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time span for people: "42 s", "3 min 05 s", "2 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def count(number: float) -> str:
    """A large number for people: "1,930,618" below ten millions, "528.4 M" above."""
    return f"{number:,.0f}" if number < 1e7 else f"{number / 1e6:,.1f} M"


def limit(cost: object) -> tuple[str, str] | None:
    """What a cell may cost at most, and of what: ("33,547", "parameters at C=8, L=3").

    Args:
        cost: "cost" of `result.json`; None is said of anything else.
    """
    if not isinstance(cost, Mapping):
        return None
    most, quantity = cost.get("target"), cost.get("quantity")
    if not is_number(most) or not isinstance(quantity, str):
        return None
    size, share = [cost.get(name) for name in ("channels", "layers")], cost.get("share")
    at = " at C={}, L={}".format(*size) if all(map(is_number, size)) else ""
    by = f", penalties.cost.share={share:g}" if is_number(share) else ""
    if quantity == "latency":
        return f"{most:.4g}", f"ms{at}{by}"
    return count(int(most)), f"{quantity.replace('_', '-')}{at}{by}"

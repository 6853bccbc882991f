"""Write the reference pages, docs/reference/*.md, from the docstrings of the public names.

    python docs/reference.py

Signatures come from the source, so that neither decorators nor the version of Python show. The
pages are part of the repository: the site is built without importing anything, and
tests/test_docs.py fails when a page is not what this program would write.
"""

import ast
import html
import importlib
import re
from pathlib import Path
from types import ModuleType

import darts_gdas

HERE = Path(__file__).parent / "reference"
PACKAGES = {
    "darts_gdas": "What can be built, and the networks that are built of it.",
    "darts_gdas.api": "Runs from Python and from notebooks.",
    "darts_gdas.search": "The parts of a method: how alphas become mixtures, gradients, cells.",
    "darts_gdas.extend": "What adds parts from outside, and what they are made of.",
    "darts_gdas.ntk": "Neural tangent kernels of any PyTorch model, and what follows from them.",
}
INTRODUCTION = """# Reference

Written by `python docs/reference.py` from the docstrings. A test compares these pages with the
code and fails when a public name is missing.

Settings of the command line have a reference of their own: `python search.py --help` lists every
setting with its value and its meaning, and the same works for `train.py` and `darts_gdas.score`.
"""
BLOCKS = ("Args", "Attributes", "Raises", "Returns", "Example", "Reference")

Definition = ast.ClassDef | ast.FunctionDef


def pages() -> dict[str, str]:
    """Text of every page by its file name."""
    written = {"index.md": _index()}
    for package, purpose in PACKAGES.items():
        module = importlib.import_module(package)
        parts = [f"# {package}", purpose]
        parts += [_entry(module, name) for name in sorted(module.__all__)]
        written[f"{package}.md"] = "\n\n".join(parts).rstrip() + "\n"
    return written


def _index() -> str:
    parts = [INTRODUCTION]
    for package, purpose in PACKAGES.items():
        module = importlib.import_module(package)
        rows = [
            f"| [`{name}`]({package}.md#{name.lower()}) | {_first_sentence(module, name)} |"
            for name in sorted(module.__all__)
        ]
        parts.append(
            "\n".join([f"## {package}", "", purpose, "", "| name | |", "|---|---|", *rows])
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _first_sentence(module: ModuleType, name: str) -> str:
    text = ast.get_docstring(_definition(module, name)[0]) or ""
    first = re.sub(r"\s+", " ", text.split("\n\n")[0])
    return _plain(first).replace("|", "\\|")


def _definition(module: ModuleType, name: str) -> tuple[Definition, Path]:
    """The syntax of a public name, and the file that it stands in."""
    defining = importlib.import_module(getattr(module, name).__module__)
    path = Path(str(defining.__file__))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, Definition) and node.name == name:
            return node, path
    raise ValueError(f"{name} is not defined at the top of {path}")


def _entry(module: ModuleType, name: str) -> str:
    node, path = _definition(module, name)
    place = path.relative_to(Path(str(darts_gdas.__file__)).parents[1])
    parts = [f"## {name}", f"`{place.as_posix()}`", f"```python\n{_heading(node)}\n```"]
    parts.append(markdown(ast.get_docstring(node) or ""))
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and _is_public(method):
                parts.append(f"**{_signature(method)}**")
                parts.append(markdown(ast.get_docstring(method) or ""))
    return "\n\n".join(part for part in parts if part)


def _is_public(method: ast.FunctionDef) -> bool:
    named = method.name == "__call__" or not method.name.startswith("_")
    return named and ast.get_docstring(method) is not None


def _heading(node: Definition) -> str:
    """A function's signature; a class with its fields, or with its constructor."""
    if isinstance(node, ast.FunctionDef):
        return _long_signature(node)
    bases = ", ".join(_source(base) for base in node.bases)
    lines = [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            lines += [f"    {line}" for line in _long_signature(part).splitlines()]
        if isinstance(part, ast.AnnAssign):
            lines.append(f"    {_field(part)}")
    return "\n".join(lines) if len(lines) > 1 else lines[0].removesuffix(":")


def _source(node: ast.AST) -> str:
    return ast.unparse(node).replace("'", '"')


def _field(part: ast.AnnAssign) -> str:
    text = _source(part)
    return re.sub(r"field\(default_factory=lambda ?: (.*)\)$", r"\1", text)


def _parameters(node: ast.FunctionDef) -> list[str]:
    """Parameters as they are written, with `/` and `*` where they stand; without self."""
    given = node.args
    if given.args and given.args[0].arg in ("self", "cls"):
        given.args = given.args[1:]
    text, parts, depth = _source(given), [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    stripped = [part.strip() for part in parts if part.strip()]
    return [part.replace("=", " = ", 1) if ":" in part else part for part in stripped]


def _long_signature(node: ast.FunctionDef) -> str:
    """Of a function on its own, one parameter per line where it is long."""
    result = f" -> {_source(node.returns)}" if node.returns else ""
    parameters = _parameters(node)
    line = f"{node.name}({', '.join(parameters)}){result}"
    if len(line) <= 88:
        return line
    return "\n".join([f"{node.name}(", *(f"    {part}," for part in parameters), f"){result}"])


def _signature(method: ast.FunctionDef) -> str:
    """Of a method, names alone: types stand in the source."""
    names = [part.split(":")[0].split("=")[0] for part in _parameters(method)]
    properties = [ast.unparse(decorator) for decorator in method.decorator_list]
    if any(text in ("property", "cached_property") for text in properties):
        return f"`{method.name}`"
    return f"`{method.name}({', '.join(names)})`"


def markdown(docstring: str) -> str:
    """A docstring of Google's style as Markdown."""
    parts, lines = [], docstring.splitlines()
    prose: list[str] = []
    while lines:
        line = lines.pop(0)
        title = line.rstrip(":")
        if line.endswith(":") and title in BLOCKS:
            body = []
            while lines and (not lines[0] or lines[0].startswith("    ")):
                body.append(lines.pop(0)[4:])
            parts += [_prose(prose), _block(title, "\n".join(body).strip("\n"))]
            prose = []
        else:
            prose.append(line)
    return "\n\n".join(part for part in [*parts, _prose(prose)] if part)


def _prose(lines: list[str]) -> str:
    """Paragraphs; what is indented stays a block of code."""
    paragraphs = re.split(r"\n{2,}", "\n".join(lines).strip("\n"))
    return "\n\n".join(p if p.startswith("    ") else _plain(p) for p in paragraphs).strip("\n")


def _block(title: str, body: str) -> str:
    if title == "Example":
        return f"```pycon\n{body}\n```"
    if title == "Reference":
        return f"*{title}:* {_plain(' '.join(body.split()))}"
    items = re.split(r"\n(?=\S)", body)
    named = [re.match(r"(\*{0,2}\w+):\s+(.*)", item, re.DOTALL) for item in items]
    if title == "Returns" or not all(named):
        return f"*{title}:* {_prose(_dedented(body).splitlines())}"
    rows = [f"- `{m[1]}`: {_plain(' '.join(m[2].split()))}" for m in named if m]
    return f"*{title}:*\n\n" + "\n".join(rows)


def _dedented(body: str) -> str:
    first, _, rest = body.partition("\n")
    return "\n".join([first, *(line.removeprefix("    ") for line in rest.splitlines())])


def _plain(text: str) -> str:
    """Text in which nothing but backticks and addresses means anything to Markdown."""
    pieces = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(pieces), 2):
        escaped = re.sub(r"([*_\[\]])", r"\\\1", html.escape(pieces[i], quote=False))
        pieces[i] = re.sub(r"(https?://[^\s,;)]*[^\s,;).])", r"<\1>", escaped)
    return "".join(pieces)


def main() -> None:
    """Write every page."""
    HERE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

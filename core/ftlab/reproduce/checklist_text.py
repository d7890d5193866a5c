"""A checklist as Markdown or LaTeX. The LaTeX needs no package, and stands in any document.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ftlab.reproduce.checklist import Block, Code, Item, Table

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "`": r"\textasciigrave{}",
}  # fmt: skip
_WIDEST = 60  # characters of a cell that a LaTeX column does not break


def markdown(items: Sequence[Item]) -> str:
    """The items as a Markdown page."""
    lines = ["# Reproducibility"]
    for item in items:
        lines += ["", f"## {item.title}", "", f"{_asked(item)}: **{item.answer}**"]
        for block in item.blocks:
            lines += ["", *_markdown(block)]
    return "\n".join(lines) + "\n"


def latex(items: Sequence[Item]) -> str:
    """The items as a LaTeX section."""
    lines = [r"\section*{Reproducibility}"]
    for item in items:
        lines += ["", rf"\subsection*{{{escaped(item.title)}}}"]
        lines += [rf"{escaped(_asked(item))}: \textbf{{{escaped(item.answer)}}}"]
        for block in item.blocks:
            lines += ["", *_latex(block)]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Sequence[Item]], str]] = {"markdown": markdown, "latex": latex}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return _kept(" ".join(text.split()))


def _kept(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def _asked(item: Item) -> str:
    return "; ".join(
        f"{name} {numbers}" for name, numbers in (("NeurIPS", item.neurips), ("ACL", item.acl))
        if numbers
    )  # fmt: skip


def _markdown(block: Block) -> Iterator[str]:
    if isinstance(block, Code):
        yield from ("```sh", *block.lines, "```")
    elif isinstance(block, Table):
        for row in (block.header, ("---",) * len(block.header), *block.rows):
            yield "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in row) + " |"
    else:
        yield block


def _latex(block: Block) -> Iterator[str]:
    if isinstance(block, Code):
        yield r"\begin{verbatim}"
        yield from block.lines
        yield r"\end{verbatim}"
    elif isinstance(block, Table):
        yield r"\begin{center}\small"
        yield rf"\begin{{tabular}}{{{''.join(_columns(block))}}}"
        yield r"\hline"
        yield _row(block.header)
        yield r"\hline"
        yield from map(_row, block.rows)
        yield r"\hline"
        yield r"\end{tabular}"
        yield r"\end{center}"
    else:
        parts = block.split("`")  # what stands between two of them is typed
        yield "".join(rf"\texttt{{{_kept(p)}}}" if i % 2 else _kept(p) for i, p in enumerate(parts))


def _columns(table: Table) -> Iterator[str]:
    """Left-aligned columns; one with long text is broken into lines."""
    for index in range(len(table.header)):
        widest = max((len(row[index]) for row in table.rows), default=0)
        yield "l" if widest <= _WIDEST else r"p{0.4\linewidth}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"

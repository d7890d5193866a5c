"""Markdown and LaTeX of a checklist: complete, and every odd character printed as it stands."""

from __future__ import annotations

import re

from ftlab.reproduce.checklist import Code, Item, Table
from ftlab.reproduce.checklist_text import FORMATS, escaped, latex, markdown

ITEMS = [
    Item("Commands & costs", "4, 5", "C2", "Yes",
         ("Run `ftrun show a_b` at 95 %.", Code(("ftrun train a_b.yaml",)))),
    Item("Tables", "", "B6", "No",
         (Table(("a", "b"), (("x|y", "1_0"), ("two\nlines", "z" * 80))),)),
]  # fmt: skip


def test_markdown() -> None:
    lines = markdown(ITEMS).splitlines()
    assert "## Commands & costs" in lines
    assert "NeurIPS 4, 5; ACL C2: **Yes**" in lines
    assert "ACL B6: **No**" in lines
    assert lines[lines.index("```sh") + 1] == "ftrun train a_b.yaml"
    assert "| x\\|y | 1_0 |" in lines
    assert f"| two lines | {'z' * 80} |" in lines


def test_latex() -> None:
    text = latex(ITEMS)
    assert r"\subsection*{Commands \& costs}" in text
    assert r"Run \texttt{ftrun show a\_b} at 95 \%." in text
    assert "\\begin{verbatim}\nftrun train a_b.yaml\n\\end{verbatim}" in text
    assert r"\begin{tabular}{lp{0.4\linewidth}}" in text
    assert r"x\textbar{}y & 1\_0 \\" in text


def test_latex_is_balanced() -> None:
    text = latex(ITEMS)
    for name in ("verbatim", "center", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") > 0
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_every_special_character_is_escaped() -> None:
    made = escaped('\\{}$&#%_^~<>|"`')
    for command in re.findall(r"\\[A-Za-z]+\{\}|\\.|''", made):
        made = made.replace(command, "", 1)
    assert made == ""


def test_formats() -> None:
    assert list(FORMATS) == ["markdown", "latex"]

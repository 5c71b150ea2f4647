"""A document as blocks, each of which can be written as HTML and as Markdown.

The HTML is one file that loads nothing: pictures and a short script are in it, and its Content-Security-Policy forbids
the browser any request. All text is escaped here and nowhere else.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import NamedTuple, Protocol
from urllib.parse import quote


class Block(Protocol):
    """A part of a document."""

    def html(self) -> str:
        """As HTML."""

    def markdown(self) -> str:
        """As Markdown."""


class Link(NamedTuple):
    """A text that leads to a file beside the document."""

    text: str
    path: str

    def html(self) -> str:
        """As HTML."""
        return f'<a href="{escape(quote(self.path))}">{escape(self.text)}</a>'

    def markdown(self) -> str:
        """As Markdown."""
        return f"[{_md(self.text)}]({quote(self.path)})"


class Heading(NamedTuple):
    """A heading; level 1 is the document's title."""

    text: str
    level: int = 2

    def html(self) -> str:
        """As HTML."""
        return f'<h{self.level} id="{_anchor(self.text)}">{escape(self.text)}</h{self.level}>'

    def markdown(self) -> str:
        """As Markdown."""
        return f"{'#' * self.level} {_md(self.text)}"


class Contents(NamedTuple):
    """Links to the headings with these titles; in Markdown, which is shown with contents of its own, nothing."""

    titles: list[str]

    def html(self) -> str:
        """As HTML."""
        links = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in self.titles)
        return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'

    def markdown(self) -> str:
        """As Markdown."""
        return ""


class Text(NamedTuple):
    """A paragraph."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<p>{escape(self.text)}</p>"

    def markdown(self) -> str:
        """As Markdown."""
        return _md(self.text)


class Code(NamedTuple):
    """What is to be typed or read letter by letter."""

    text: str

    def html(self) -> str:
        """As HTML."""
        return f"<pre>{escape(self.text)}</pre>"

    def markdown(self) -> str:
        """As Markdown."""
        return "\n".join(f"    {line}" for line in self.text.splitlines())


class Card(NamedTuple):
    """A verdict: a word that sums it up, its mark, what it is about, and the facts."""

    word: str
    mark: str
    title: str
    facts: dict[str, str]

    def html(self) -> str:
        """As HTML."""
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.facts.items())
        word = f'<p class="word"><span>{self.mark}</span> {escape(self.word)}</p>'
        kind = self.word.replace(" ", "-")
        return f'<article class="{escape(kind)}"><h3>{escape(self.title)}</h3>{word}<dl>{facts}</dl></article>'

    def markdown(self) -> str:
        """As Markdown."""
        facts = "\n".join(f"- {_md(name)}: {_md(value)}" for name, value in self.facts.items())
        return f"### {_md(self.title)}: {self.mark} {_md(self.word)}\n\n{facts}"


class Row(NamedTuple):
    """Blocks side by side, where there is room."""

    blocks: list[Card]

    def html(self) -> str:
        """As HTML."""
        return f'<div class="row">{"".join(block.html() for block in self.blocks)}</div>'

    def markdown(self) -> str:
        """As Markdown."""
        return "\n\n".join(block.markdown() for block in self.blocks)


class Table(NamedTuple):
    """A table; columns of numbers are aligned to the right."""

    head: list[str]
    rows: Sequence[Sequence[str | Link]]

    def html(self) -> str:
        """As HTML."""
        numbers = [all(_is_number(row[i]) for row in self.rows) for i in range(len(self.head))]

        def row(cells: Sequence[str | Link], tag: str) -> str:
            parts = []
            for cell, number in zip(cells, numbers, strict=True):
                text = cell.html() if isinstance(cell, Link) else escape(cell)
                kind = "number" if number else "long" if isinstance(cell, str) and len(cell) > 30 else ""
                parts.append(f'<{tag} class="{kind}">{text}</{tag}>')
            return f"<tr>{''.join(parts)}</tr>\n"

        body = "".join(row(cells, "td") for cells in self.rows)
        return f'<div class="wide"><table><thead>{row(self.head, "th")}</thead><tbody>{body}</tbody></table></div>'

    def markdown(self) -> str:
        """As Markdown."""
        cells = [[c.markdown() if isinstance(c, Link) else _md(c) for c in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * max(3, width) for width in widths])
        lines = (" | ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)) for row in cells)
        return "\n".join(f"| {line} |" for line in lines)


class Picture(NamedTuple):
    """A figure: its SVG, which goes into the HTML, the path of its PNG, which Markdown shows, and what one sees.

    `wide` is its SVG for a wide screen, where it has one.
    """

    svg: bytes
    path: str
    caption: str
    wide: bytes | None = None

    def html(self) -> str:
        """As HTML."""
        image = f'<img src="{_data(self.svg)}" alt="{escape(self.caption)}">'
        if self.wide:
            image = f'<picture><source media="(min-width: 60rem)" srcset="{_data(self.wide)}">{image}</picture>'
        kind = ' class="both"' if self.wide else ""
        return f"<figure{kind}>{image}<figcaption>{escape(self.caption)}</figcaption></figure>"

    def markdown(self) -> str:
        """As Markdown."""
        return f"![{_md(self.caption)}]({quote(self.path)})\n\n{_md(self.caption)}"


def html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML file."""
    body = "\n".join(block.html() for block in blocks)
    script = resources.files("rnn_compare.report").joinpath("tables.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
script-src 'sha256-{digest}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""


def markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown."""
    return "\n\n".join(text for block in blocks if (text := block.markdown())) + "\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower())


def _data(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _md(text: str) -> str:
    return re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(escape(text, quote=False).split()))


def _is_number(cell: str | Link) -> bool:
    return isinstance(cell, str) and re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?|–", cell) is not None


# The figures have no background. In the dark they are turned to their negatives with the hues turned back, so that a
# blue line stays blue.
STYLE = """
:root { --page: #fff; --text: #1a1a1a; --faint: #555; --line: #bbb; --edge: #767676; --code: #f3f3f3; --link: #00558c;
  --holds: #00664b; --fails: #7a1f5c }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #14171a; --text: #e6e6e6; --faint: #b4b4b4; --line: #4a4f55; --edge: #8f959c; --code: #22272c;
    --link: #8cc8ff; --holds: #4fd1a5; --fails: #e58ac4 }
  figure img { filter: invert(1) hue-rotate(180deg) }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.2 }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); font-size: 1.3rem }
h3 { margin: 0; font-size: 1.05rem; line-height: 1.3 }
p { max-width: 46rem }
a { color: var(--link) }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0; padding: .6rem .8rem;
  border: 1px solid var(--line); list-style: none }
nav a { display: inline-block; padding: .15rem 0 }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem }
article { padding: .8rem 1rem; border: 1px solid var(--line); border-left: .5rem solid var(--edge);
  break-inside: avoid }
article.holds { border-left-color: var(--holds) }
article.does-not-hold { border-left-color: var(--fails) }
article.undecided { border-left-style: dotted }
.word { margin: .3rem 0 .6rem; font-size: 1.35rem; font-weight: 700 }
dl { margin: 0; display: grid; grid-template-columns: 9rem 1fr; gap: .15rem .6rem; font-size: .9rem }
dt { color: var(--faint) }
dd { margin: 0 }
figure { margin: 1rem 0; max-width: 640px; break-inside: avoid }
figure img { display: block; width: 100%; height: auto }
figcaption { max-width: 46rem; font-size: .9rem; color: var(--faint) }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th[tabindex] { cursor: pointer }
th[aria-sort=ascending]::after { content: " ↑" }
th[aria-sort=descending]::after { content: " ↓" }
input[type=search] { font: inherit; padding: .2rem .4rem; max-width: 100%; border: 1px solid var(--edge);
  background: var(--page); color: var(--text) }
th { border-bottom-color: var(--edge); vertical-align: bottom; max-width: 8rem }
td { white-space: nowrap }
.number { text-align: right }
td.long { min-width: 14rem; max-width: 34rem; white-space: normal }
pre { padding: .6rem; background: var(--code); overflow-x: auto; font-size: .85rem }
@media (min-width: 60rem) { figure.both { max-width: none } }
@media (min-width: 84rem) { body { max-width: 80rem } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  nav, input { display: none }
  figure, figure.both { max-width: 640px }
  h2, h3 { break-after: avoid }
  tr { break-inside: avoid }
  td { white-space: normal }
  pre { white-space: pre-wrap }
  .wide { overflow: visible }
  table { font-size: 8pt }
  a { color: inherit }
}
"""

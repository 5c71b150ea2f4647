import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from rnn_compare.report import document


def test_nothing_is_executed_and_nothing_is_loaded(study, curve):
    evil = "<script>alert(1)</script>|[x](javascript:1)"
    study.config["seeds"] = 12
    (study.folder / "config.json").write_text(json.dumps(study.config))
    study.add("lstm", 10, [], "x&<script>", status="failed", error=evil)
    study.add("gru", 11, curve(1, 0.1), "javascript:alert(1)")
    (study.folder / "environment.json").write_text(
        json.dumps({"command": evil, "cpu": evil, "packages": {"jax": evil}})
    )
    html, markdown = study.write(drawn=True)
    (script,) = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    assert script == Path(document.__file__).with_name("tables.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert html.count("<script") == 1
    assert "failed: &lt;script&gt;" in html
    assert 'href="javascript%3Aalert%281%29/"' in html
    links = re.findall(r'(?:src|srcset|href)="?([^"\s>]+)', html)
    assert links
    assert all(
        link.startswith(("#", "data:image/svg+xml;base64,", "lstm-", "gru-", "x%26", "javascript%3A")) for link in links
    )
    assert "http" not in re.sub(r'base64,[^"]*|http-equiv', "", html)
    assert "default-src 'none'" in html
    prose = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<script" not in prose
    assert "](javascript:" not in prose.replace(r"\]", "")


@pytest.mark.parametrize(
    "block",
    [
        document.Heading("<b>"), document.Text("<b>"), document.Code("<b>"), document.Contents(["<b>"]),
        document.Link("<b>", "x"), document.Card("holds", "✓", "<b>", {"<b>": "<b>"}),
        document.Table(["<b>"], [["<b>"]]), document.Picture(b"", "x.png", "<b>"),
    ],
    ids=lambda block: type(block).__name__,
)  # fmt: skip
def test_every_block_escapes_its_text(block):
    assert "&lt;b&gt;" in block.html()
    assert "<b>" not in block.html()
    assert "<b>" not in block.markdown().replace("    <b>", "")  # what Markdown indents is code, and stands as it is


def test_a_table_aligns_numbers_and_escapes_text():
    table = document.Table(["a", "b"], [["<b>", "1.5"], ["c|d", "–"]])
    assert '<td class="">&lt;b&gt;</td><td class="number">1.5</td>' in table.html()
    assert r"c\|d" in table.markdown()


def test_the_contents_lead_to_every_heading(study):
    html, markdown = study.write()
    anchors = re.findall(r'<li><a href="#([^"]+)">', html)
    assert anchors == re.findall(r'<h2 id="([^"]+)"', html)
    assert len(anchors) == len(set(anchors)) >= 5
    assert "](#" not in markdown
    assert "\n\n\n" not in markdown


def test_a_picture_has_a_version_for_wide_screens():
    narrow, wide = document.Picture(b"n", "a.png", "c").html(), document.Picture(b"n", "a.png", "c", b"w").html()
    assert "<source" not in narrow
    assert re.search(r'<source media="\(min-width: [^"]+\)" srcset="data:image/svg\+xml;base64,dw==">', wide)
    assert 'src="data:image/svg+xml;base64,bg=="' in wide


def luminance(colour):
    """Relative, of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(w * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4)
               for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))  # fmt: skip


def test_in_light_and_in_dark_all_words_can_be_read():
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root {(.*?)}", document.STYLE, re.S)
    )
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        colours = {name: c if len(c) == 7 else "#" + "".join(2 * x for x in c[1:]) for name, c in colours.items()}
        for name in ("text", "faint", "link"):
            for ground in ("page", "code"):
                a, b = sorted((luminance(colours[name]), luminance(colours[ground])))
                assert (b + 0.05) / (a + 0.05) >= 4.5, (name, ground)
    assert "@media screen and (prefers-color-scheme: dark)" in document.STYLE  # paper stays white

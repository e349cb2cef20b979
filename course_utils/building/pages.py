"""Executed notebooks as HTML pages that need no internet: MathML formulas, styles inside."""

import copy
import html
import os
import re
from pathlib import Path

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from .. import storage

# nbconvert's page, with the alt text of cell metadata, folded set-up, dark colours where the
# reader's system is dark, and without the scripts it would load from the internet.
_TEMPLATE = """
{%- extends 'index.html.j2' -%}
{% block data_png scoped %}{{ super() | with_alt(cell) }}{% endblock %}
{% block data_jpg scoped %}{{ super() | with_alt(cell) }}{% endblock %}
{% block data_svg scoped %}{{ super() | with_alt(cell) }}{% endblock %}
{% block input_group %}
{%- if cell.metadata.get('jupyter', {}).get('source_hidden') -%}
<details><summary>Set-up</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{% endblock %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block notebook_css %}
{{ super() }}
{{ resources.include_css("static/theme-dark.css")
   | replace('<style', '<style media="(prefers-color-scheme: dark)"') }}
<style>
:root { color-scheme: light dark; }
body { background: var(--jp-layout-color0); }
main { max-width: 70em; margin: auto; }
summary { padding-left: 5px; }
.jp-InputArea-editor { overflow-x: auto; }
@media (prefers-color-scheme: dark) { :root { --jp-mirror-editor-comment-color: #80b0b0; } }
</style>
{% endblock %}
"""
_STYLE = """
:root { color-scheme: light dark; font-family: sans-serif; line-height: 1.5; }
body { max-width: 80em; margin: 2em auto; padding: 0 1em; }
td, th { text-align: left; vertical-align: top; padding: .3em 1em .3em 0; }
tr { border-bottom: 1px solid #8886; }
table { border-collapse: collapse; }
"""
_RELATIVE_LINK = re.compile(r"(\]\()(?!\w+:|[#/])([^)\s]+)")


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown with formulas turned into MathML, which browsers show by themselves."""

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def _formula(tex: str, display: str) -> str:
    """A formula as MathML; as the TeX it is written in where that cannot be understood."""
    try:
        return convert(tex, display=display)
    except Exception:  # the converter's errors have no common base
        return f"<code>{html.escape(tex)}</code>"


def markdown(source: str) -> str:
    """Markdown as HTML, formulas included."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def _with_alt(image: str, cell) -> str:
    alt = cell.metadata.get("alt", "")
    return image.replace("<img ", f'<img alt="{html.escape(alt)}" ') if alt else image


def page(notebook, path: Path, folder: Path) -> None:
    """Write one executed notebook as an HTML page.

    Args:
        notebook: with outputs.
        path: the page to write; pages of other chapters are expected beside it.
        folder: the notebook's own, to which its relative links refer.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _RELATIVE_LINK.sub(
                lambda m: m.group(1) + _target(m.group(2), path.parent, folder), cell.source
            )
    exporter = HTMLExporter(
        raw_template=_TEMPLATE, filters={"with_alt": _with_alt, "markdown2html": markdown}
    )
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    storage.write(path, body)


def _target(link: str, here: Path, folder: Path) -> str:
    """Where a relative link of a notebook in `folder` leads from a page in `here`."""
    file, mark, anchor = link.partition("#")
    if "/" not in file and file.endswith(".ipynb"):
        return file.removesuffix(".ipynb") + ".html" + mark + anchor
    return Path(os.path.relpath(folder / file, here)).as_posix() + mark + anchor


def index(title: str, header: list[str], rows: list[list[str]], path: Path) -> None:
    """Write a page with one table; the first column links to the page of that name."""

    def cells(tag: str, row: list[str]) -> str:
        return "".join(f"<{tag}>{text}</{tag}>" for text in row)

    lines = [cells("th", [html.escape(text) for text in header])]
    for name, *rest in rows:
        link = f'<a href="{html.escape(name)}.html">{html.escape(name)}</a>' if name else ""
        lines.append(cells("td", [link, *(html.escape(text) for text in rest)]))
    table = "\n".join(f"<tr>{line}</tr>" for line in lines)
    storage.write(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n<table>\n{table}\n</table></body></html>\n",
    )

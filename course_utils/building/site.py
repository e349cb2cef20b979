"""The course as a book of HTML pages, made by Sphinx: read without Jupyter and without internet."""

import copy
import html
import io
import os
import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from docutils.nodes import Element, SkipNode, document, math_block, raw, section
from latex2mathml.converter import convert
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import docutils_namespace, patch_docutils

from .. import storage
from .chapters import NOTEBOOKS, address, save

_BESIDE = Path(__file__)
_SETTINGS: dict[str, Any] = {
    **tomllib.loads(_BESIDE.with_suffix(".toml").read_text("utf-8")),
    "html_static_path": [str(_BESIDE.with_suffix(".css"))],
    "myst_url_schemes": {"http": None, "https": None, "mailto": None, "beside": "{{path}}"},
}
_FAR_IMAGE = r"!\[([^\]]*)\]\(https?:[^)]*\)"


def build(
    chapters: dict[str, NotebookNode], path: Path, more: str = "", folder: Path = NOTEBOOKS
) -> str:
    """Write the pages of the course into the folder `path`, whole or not at all.

    Formulas are MathML, and nothing is loaded from the internet. TEACHING.md and the
    Markdown files in `folder/pages` become pages as well.

    Args:
        chapters: notebooks with outputs, by name and in order.
        path: the folder; its `index.html` is the front page.
        more: Markdown for the front page, below the contents.
        folder: the notebooks' own, to which their relative links refer.

    Returns:
        What Sphinx warned of, a line each; empty when all is well.

    Raises:
        Exception: Sphinx's, one of its extensions', or the disk's. What was at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [*folder.glob("pages/*.md"), *folder.parent.glob("TEACHING.md")]
    listed = "\n".join(f"{name[:2]} {_title(nb)} <{name}>" for name, nb in chapters.items())
    others = "\n".join(f"pages/{page.stem}" for page in pages)
    front = _BESIDE.with_suffix(".md").read_text("utf-8")
    front = front.format(chapters=listed, pages=others, more=more)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        source, made, trees = (str(Path(scratch, name)) for name in ("source", "site", "trees"))
        storage.write(Path(source, "index.md"), front)
        for drawing in folder.glob("figures/*.svg"):
            storage.write(Path(source, "figures", drawing.name), drawing.read_text("utf-8"))
        for page in pages:
            text = page.read_text(encoding="utf-8").replace("](notebooks/", "](../")
            text = text.replace("](../../", f"]({_home(folder, path / 'pages')}/")
            storage.write(Path(source, "pages", page.name), text)
        for name, notebook in chapters.items():
            save(_prepared(notebook, _home(folder, path)), Path(source, f"{name}.ipynb"))
        warnings = io.StringIO()
        with patch_docutils(), docutils_namespace():
            Sphinx(source, None, made, trees, "html", _SETTINGS, None, warnings).build()
        shutil.rmtree(path, ignore_errors=True)
        Path(made).rename(path)
    return strip_escape_sequences(warnings.getvalue()).replace(source + os.sep, "").strip()


def _home(folder: Path, here: Path) -> str:
    """What a page in the folder `here` links to, to leave the notebooks' folder."""
    if address():
        return f"{address()}/blob/main"
    return "beside:" + Path(os.path.relpath(folder.parent, here)).as_posix()


def _title(notebook: NotebookNode) -> str:
    return notebook.cells[0].source.partition("\n")[0].removeprefix("# ")


def _prepared(notebook: NotebookNode, home: str) -> NotebookNode:
    """A notebook in the words of MyST-NB: folds, alt texts, boxes for exercises, links.

    Args:
        home: where links lead that leave the folder of the notebooks.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        tags = cell.metadata.setdefault("tags", [])
        if cell.cell_type == "markdown":
            text = re.sub(_FAR_IMAGE, r"\1", cell.source).replace("](../notebooks/", "](")
            cell.source = text.replace("](../", f"]({home}/")
            if "exercise" in tags:
                cell.source = _boxed(cell.source)
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            tags.append("hide-input")
        if "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
    return notebook


def _boxed(quote: str) -> str:
    """A block quote with a title in bold as a box with a title."""
    title, _, text = re.sub("^> ?", "", quote, flags=re.M).partition("\n")
    return f"``````{{admonition}} {title.strip('*')}\n:class: exercise\n\n{text.strip()}\n``````"


def anchor(heading: str) -> str:
    """The anchor of a heading, the same that JupyterLab gives to it."""
    return heading.replace(" ", "-")


def mathml(tex: str, display: str) -> str:
    """A formula as MathML, which browsers show by themselves.

    Args:
        tex: in the words of LaTeX, without dollar signs.
        display: inline or block.

    Returns:
        HTML; the formula as it was written where it cannot be understood.
    """
    try:
        formula = convert(tex, display=display)
    except Exception:  # the converter's errors have no common base
        return f"<code>{html.escape(tex)}</code>"
    # Browsers put no space beside the name of a function, and too much beside a bar.
    beside = "(?<=</mi>)(?=<mi>[a-z]{2,}</mi>)|(?<=[a-z]{2}</mi>)(?=<m[infs])"
    formula = re.sub(beside, '<mspace width="0.17em" />', formula)
    return formula.replace('"false">&#x0007C;', '"false" lspace="0" rspace="0">&#x0007C;')


def setup(app: Sphinx) -> None:
    """Show formulas as MathML and fold what is optional; `site.toml` names this module."""
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    app.connect("doctree-resolved", _fold)


def _fold(_app: Sphinx, page: document, _name: str) -> None:
    for part in page.findall(section):
        if part[0].astext().startswith("Optional: "):
            start = '<details class="optional"><summary>Show this section</summary>'
            part.insert(1, raw("", start, format="html"))
            part.append(raw("", "</details>", format="html"))


def _formula(writer: Any, node: Element) -> None:
    block = isinstance(node, math_block)
    formula = mathml(node.astext(), "block" if block else "inline")
    writer.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise SkipNode

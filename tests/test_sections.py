"""Sections of a chapter: minutes, optional ones collapsed, drawing cells folded."""

from nbformat.v4 import new_code_cell, new_markdown_cell

from course_utils.building import sections


def made():
    return [
        new_markdown_cell("# Title\n\n{minutes}"),
        new_markdown_cell("## First\n\n" + "word " * 300, metadata={"training": 2}),
        new_code_cell("a = 1\n" * 25),
        new_code_cell("draw()\n" * 25, metadata={"tags": ["hide-input"]}),
        new_code_cell("f = ...", metadata={"tags": ["exercise-toy.double"]}),
        new_markdown_cell("## Optional: more of it\n\n$$a$$\n\ntext", metadata={"optional": True}),
        new_markdown_cell("## Summary\n\nwords"),
    ]


def test_minutes_are_counted_and_listed():
    cells = made()
    sections.prepare(cells)
    # 2 of training, 2 of words, 1 + 0.2 of code in sight, 0.2 of a folded cell, 5.5 of an exercise
    assert sections.minutes(cells)[:2] == [("First", 11, False), ("more of it", 1, True)]
    listed = "**Estimated 11 minutes:** First 11. *Optional, 1 more:* more of it 1."
    assert cells[0].source == f"# Title\n\n{listed}"


def test_a_collapsed_section_ends_before_the_next_heading():
    text = "## Optional: two\n\nwords\n\n## References\n\n- one"
    cells = [new_markdown_cell("# Title"), new_markdown_cell(text, metadata={"optional": True})]
    sections.prepare(cells)
    found = [cell.source for cell in cells[1:]]
    assert found == ["## Optional: two", "words", "## References\n\n- one"]
    assert "collapsed" not in cells[-1].metadata


def test_what_is_marked_is_folded_and_collapsed_to_its_heading():
    cells = made()
    sections.prepare(cells)
    assert cells[3].metadata["jupyter"] == {"source_hidden": True}
    assert "jupyter" not in cells[2].metadata
    heading, text = cells[5:7]
    assert heading.source == "## Optional: more of it" and text.source == "$$a$$\n\ntext"
    assert heading.metadata["jp-MarkdownHeadingCollapsed"] is True

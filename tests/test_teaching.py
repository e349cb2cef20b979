"""The plans in TEACHING.md add up to their time, and name sections that are there."""

import re

import pytest

from course_utils.building import chapters, sections
from course_utils.runtime import ROOT

PLANS = re.split(r"(?m)^## ", (ROOT / "TEACHING.md").read_text(encoding="utf-8"))[1:5]


@pytest.mark.parametrize("plan", PLANS)
def test_minutes_of_a_plan_add_up(plan):
    listed = [int(minutes) for minutes in re.findall(r"(?m)^\| (\d+) \|", plan)]
    assert sum(listed) == int(re.search(r"Total: (\d+) minutes", plan)[1])


@pytest.mark.parametrize("plan", PLANS)
def test_plans_name_sections_of_the_chapters(plan):
    for row in re.findall(r"(?m)^\| \d+ \| (.*) \|$", plan):
        chapter = ""
        for number, quoted in re.findall(r'(?<!week )\b([01]\d)\b|"([^"]+)"', row):
            if number:
                (chapter,) = chapters.names([number])
            else:
                titles = [title for title, *_ in sections.minutes(chapters.assemble(chapter).cells)]
                assert quoted in titles, f"{chapter} has no section {quoted!r}"

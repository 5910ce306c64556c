"""The card of pairs: figures of the training pairs by language."""

from __future__ import annotations

import re
from typing import Any

from mpo_core.reporting import render

FIGURES = {
    "sw": {"pairs": 1200.0, "category <b>": 3.0, "reward gap, source": 0.409},
    "zh": {"pairs": 10.0, "category <b>": 0.0, "rejected, kind_quota": 6.0},
}


def test_the_page_has_a_table_of_the_pairs(make: Any) -> None:
    page = render(make().model_copy(update={"pairs": FIGURES}))
    table = page.partition('<section id="pairs">')[2].partition("</section>")[0]
    rows = [re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", line) for line in table.splitlines() if "<tr>" in line]
    assert rows == [
        ["Figure", "Swahili", "Chinese"],
        ["pairs", "1,200", "10"],
        ["category &lt;b&gt;", "3", "0"],
        ["reward gap, source", "0.41", "–"],
        ["rejected, kind_quota", "–", "6"],
    ]


def test_a_summary_without_figures_of_pairs_has_no_table(html: str) -> None:
    assert 'id="pairs"' not in html

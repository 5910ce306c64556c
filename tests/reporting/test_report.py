from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any

from mpo_core.display.wording import language_name
from mpo_core.reporting import RunSummary, StageSummary, render
from mpo_core.reporting.summary import FlipRow, OutcomeRow
from mpo_core.reporting.view import training_panels

VOID = {"meta", "br", "img", "link", "input", "hr"}
LOADING = {"src", "href", "srcset", "data", "action", "formaction", "poster", "xlink:href", "background"}


class Page(HTMLParser):
    """Collects what a browser would act on, and complains about tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form", "img"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in LOADING:
                assert (value or "").startswith("#"), (tag, name, value)
            if name == "style":
                assert not re.search(r"url\((?!#)", value or ""), (tag, value)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in (policy or "")


def test_ids_are_unique_and_links_lead_somewhere(html: str) -> None:
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(a["href"] or "")[1:] for _, a in page.tags if "href" in a}
    assert links <= set(ids)
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 10


def test_style_sheet_and_charts_name_no_network(html: str) -> None:
    without_examples = html.replace("http://evil.example", "")
    assert not re.findall(r"https?://[^\s\"']+", without_examples)
    assert "@import" not in html


def test_texts_of_harmful_prompts_are_left_out_unless_asked_for(summary: RunSummary, html: str) -> None:
    assert "alert(" not in html
    assert "Siwezi kusaidia" not in html
    assert "[left out: 24 characters]" in html
    page = render(summary, texts=True)
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;owned&#39;)&lt;/script&gt;" in page
    before = page[: page.index("&lt;script&gt;")]
    assert before.count("<details") - before.count("</details>") == 2
    assert 'dir="rtl"' in page


def test_one_model_alone_is_called_by_its_name(summary: RunSummary) -> None:
    rows = [row.model_copy(update={"model": "model"}) for row in summary.metrics if row.model == "after"]
    changes = {"metrics": rows, "comparisons": [], "gate": None, "models": {"model": "my-model"}, "training": []}
    page = render(summary.model_copy(update=changes))
    assert Page(page).open == []
    assert "Evaluation of my-model" in page
    words = " ".join(Page(page[page.index("<main>") : page.index('<section id="judge"')] + "</main>").text).split()
    assert "before" not in words
    assert "after" not in words


def test_outcomes_and_flips_stand_with_their_prompts(summary: RunSummary) -> None:
    counts = {"unsafe": 12, "safe_refusal": 130, "invalid": 6, "unjudged": 2}
    outcomes = [
        OutcomeRow(model=model, language="sw", kind="harmful", counts=counts, reasons={"wrong_script": 6})
        for model in ("before", "after")
    ]
    flip = FlipRow(language="sw", kind="harmful", before="unsafe", after="safe_refusal", prompts=71, prompt_ids=["a1"])
    page = render(summary.model_copy(update={"outcomes": outcomes, "flips": [flip]}))
    text = " ".join(Page(page).text)
    assert "12 → 12" in text
    assert "wrong script 6" in text
    assert "4 of 300 answers, which count in no share" in text
    assert ">71<" in page


def test_other_text_is_escaped_too(make: Any) -> None:
    page = render(make(run="<b>x</b>", base_model="<b>x</b>", version="<b>x</b>", inputs=["<b>x</b>"], metrics=[]))
    assert "<b>x" not in page
    assert page.count("&lt;b&gt;x&lt;/b&gt;") >= 4


def test_hostile_names_in_charts_and_tables_are_escaped(make: Any) -> None:
    hostile = 'x"><script>$a$</script>'
    rows = [row.model_copy(update={"language": hostile}) for row in make().metrics if row.language == "sw"]
    html = render(make(metrics=rows, stages=[StageSummary(stage=hostile, state="cached", rows=1)]))
    assert "<script" not in html
    assert Page(html).open == []


def test_every_language_reason_stage_and_digest_is_there(summary: RunSummary, html: str) -> None:
    text = "\n".join(Page(html).text)
    for code in summary.languages:
        assert language_name(code) in text
    for row in summary.quarantine:
        assert row.reason in text
    for stage in summary.stages:
        assert stage.stage in text
    for ref in summary.artifacts:
        assert ref.sha256 in text
    assert summary.gate is not None
    for check in summary.gate.checks:
        assert check.explanation in text.replace("\u00a0", " ")
    assert "licence not stated" in text


def test_charts_have_words(html: str) -> None:
    labels = [a.get("aria-label") or "" for tag, a in Page(html).tags if tag == "svg"]
    assert all(labels)
    assert any("Swahili 70.0 % before, 22.7 % after" in label for label in labels)
    assert any("gap −0.11 with ASR 70.0 %" in label for label in labels)


def test_equal_summaries_give_equal_bytes_in_threads_too(make: Any, html: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda _: render(make()), range(2)))
    assert set(pages) == {html}


def test_a_run_without_harmless_prompts_says_so(make: Any) -> None:
    html = render(make(harmless=False))
    assert "No harmless prompts were judged" in html
    assert "Not measured" in html


def test_a_run_without_training_log_examples_or_stages(make: Any) -> None:
    html = render(make(training=False, examples=[], stages=[], quarantine=[], artifacts=[], gate=None))
    page = Page(html)
    assert page.open == []
    assert 'id="training"' not in html
    assert 'id="examples"' not in html
    assert "No row was rejected" in html


def test_a_run_in_which_nothing_was_measured(make: Any) -> None:
    html = render(make(metrics=[], comparisons=[], gate=None, training=[{"step": 1.0, "loss/gap": None}]))
    assert Page(html).open == []
    assert "was not measured" in html


def test_a_realignment_shows_what_changed_since_the_version_before(summary):
    rows = [row for row in summary.comparisons if row.language == "sw"]
    page = render(summary.model_copy(update={"since": rows, "since_version": "v3"}))
    table = page[page.index('aria-label="Since v3"') :]
    table = table[: table.index("</table>")]
    assert table.count("<td>Swahili</td>") == sum(row.difference != 0 for row in rows) > 0
    assert 'aria-label="Since' not in render(summary)


def test_losses_beside_the_method_are_drawn(summary: RunSummary) -> None:
    log = [{"step": 1.0, "loss/consistency": 0.75}, {"step": 2.0, "loss/consistency": 0.5, "loss/distillation": 0.25}]
    charts = {panel.title: panel.chart for panel in training_panels(summary.model_copy(update={"training": log}))}
    assert list(charts) == ["Consistency loss", "Distillation loss"]
    assert "consistency from 0.75 at step 1 to 0.5." in charts["Consistency loss"]


def test_learned_weights_are_drawn_with_the_names_of_the_languages_apart(summary: RunSummary) -> None:
    ends = {"sw": 1.4, "ko": 1.02, "zh": 1.0, "ar": 0.98, "bn": 0.6}
    log = [
        {"step": float(step), **{f"weight/{code}": 1 + (end - 1) * step / 10 for code, end in ends.items()}}
        for step in (1, 10)
    ]
    (panel,) = (
        panel
        for panel in training_panels(summary.model_copy(update={"training": log}))
        if panel.title == "Learned weights"
    )
    assert "Swahili from 1.04 at step 1 to 1.4" in panel.chart
    names = ("Swahili", "Korean", "Chinese", "Arabic", "Bengali")
    heights = [float(re.search(rf'y="([0-9.]+)"[^>]*>\s*{name}', panel.chart)[1]) for name in names]
    assert all(lower - upper >= 12 for upper, lower in itertools.pairwise(heights))
    assert not any(panel.title == "Learned weights" for panel in training_panels(summary))

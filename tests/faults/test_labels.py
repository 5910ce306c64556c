"""Labels of prompts: what words, truth values, classes and maps say, and the map that an unknown word asks for."""

import csv
import io

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import PROMPT_SOURCES
from mpo_core.prompts.kinds import column_direction
from mpo_core.prompts.load import count_kinds, load_prompts
from mpo_core.settings import PromptSettings
from mpo_core.settings.profiles import load_config

KINDS = {"harmful": "+", "harmless": "-"}


def read(path, **settings):
    """The kinds that a file gives, as in "+-", and the reasons of the rejected rows."""
    source = PROMPT_SOURCES.parse({"source": "csv", "path": str(path)} | settings)
    prompts, _, rejected = load_prompts(PromptSettings(sources=[source]), dominant="en", seed=0)
    return "".join(KINDS[kind] for kind in prompts["kind"].to_pylist()), rejected["reason"].to_pylist()


def write_csv(path, column, values):
    text = io.StringIO()
    csv.writer(text).writerows([["text", column], *([f"Bake bread {n}.", value] for n, value in enumerate(values))])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "values", "kinds"),
    [
        ("label", "safe|unsafe|SAFE| Harmless |harmful", "-+--+"),
        ("label", "unharmful|harmful|benign|jailbreak", "-+-+"),
        ("label", "not harmful|not_safe|non-toxic|toxic|malicious", "-+-++"),
        ("is_safe", "True|False|true|FALSE", "-+-+"),
        ("is_safe", "1|0|1.0|0.0", "-+-+"),
        ("harmful", "yes|no|Y|n", "+-+-"),
        ("isUnsafe", "on|off", "+-"),
        ("not_safe", "true|false", "+-"),
        ("prompt_is_harmful", "true|safe", "+-"),
        ("toxicity", "1|0", "+-"),
    ],
)
def test_words_and_settled_columns(tmp_path, column, values, kinds):
    path = write_csv(tmp_path / "a.csv", column, values.split("|"))
    assert read(path, kind_column=column) == (kinds, [])


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("is_safe", "harmless"),
        ("safe", "harmless"),
        ("benign", "harmless"),
        ("is_not_harmful", "harmless"),
        ("Is Harmful?", "harmful"),
        ("unsafe", "harmful"),
        ("jailbreak", "harmful"),
        ("toxic", "harmful"),
        ("prompt_harm_label", "harmful"),
        ("label", None),
        ("flagged", None),
        ("kind", None),
        ("is_response_0_safe", None),
        ("response_harm_label", None),
        ("safe_completion", None),
        ("safe_replies", None),
        ("chosen_safe", None),
        ("model_harmful", None),
        ("safe_or_harmful", None),
        ("jailbreaking_attempt", None),
    ],
)
def test_what_true_means_by_the_name_of_the_column(name, direction):
    assert column_direction(name) == direction


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", "True|False", r"line 2: .*may mean either\. .*kind_map: \{True: harmful\|harmless, False: harmful\|"),
        ("label", "0|1", r"kind_map: \{0: harmful\|harmless, 1: "),
        ("label", "yes|safe", r"kind_map: \{yes: harmful\|harmless, safe: harmless\}"),
        ("data_type", "vanilla_harmful|vanilla_benign", r"kind_map: \{vanilla_harmful: harmful\|harmless, vanilla_ben"),
        ("label", "safe|Partly Safe|unsafe", r'line 3: .*kind_map: \{safe: harmless, "Partly Safe": harmful\|harmless'),
        ("is_response_0_safe", "True|False", r"labels an answer, .*kind_map: \{True: harmful"),
        ("response_harm_label", "harmful|unharmful", r"labels an answer"),
        ("chosen_label", "safe|unsafe", r"labels an answer"),
        ("rejected_is_safe", "True|False", r"labels an answer"),
        ("outputs", "safe|unsafe", r"labels an answer"),
        ("label", "2|3", r"kind_map: \{2: harmful\|harmless, 3: "),
        ("label", "safe|a long text that someone wrote", r"1 more value, not shown"),
    ],
)
def test_an_unknown_label_asks_for_a_map(tmp_path, column, values, message):
    path = write_csv(tmp_path / "a.csv", column, values.split("|"))
    with pytest.raises(BadInputError, match=message) as caught:
        read(path, kind_column=column)
    assert "someone" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind_map", "kinds"),
    [
        ("True|False", "{true: harmless, false: harmful}", "-+"),
        ("yes|no", "{yes: harmful, no: harmless}", "+-"),  # YAML reads these keys as truth values
        ("Yes|NO", '{"yes": harmful, "no": harmless}', "+-"),
        ("0|1|1.0", "{0: harmful, 1: harmless}", "+--"),
        ("0.0|1.0", "{0.0: harmful, 1.0: harmless}", "+-"),
        ("vanilla_harmful|Vanilla_Benign", "{vanilla_harmful: harmful, vanilla_benign: harmless}", "+-"),
        ("Very  bad|fine", "{very bad: harmful, fine: harmless}", "+-"),
        ("harmful|other", "{other: harmless}", "+-"),
        ("safe|unsafe", "{safe: harmful, unsafe: harmless}", "+-"),  # the map is the user's word
        ("|a", '{"": harmless, a: harmful}', "-+"),
    ],
)
def test_a_map_decides(tmp_path, values, kind_map, kinds):
    path = write_csv(tmp_path / "a.csv", "label", values.split("|"))
    assert read(path, kind_column="label", kind_map=yaml.safe_load(kind_map)) == (kinds, [])


@pytest.mark.parametrize(
    ("kind_map", "message"),
    [
        ("{a: harmful|harmless}", r"kind_map.*'harmful' or 'harmless', given 'harmful\|harmless'"),
        ("{a: true}", r"kind_map.*given True"),
        ("{true: harmful, 'True': harmless}", "has two kinds"),
        ("harmful", r"kind_map: .*valid dictionary"),
    ],
)
def test_a_wrong_map_is_refused(profile, kind_map, message):
    with pytest.raises(BadInputError, match=message):
        load_config(profile, [f"prompts.sources.0.kind_map={kind_map}"])


def test_a_map_survives_the_round_trip_of_the_settings(profile):
    config = load_config(profile, ["prompts.sources.0.kind_map={true: harmless, 5: harmful, FALSE: harmful}"])
    wanted = {"true": "harmless", "5": "harmful", "false": "harmful"}
    assert config.prompts.sources[0].kind_map == wanted
    assert type(config).model_validate(config.model_dump(mode="json")).prompts.sources[0].kind_map == wanted


def test_a_missing_label_rejects_the_row(tmp_path):
    path = write_csv(tmp_path / "a.csv", "label", ["safe", "", "unsafe"])
    assert read(path, kind_column="label") == ("-+", ["no_kind"])
    write_csv(path, "label", ["", " "])
    with pytest.raises(BadInputError, match=r"column 'label' is empty; all 2 rows are rejected"):
        read(path, kind_column="label")


def test_values_of_parquet(tmp_path):
    columns = {
        "truth": pa.array([True, False, None]),
        "number": pa.array([1.0, 0.0, float("nan")]),
        "dictionary": pa.array(["unsafe", "safe", None]).dictionary_encode(),
        "view": pa.array(["unsafe", "safe", None], pa.string_view()),
    }
    path = tmp_path / "a.parquet"
    for values in columns.values():
        pq.write_table(pa.table({"text": ["Bake bread.", "Pour tea.", "Plant beans."], "harmful": values}), path)
        assert read(path, source="parquet", kind_column="harmful") == ("+-", ["no_kind"])


@pytest.mark.parametrize("names", [["harmful", "harmless"], ["safe", "unsafe"], ["bad", "fine"], ["no", "yes"]])
def test_names_of_a_class_label(tmp_path, names):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = {"text": ["Bake bread.", "Pour tea.", "Plant beans."], "label": [0, 1, -1]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "a.parquet"))
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    kinds = {"harmful": "+-", "safe": "-+", "bad": "+-", "no": "-+"}[names[0]]
    column = {"kind_column": "label"}
    if names[0] == "bad":
        column["kind_map"] = {"bad": "harmful", "fine": "harmless"}
    if names[0] == "no":
        column["kind_map"] = {0: "harmless", 1: "harmful"}  # by index
    for kind, path in (("dataset", tmp_path / "saved"), ("parquet", tmp_path / "a.parquet"), ("parquet", arrow)):
        assert read(path, source=kind, **column) == (kinds, ["no_kind"])
        assert read(path, source=kind, kind="harmful", where={"label": names[1]}) == ("+", [])
        assert read(path, source=kind, kind="harmful", where={"label": 1}) == ("+", [])


def test_the_kinds_of_each_source_are_counted(tmp_path):
    paths = [write_csv(tmp_path / f"{n}.csv", "label", values) for n, values in (("a", ["safe"] * 2), ("b", ["safe"]))]
    sources = [PROMPT_SOURCES.parse({"source": "csv", "path": str(path), "kind_column": "label"}) for path in paths]
    prompts, _, _ = load_prompts(PromptSettings(sources=sources[:1]), dominant="en", seed=0)
    assert count_kinds(prompts) == {"a.csv": {"harmful": 0, "harmless": 2}}


def test_texts_in_place_of_a_header_are_not_shown(tmp_path):
    texts = ["how do I bake bread at home", "我怎么烤面包", "text_id", "Mix flour and water."]
    (tmp_path / "a.csv").write_text(",".join(texts) + "\na,b,c,d\n", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"Columns present: text_id and 3 that may be texts .*a header") as caught:
        read(tmp_path / "a.csv", kind="harmless")
    for text in (texts[0], texts[1], texts[3]):
        assert text not in str(caught.value)


def test_names_of_columns_are_shown_safely(tmp_path):
    path = tmp_path / "a.csv"
    names = ["\x1b[31mred", "b" * 5000, *(f"c{n}" for n in range(2000))]
    path.write_text(",".join(names) + "\n" + ",".join("x" * len(names)) + "\n")
    with pytest.raises(
        BadInputError, match=r"Columns present: c0, .*, c29 and 1,970 more and 2 that may be texts"
    ) as bad:
        read(path, kind="harmless")
    assert "\x1b" not in str(bad.value)
    assert len(str(bad.value)) < 700
    with pytest.raises(BadInputError, match=r"no column '.{1,9}x1b\[31m' \(text_column\)"):
        read(path, kind="harmless", text_column="\x1b[31m")

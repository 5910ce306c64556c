"""Bad input through the real command: exit code 2, one line that tells how to fix it, nothing half written."""

import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.usefixtures("prefect_server")  # or each process would start one of its own

ROOT = Path(__file__).resolve().parents[2]
FAST = ["--set", "training.max_steps=2", "--set", "training.threads=1", "--set", "training.save_every=1"]


def check_single_line(outcome, *patterns):
    """Asserts the form of a refusal: code 2, one line on stderr, nothing on stdout, each of `patterns` in the line."""
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("mpo: ")
    assert outcome.out == ""
    for pattern in patterns:
        assert re.search(pattern, lines[0]), (pattern, lines[0])
    return lines[0]


def left(folder):
    """Files that a refused command must not have left: whatever is half written, and any table or model."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in {".tmp", ".parquet", ".safetensors"} or path.name.endswith(".json")
    ]


# -- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "patterns"),
    [
        (
            "training.betta=1",
            ["--set training.betta: unknown settings key 'training.betta'. Known here: .*method, beta,"],
        ),
        ("training.beta=high", ["--set training.beta: training.beta: .*valid number", "See training.beta in docs"]),
        ("training.batch_size=1.5", ["training.batch_size: .*valid integer"]),
        ("languages.targets=[sw, tlh]", ["languages.targets: unknown language 'tlh'", "Known: en, it,"]),
        ("training.beta", ["--set training.beta: the override has no `key=` before its value", "for example --set"]),
        ("training.seed=4294967296", ["training.seed: .*less than 4294967296", "See training.seed in docs"]),
        ("training.seed=-1", ["training.seed: .*greater than or equal to 0"]),
        ("compare.seeds=[-1]", [r"compare.seeds.0: .*greater than or equal to 0"]),
    ],
    ids=["unknown key", "wrong type", "no integer", "unknown language", "no override", "seed", "below 0", "seeds"],
)
def test_a_wrong_setting(mpo, profile, tmp_path, override, patterns):
    check_single_line(mpo("run", profile, "--set", override), *patterns)
    assert not (tmp_path / "root").exists()


def test_an_unknown_language_on_the_command_line(mpo, profile):
    check_single_line(mpo("run", profile, "--languages", "sw,tlh"), "unknown language 'tlh'", "Known: en")


def test_a_wrong_setting_without_a_profile_names_no_file_of_the_installation(mpo, tmp_path):
    (tmp_path / "a.csv").write_text("prompt,response,language,kind\n")
    given = ["judge", tmp_path / "a.csv", "--judge", "refusal_rules", "--out", tmp_path / "v.csv"]
    line = check_single_line(mpo(*given, "--set", "training.beta=abc"), "--set training.beta: training.beta: ")
    assert "demo.yaml" not in line


def test_a_missing_or_broken_profile(mpo, tmp_path):
    check_single_line(
        mpo("run", tmp_path / "none.yaml"), r"none\.yaml: cannot read the profile \(No such file", "Name a YAML"
    )
    (tmp_path / "p.yaml").write_text("run:\n  name: [x\n")
    check_single_line(mpo("run", tmp_path / "p.yaml"), r"p\.yaml, line \d: this is not YAML", "Fix the syntax")


@pytest.mark.parametrize(
    "arguments", [["train"], ["run", "--no-such-option"], ["no-such-command"], ["pairs", "import"]]
)
def test_a_wrong_use_of_the_command_is_bad_input_too(mpo, arguments):
    outcome = mpo(*arguments)
    assert outcome.code == 2
    assert "Usage" in outcome.err
    assert "Traceback" not in outcome.err


# -- files of prompts ----------------------------------------------------------------


def rename_column(path):
    path.write_text(path.read_text().replace("text,kind", "request,kind", 1))


def only_header(path):
    path.write_text("text,kind\n")


def repeat_ids(path):
    path.write_text("id,text,kind\n1,Bake bread.,harmless\n2,Pour tea.,harmless\n1,Plant beans.,harmless\n")


def secret_kind(path):
    path.write_text("text,kind\nBake bread.,a very secret text\n")


def broken_row(path):
    path.write_text("text,kind\nBake bread.,harmless\nPour tea\n")


PROMPTS = {
    "missing": (Path.unlink, [r"prompts\.csv: cannot be read \(No such file", r"Check (prompts\.sources|--prompts)"]),
    "no such column": (rename_column, [r"prompts\.csv: no column 'text'", "Columns present: request, kind"]),
    "empty table": (only_header, [r"prompts\.csv: the source holds no row", "at least one prompt"]),
    "nothing at all": (lambda path: path.write_text(""), [r"prompts\.csv: the first line names no columns"]),
    "duplicate ids": (
        repeat_ids,
        [r"prompts\.csv: the column 'id' repeats 1 id: '1' at line 2, line 4", "Make the ids unique"],
    ),
    "unknown kind": (secret_kind, [r"prompts\.csv, line 2: column 'kind'", "Known: harmful/harmless"]),
    "a short row": (broken_row, [r"prompts\.csv, line 3: 1 column where the header has 2", "Quote fields"]),
    "no text file": (lambda path: path.write_bytes(b"text,kind\n\xff,x\n"), [r"line 2: not UTF-8", "Save"]),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_bad_prompts_stop_an_evaluation(mpo, prompts_csv, case):
    damage, patterns = PROMPTS[case]
    damage(prompts_csv)
    line = check_single_line(mpo("evaluate", "--model", "microworld", "--prompts", prompts_csv), *patterns)
    assert "secret" not in line


@pytest.mark.parametrize("case", ["missing", "no such column", "duplicate ids"])
def test_bad_prompts_stop_a_run(mpo, prefect_server, profile, prompts_csv, tmp_path, case):
    damage, patterns = PROMPTS[case]
    damage(prompts_csv)
    check_single_line(mpo("run", profile), *patterns)
    assert left(tmp_path / "root") == []


def test_a_byte_order_mark_is_no_fault(mpo, prompts_csv):
    plain = mpo(
        "evaluate", "--model", "microworld", "--prompts", prompts_csv, "--set", "languages.targets=[sw]", "--json"
    )
    prompts_csv.write_bytes(b"\xef\xbb\xbf" + prompts_csv.read_bytes())
    marked = mpo(
        "evaluate", "--model", "microworld", "--prompts", prompts_csv, "--set", "languages.targets=[sw]", "--json"
    )
    assert (plain.code, marked.code) == (0, 0)
    assert json.loads(marked.out) == json.loads(plain.out)
    assert {row["n"] for row in json.loads(marked.out)["metrics"] if row["benchmark"] == "held_out"} == {5}


def test_columns_are_named_on_the_command_line_where_no_profile_names_them(mpo, prompts_csv):
    text = prompts_csv.read_text(encoding="utf-8").replace("text,kind", "my request,what", 1)
    prompts_csv.write_text(text, encoding="utf-8")
    given = ["evaluate", "--model", "microworld", "--prompts", prompts_csv]
    line = check_single_line(mpo(*given), "no column 'kind'", "Columns present: my request, what")
    advice = shlex.split(line[line.index("--set") :])
    # The advice as it is written, with the columns that the message lists.
    advice[1] = advice[1].replace("COLUMN", "my request", 1).replace("COLUMN", "none of them", 1)
    check_single_line(mpo(*given, *advice), r"no column 'none of them' \(kind_column\)")


def test_another_kind_of_file(mpo, prompts_csv):
    other = prompts_csv.rename(prompts_csv.with_suffix(".xlsx"))
    check_single_line(
        mpo("evaluate", "--model", "microworld", "--prompts", other), r"prompts\.xlsx: unknown kind", r"\.csv"
    )


# -- model folders -------------------------------------------------------------------


def no_template(folder):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def corrupt_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


MODELS = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ["the tokenizer is missing", "Save the tokenizer"]),
    "no chat template": (no_template, ["has no chat template", r"--set model\.chat_template=FILE"]),
    "corrupt weights": (corrupt_header, [r"model\.safetensors is damaged", "Fetch or save the model again"]),
    "truncated weights": (cut_weights, [r"model\.safetensors is damaged", "Fetch or save the model again"]),
    "no config": (lambda f: (f / "config.json").unlink(), [r"config\.json is missing", "Give a Hugging Face model"]),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_bad_model_folder(mpo, model_copy, write_pairs, prompts_csv, tmp_path, command, case):
    damage, patterns = MODELS[case]
    damage(model_copy)
    out = tmp_path / "out"
    given = {
        "train": ["--pairs", write_pairs(), "--out", out],
        "evaluate": ["--prompts", prompts_csv, "--judge", "refusal_rules"],
    }
    check_single_line(mpo(command, "--model", model_copy, *given[command]), re.escape(f"model {model_copy}"), *patterns)
    assert not out.exists()


def test_a_missing_model_folder(mpo, profile, prompts_csv, tmp_path, prefect_server):
    patterns = [r"model\.path .*none: no such folder", "Name a model folder or a hub id"]
    given = ["--model", tmp_path / "none", "--prompts", prompts_csv, "--judge", "refusal_rules"]
    check_single_line(mpo("evaluate", *given), *patterns)
    check_single_line(mpo("run", profile, "--set", f"model.path={tmp_path / 'none'}"), *patterns)


def test_a_template_that_refuses_the_system_message(mpo, write_pairs, tmp_path):
    given = ["--pairs", write_pairs(), "--model", "microworld", "--out", tmp_path / "out"]
    check_single_line(
        mpo("train", *given, "--set", "model.system=Be brief."), r"model\.system: the chat template takes no"
    )
    assert not (tmp_path / "out").exists()


# -- pairs ---------------------------------------------------------------------------


def test_a_missing_or_malformed_file_of_pairs(mpo, official, tmp_path):
    out = tmp_path / "out"
    train = ["train", "--model", "microworld", "--out", out, "--pairs"]
    check_single_line(
        mpo(*train, tmp_path / "none.parquet"), r"none\.parquet: cannot be read \(No such", "Name a file of pairs"
    )
    check_single_line(
        mpo("pairs", "import", tmp_path / "none.json", "--out", out), r"none\.json: cannot be read", "Name a file"
    )
    check_single_line(
        mpo("pairs", "import", official, "--out", tmp_path / "o.json"),
        r"o\.json: the name of the output does not end in \.parquet",
    )
    check_single_line(mpo(*train, official([])), r"official\.json: the file holds no list of pairs", "See docs")
    check_single_line(
        mpo(*train, official([{"a": 1}])), "missing_key 1.* row 0: the key source_chosen is missing; present: a"
    )
    (tmp_path / "x.json").write_text('[\n{"a": 1},\n')
    check_single_line(
        mpo("pairs", "import", tmp_path / "x.json", "--out", out), r"x\.json, line 3: this is not JSON", "Give the"
    )
    assert not out.exists()


def test_pairs_with_repeated_ids_or_without_rows(mpo, write_pairs, tmp_path):
    given = ["train", "--model", "microworld", "--out", tmp_path / "out", "--pairs"]
    repeated = write_pairs({1: {"pair_id": "same"}, 2: {"pair_id": "same"}})
    check_single_line(
        mpo(*given, repeated), r"pairs\.parquet: the key .*pair_id.* repeats in 1 row", "Make the ids unique"
    )
    check_single_line(
        mpo(*given, write_pairs(count=0)), r"pairs\.parquet: no pair can be used \(the file holds no row\)"
    )
    assert not (tmp_path / "out").exists()


def test_pairs_of_which_none_can_be_used(mpo, write_pairs, tmp_path):
    given = ["train", "--model", "microworld", "--out", tmp_path / "out", *FAST, "--pairs"]
    empty = write_pairs({number: {"target_rejected": " "} for number in range(4)})
    check_single_line(mpo(*given, empty), r"no pair can be used \(empty_response 4\)", "Fix these rows")
    assert not (tmp_path / "out").exists()
    long = write_pairs({number: {"target_prompt": "ya " * 3000} for number in range(4)})
    check_single_line(
        mpo(*given, long, "--set", "training.cutoff=8"), r"no pair is left .*over_long 4", r"training\.cutoff"
    )
    assert not (tmp_path / "out").exists()


def test_unusable_pairs_among_good_ones_are_counted(mpo, write_pairs, tmp_path):
    # Of the fourth nothing of the answers is left at the cut-off: the prompt alone is a hundred times as long.
    pairs = write_pairs(
        {1: {"source_chosen": ""}, 2: {"target_rejected": "\n"}, 3: {"target_prompt": "ya " * 3000}}, count=6
    )
    out = tmp_path / "out"
    out.mkdir()
    outcome = mpo(
        "train", "--pairs", pairs, "--model", "microworld", "--out", out, *FAST, "--set", "training.cutoff=16", "--json"
    )
    assert outcome.code == 0, outcome
    figures = json.loads(outcome.out)
    assert figures["pairs"] == 3
    assert figures["quarantined"] == {"empty_response": 2, "over_long": 1}
    rows = pq.read_table(out / "quarantine.parquet").to_pylist()
    ids = pq.read_table(pairs)["pair_id"].to_pylist()
    assert [(row["row_id"], row["reason"]) for row in rows] == [
        (ids[1], "empty_response"),
        (ids[2], "empty_response"),
        (ids[3], "over_long"),
    ]
    assert not any("ya" in row["detail"] for row in rows)
    assert sorted(path.name for path in out.iterdir()) == ["model", "quarantine.parquet", "trainer_state.json"]
    # The folder is taken now; what is in it stays as it is.
    line = check_single_line(
        mpo("train", "--pairs", pairs, "--model", "microworld", "--out", out),
        "the folder holds a trained model already",
    )
    assert "Name a new folder" in line
    assert len(list(out.iterdir())) == 3


def test_what_was_in_the_folder_before_stays(mpo, write_pairs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    given = ["train", "--model", "microworld", "--out", out, *FAST, "--pairs"]
    long = write_pairs({number: {"target_prompt": "ya " * 3000} for number in range(4)})
    check_single_line(mpo(*given, long, "--set", "training.cutoff=8"), "over_long 4")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


# -- disks ---------------------------------------------------------------------------


def limited(*arguments, size, cwd=None):
    """The command on a disk that takes files of `size` bytes at the most, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return SimpleNamespace(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def test_a_full_disk(write_pairs, tmp_path, tmp_path_factory):
    pairs = write_pairs()
    root = tmp_path_factory.mktemp("root")
    given = ["--set", f"run.root={root}", *FAST]
    train = limited("train", "--pairs", pairs, "--model", "microworld", "--out", tmp_path / "out", *given, size=500)
    check_single_line(
        train, r"pairs/\w+\.parquet: cannot write \(File too large\)", "Make space, or choose another folder"
    )
    assert not (tmp_path / "out").exists()
    outcome = limited("pairs", "export", pairs, "--out", tmp_path / "new.json", size=500)
    check_single_line(outcome, r"new\.json: cannot write \(File too large\)", "Make space")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.parquet"]


@pytest.mark.long
def test_a_disk_that_fills_while_a_model_is_trained(prefect_server, monkeypatch, write_pairs, tmp_path):
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())  # its database needs more than that
    out, given = tmp_path / "out", ["--set", f"run.root={tmp_path / 'root'}", *FAST]
    train = limited("train", "--pairs", write_pairs(), "--model", "microworld", "--out", out, *given, size=300_000)
    *progress, train.err = train.err.splitlines(keepends=True)
    assert all(line.startswith(("reference:", "train:")) for line in progress), progress
    check_single_line(train, "cannot write", "Make space")
    assert not list(out.rglob("*.tmp"))
    assert not (out / "model").exists()


@pytest.mark.parametrize("root", ["/proc/nowhere", "prompts.csv/root"])
def test_a_read_only_root(mpo, profile, tmp_path, prefect_server, root):
    where = root if root.startswith("/") else str(tmp_path / root)
    check_single_line(
        mpo("run", profile, "--set", f"run.root={where}"),
        re.escape(f"run.root {where}: cannot write here"),
        r"--set run\.root=PATH",
    )


@pytest.mark.parametrize("command", ["train", "evaluate", "import", "export"])
def test_a_read_only_place_for_the_result(mpo, write_pairs, prompts_csv, command):
    pairs, out = write_pairs(), prompts_csv / "out.parquet"
    given = {
        "train": ["train", "--pairs", pairs, "--model", "microworld"],
        "evaluate": ["evaluate", "--prompts", prompts_csv, "--model", "microworld"],
        "import": ["pairs", "import", pairs],
        "export": ["pairs", "export", pairs],
    }
    check_single_line(mpo(*given[command], "--out", out), "out.parquet.*cannot write", "choose another folder")


@pytest.mark.parametrize("command", [["report", "x"], ["models", "list"], ["models", "promote", "v1", "--why", "x"]])
def test_to_look_at_a_root_that_is_not_there_makes_none(mpo, tmp_path, command):
    root = tmp_path / "typo"
    check_single_line(mpo(*command, "--root", root), f"--root {root}: no such folder", "run.root of an earlier run")
    assert not root.exists()


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("training.consistency={layer: 4}", "training.consistency.layer: there is no layer 4; the model has 3"),
        ("training.distillation={languages: [bn]}", "training.distillation.languages: .* translated into bn"),
    ],
    ids=["consistency", "distillation"],
)
def test_what_the_model_or_the_languages_lack_is_refused_before_any_prompt_is_read(
    mpo, profile, tmp_path, setting, why
):
    check_single_line(mpo("run", profile, "--set", setting), why)
    assert not list((tmp_path / "root").rglob("*.parquet"))


def test_an_edit_without_harmless_prompts(mpo, profile, tmp_path):
    sources = "prompts.sources=[{source: microworld, kind: harmful, split: train, limit: 3}]"
    outcome = mpo("edit", profile, "--model", "microworld", "--out", tmp_path / "out", "--set", sources, "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "an edit needs harmful and harmless prompts, and none is harmless" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_comparison_refuses_a_layer_of_any_method_before_any_prompt_is_read(mpo, profile, tmp_path):
    methods = "compare.methods={mpo: {}, dpo: {edit.layers: [9]}}"
    check_single_line(mpo("compare", profile, "--set", methods), "edit.layers: there is no layer 9")
    assert not list((tmp_path / "root").rglob("*.parquet"))


@pytest.mark.parametrize("command", ["run", "compare", "realign"])
def test_flows_refuse_a_bad_model_before_anything_else(mpo, prefect_server, profile, model_copy, tmp_path, command):
    config = model_copy / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 10**6}))
    outcome = mpo(command, profile, "--set", f"model.path={model_copy}")
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert re.fullmatch(r"mpo: model .*num_hidden_layers is 1000000.*\n", outcome.err), outcome.err
    assert not list((tmp_path / "root").rglob("*.parquet"))

"""Hostile YAML, in a profile and as a value of `--set`: one line with its place, quickly, never a traceback."""

import itertools

import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.settings.profiles import load_config

TOO_DEEP, TOO_LARGE = "nested more than 50 levels", "characters is too large"
REFUSED = {
    "integer of 5,000 digits": ("9" * 5000, "integer of 5,000 " + TOO_LARGE),
    "negative integer of 5,000 digits": ("-" + "9" * 5000, TOO_LARGE),
    "hexadecimal integer": ("0x" + "f" * 5000, TOO_LARGE),
    "integer beyond 64 bits": ("99999999999999999999", TOO_LARGE),
    "10,000 lists": ("[" * 10_000 + "]" * 10_000, TOO_DEEP),
    "10,000 open lists": ("[" * 10_000, TOO_DEEP),
    "10,000 mappings": ("{a: " * 10_000 + "}" * 10_000, TOO_DEEP),
    "10,000 JSON objects": ('{"a":' * 10_000 + "}" * 10_000, TOO_DEEP),
    "list as a key": ("{[a]: 1}", "a key is a list or a mapping"),
    "mapping as a key": ("{{a: 1}: 1}", "a key is a list or a mapping"),
    "repeated key": ("{a: 1, a: 2}", "the key 'a' occurs twice"),
    "tab": ("[\n\ta]: 1", "YAML"),
    "control character": ("a\x01b", r"U\+0001 is not allowed"),
    "NUL": ("a\0b", r"U\+0000 is not allowed"),
    "escape sequence": ("\x1b[31m", r"U\+001B is not allowed"),
    "tag of Python": ("!!python/object/apply:os.system [ls]", "tag .* is not accepted"),
    "tag of our own": ("!x y", "the tag '!x' is not accepted"),
    "tag of an integer": ("!!int x", "tag .* is not accepted"),
    "tag of a date": ("!!timestamp 2020-13-45", "tag .* is not accepted"),
    "alias without an anchor": ("*x", "undefined alias"),
    "alias of itself": ("&a [*a]", "recursive|more than 100,000 values"),
    "alias bomb": (
        "[&a [x,x,x,x,x,x,x,x]"
        + "".join(f", &{b} [{','.join(['*' + a] * 8)}]" for a, b in itertools.pairwise("abcdefg"))
        + "]",
        "more than 100,000 values",
    ),
    "merge of a number": ("{<<: 5}", "merging"),
    "two merges": ("{<<: {a: 1}, <<: {a: 2}}", "the key '<<' occurs twice"),
    "escaped NUL": (r'"a\0b"', "a text holds a NUL"),
    "escaped surrogate": (r'"a\ud800b"', "a text holds a NUL or half of a surrogate"),
    "surrogate in a key": (r'{"\ud800": 1}', "half of a surrogate"),
    "open quote": ("'", "end of stream"),
}  # fmt: skip

READ_WHOLE = {"alias bomb", "alias of itself", "escaped NUL", "escaped surrogate", "surrogate in a key"}
"""What is known once all is read: these have no line."""


@pytest.mark.parametrize("case", REFUSED)
def test_a_profile_is_refused_with_the_line(mpo, tmp_path, case):
    value, message = REFUSED[case]
    path = tmp_path / "p.yaml"
    path.write_text(f"run:\n  name: x\nmodel:\n  path: {value}\n", encoding="utf-8")
    with pytest.raises(BadInputError, match=message) as refusal:
        load_config(path)
    if case not in READ_WHOLE:
        assert f"p.yaml, line {5 if case in {'tab', 'open quote'} else 4}: " in str(refusal.value)
    assert len(str(refusal.value)) < 400 + len(str(path))


@pytest.mark.parametrize("case", REFUSED)
def test_an_override_is_refused(mpo, case):
    value, message = REFUSED[case]
    outcome = mpo("run", "--set", f"model.path={value}")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    with pytest.raises(BadInputError, match=message):
        load_config(None, [f"model.path={value}"])
    assert "\x1b" not in outcome.err
    assert len(outcome.err) < 500


@pytest.mark.parametrize("date", ["2020-13-45", "2020-01-02", "2020-13-45T99:99:99Z"])
def test_a_date_is_a_text(date):
    assert load_config(None, [f"model.revision={date}"]).model.revision == date
    with pytest.raises(BadInputError, match=rf"training\.beta: .*valid number, given '{date}'"):
        load_config(None, [f"training.beta={date}"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12:30", "12:30"),  # YAML 1.1 makes 750 of it
        ("1" + ":59" * 50_000 + ".5", "1" + ":59" * 50_000 + ".5"),
        ("007", "007"),
        ("0o7", "0o7"),
        ("0b1", "0b1"),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
    ],
)
def test_what_looks_like_a_number_is_none(written, value):
    override = f"prompts.sources=[{{source: csv, path: p.csv, kind: harmful, where: {{a: {written}}}}}]"
    assert load_config(None, [override]).prompts.sources[0].where == {"a": value}


@pytest.mark.parametrize("written", ["1.5", "15e-1", "1.5E0", "+1.5", "1_5e-1", ".15e1"])
def test_every_way_to_write_a_number(written):
    assert load_config(None, [f"training.beta={written}"]).training.beta == 1.5


def test_merges_of_merges_do_not_double():
    bomb = "[&m0 {x: 1}" + "".join(f", &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 40)) + "]"
    with pytest.raises(BadInputError, match=r"model\.path: Input should be a valid string"):
        load_config(None, [f"model.path={bomb}"])


def test_merges_join_mappings_and_the_own_key_wins(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "prompts: {sources: [{source: csv, path: p.csv, kind: harmful}]}\n"
        "translation: {engines: [{engine: microworld}]}\n"
        "sampling: &a {n: 2, temperature: 1.0, top_p: 0.5}\n"
        "evaluation: {sampling: {<<: [{n: 3}, *a], top_p: 0.25}}\n"
    )
    sampling = load_config(path).evaluation.sampling
    assert (sampling.n, sampling.temperature, sampling.top_p) == (3, 1.0, 0.25)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("{}", "compare.methods: .*at least 1"),
        ("{mpo: {bta: 1}}", r"compare: methods\.mpo: bta: "),
        ("{x: {}}", r"compare: methods\.x: .*method 'x' is not known; known: "),
        ("{mpo: {lora: {rank: 0}}}", r"compare: methods\.mpo: lora\.rank: "),
    ],
)
def test_a_setting_of_a_method_is_named_with_its_method(methods, message):
    with pytest.raises(BadInputError, match=message):
        load_config(None, [f"compare.methods={methods}"])


def test_only_true_and_false_are_booleans():
    """Norwegian is a language, and `yes` a label."""
    with pytest.raises(BadInputError, match=r"language 'no'|language.*'xx'"):
        load_config(None, ["languages.targets=[no, xx]"])
    assert load_config(None, ["model.trust_remote_code=true"]).model.trust_remote_code is True
    where = "{a: yes, b: off, c: false, =: =}"
    override = f"prompts.sources=[{{source: csv, path: p.csv, kind: harmful, where: {where}}}]"
    source = load_config(None, [override]).prompts.sources[0]
    assert source.where == {"a": "yes", "b": "off", "c": False, "=": "="}


@pytest.mark.parametrize("line", [2, 38, 900])
def test_a_repeated_key_is_reported_where_it_stands_again(tmp_path, line):
    path = tmp_path / "p.yaml"
    path.write_text("run: {name: x}\n" + "\n" * (line - 2) + "run: {name: y}\n")
    with pytest.raises(BadInputError, match=rf"p\.yaml, line {line}: the key 'run' occurs twice"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(range(256)), "not UTF-8 text"),
        ("run: {name: x}".encode("utf-16"), "not UTF-8 text"),
        (b"run: {name: " + b"x" * 2_000_000 + b"}", "at most 262,144 bytes"),
        (b"1: 2\n", "prompts: Field required"),
        (b"? [a, b]\n: 1\n", "line 1: .*a key is a list"),
    ],
)
def test_a_hostile_file(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a" + ".b" * 10_000 + "=1", "the key has 10001 parts, at most"),
        ("prompts.sources." + "9" * 5000 + "=1", "is no index of this list"),
        ("prompts.sources.²=1", "is no index of this list"),
        ("x" * 100_000 + "=1", "unknown settings key"),
        ("training.max_steps=" + "x" * 100_000, "training.max_steps: .*valid integer, given 'xxx"),
    ],
)
def test_a_hostile_override(override, message):
    with pytest.raises(BadInputError, match=message) as refusal:
        load_config(None, [override])
    assert len(str(refusal.value)) < 600

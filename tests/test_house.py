"""The house rules that no linter knows."""

import ast
import itertools
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest

from mpo_core.settings.profiles import load_config

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted((ROOT / "deployments" / "profiles").glob("*.yaml"))


def tracked():
    """Files that git tracks or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_is_above_6_mb():
    large = {str(path): path.stat().st_size for path in tracked() if path.stat().st_size > 6_000_000}
    assert large == {}


def test_no_source_file_is_above_500_lines():
    lines = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in tracked() if p.suffix == ".py"}
    assert {path: count for path, count in lines.items() if count > 500} == {}


# Past participles and fillers that do not say what a thing is; docs/glossary.md has the terms instead.
BANNED_NAMES = {"told", "found", "asked", "kept", "one", "aside", "word"}
NAMES_OF_LIBRARIES = {"tie_word_embeddings"}


def names_in(source):
    """Every identifier that a source file uses."""
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "arg", "attr", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


def test_no_name_is_banned():
    folders = ("flows", "tasks", "mpo_core", "docs", "data", "benchmarks", "tests")
    sources = [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]
    assert sources
    banned = {
        (str(path.relative_to(ROOT)), name)
        for path in sources
        for name in set(names_in(path.read_text(encoding="utf-8"))) - NAMES_OF_LIBRARIES
        if BANNED_NAMES & set(name.strip("_").split("_"))
        if not name.startswith("test_")  # a test's name is a sentence
    }
    assert banned == set()


def docstrings_of_functions(source):
    """First lines of the docstrings of functions, but not of properties, which are named like attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if not any("property" in decorator for decorator in decorators):
                yield node.name, ast.get_docstring(node).splitlines()[0]


def test_a_function_s_docstring_begins_with_what_it_does():
    """A verb in the third person ("Returns ..."); commands are exempt, since theirs is the text of `--help`."""
    folders = ("flows", "tasks", "mpo_core")
    sources = [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]
    assert sources
    wrong = {
        (str(path.relative_to(ROOT)), name, line)
        for path in sources
        if path.parent.name != "commands" and path.name not in {"cli.py", "server.py"}
        for name, line in docstrings_of_functions(path.read_text(encoding="utf-8"))
        if not re.match(r"[A-Z][a-z]+s\b", line)
    }
    assert wrong == set()


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[<>=\[;]", line)[0].lower().replace("_", "-") for line in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert names - pinned == set()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid(profile):
    config = load_config(profile)
    assert config.run.name == profile.stem


@pytest.mark.parametrize(
    ("name", "beta", "rate"),
    [("llama3.1-8b", 1.0, 6e-7), ("gemma2-9b", 1.5, 4e-7), ("qwen2.5-7b", 1.5, 6e-7)],
)
def test_backbone_profiles_hold_the_released_hyper_parameters(name, beta, rate):
    training = load_config(ROOT / "deployments" / "profiles" / f"{name}.yaml").training
    assert (training.beta, training.learning_rate, training.epochs) == (beta, rate, 2.0)
    assert (training.schedule, training.warmup, training.cutoff, training.batch_size) == ("cosine", 0.1, 1024, 1)
    assert (training.precision, training.lora, training.anchor_gap) == ("bfloat16", None, "dominant")


def test_the_generated_pages_are_up_to_date():
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == pages["settings_page"]()
    assert (ROOT / "docs" / "data-contract.md").read_text(encoding="utf-8") == pages["contract_page"]()

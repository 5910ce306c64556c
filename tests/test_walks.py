"""The walks of docs/your-model.md: every command is run by a test, or says what it needs and is checked here."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli import app
from mpo_core.settings.profiles import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "your-model.md").read_text(encoding="utf-8")
NO_GPU, *WALKS = ("A real model without a GPU", "A real model on one GPU", "A real model behind servers")


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(title):
    """The commands of a walk, without their line breaks."""
    blocks = re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL)
    return "".join(blocks).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("title", WALKS)
def test_every_command_says_what_it_needs(title):
    assert len(commands(title)) >= 4
    for command in commands(title):
        assert re.search(r" # needs the (hub|network|run)", command), command
    # The walk without a GPU is run whole by tests/flows/test_real_model.py; pip is its only other program.
    assert {command.split()[0] for command in commands(NO_GPU)} <= {"pip", ".venv/bin/python", ".venv/bin/mpo"}


@pytest.mark.parametrize("title", [NO_GPU, *WALKS])
def test_every_mpo_command_has_options_and_settings_that_exist(title, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    profile = tmp_path / "servers.yaml"
    profile.write_text("".join(re.findall(r"```yaml\n(.*?)```", section(title), re.DOTALL)), encoding="utf-8")
    programs = [shlex.split(command, comments=True) for command in commands(title)]
    ours = [arguments[1:] for arguments in programs if arguments[0].endswith("/mpo")]
    assert ours
    for name, *arguments in ours:
        given = [str(profile) if part == profile.name else part for part in arguments]
        context = get_command(app).commands[name].make_context(name, given)
        if name == "run":
            config = load_config(Path(context.params["profile"]), context.params["overrides"] or [])
            assert config.model.path in {"smollm2", "smollm2-aligned", "qwen2.5-1.5b"}


def test_the_walk_with_servers_asks_both_of_its_servers():
    (text,) = re.findall(r"```yaml\n(.*?)```", section(WALKS[1]), re.DOTALL)
    profile = yaml.safe_load(text)
    assert profile["evaluation"]["sampling"] == profile["sampling"]
    assert profile["sampling"]["backend"]["backend"] == profile["judging"]["judge"] == "openai"
    (server,) = (command for command in commands(WALKS[1]) if " serve " in command)
    assert f"vllm serve {profile['judging']['model']} --port 8001" in server
    assert ":8001/" in profile["judging"]["url"]

"""Editing of one model, by the tasks and the cache of the pipeline: what `mpo edit` does."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow

from flows import stages
from flows.prefect_api import require_server
from flows.run import open_root, start_run
from flows.stages.answers import require_split
from flows.surroundings import require_writable
from mpo_core.contract.artifacts import MANIFEST, Shard, sweep, temporary_for
from mpo_core.contract.errors import BadInputError, DamagedError
from mpo_core.contract.tables import EDITS
from mpo_core.editing.bits import FOLDER, README, change_model
from mpo_core.models import described, resolve
from mpo_core.settings import EditSettings, PipelineConfig
from mpo_core.translation import build as translation
from tasks.model import ModelFolder, find_model

_METADATA = re.compile(rb"---[ \t]*\r?\n.*?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# A note begins with the line break that metadata at the end of a card may lack, and ends with a blank line.
_EDITED = "\n> After this card was written, the model was edited (edits/{}). Figures below are from before.\n\n"
_UNDONE = "\n> After this card was written, an edit of the model was undone ({}). Figures below are from before.\n\n"


def edit_checkpoint(config: PipelineConfig, out: Path) -> dict[str, Any]:
    """Edits the model of the settings with their prompts of the split `train`, and writes it as a new folder.

    Raises:
        BadInputError: the model cannot be edited, or the change is too large; nothing is written to `out` then.
    """
    _require_new(out)
    from mpo_core.editing.edit import require_editable  # imports torch, which takes seconds

    model = find_model(config.model)
    folder = Path(model.folder or "")
    require_editable(described(folder, model.settings), config.edit or EditSettings(), folder)
    translation.fingerprint(config.translation)
    store = open_root(config)
    require_server()
    edited = edit_prompts_flow(config, model)
    if edited.model is None:
        raise DamagedError("the edit gave no model")
    with store.open_folder(edited.model) as edited_folder:
        _write(out, lambda new: _copied(edited_folder, new), folder)
        (file,) = _edits(edited_folder) - _edits(folder)
    table = store.read_table(edited.rows, EDITS)
    return {
        "edited_neurons": sum(table["edited"].to_pylist()),
        "neurons": sum(table["neurons"].to_pylist()),
        **({"rejected": edited.counts["rejected"]} if "rejected" in edited.counts else {}),
        "largest_change": round(max(table["change"].to_pylist()), 4),
        "model": str(out),
        "edit": str(out / FOLDER / file),
    }


@flow(name="edit")
def edit_prompts_flow(config: PipelineConfig, model: ModelFolder) -> Shard:
    """Reads and translates the training prompts, and edits the model with them."""
    with start_run(config) as run:
        blocks = stages.read_prompt_blocks(run)
        require_split(blocks, "train")
        texts = stages.translate(run, [block for block in blocks if stages.split(block) == "train"])
        settings = config.edit or EditSettings()
        return run.result(stages.submit_edit(run, model, texts, settings, None, "model"))


def change_checkpoint(config: PipelineConfig, edit: Path, out: Path, *, undo: bool) -> dict[str, Any]:
    """Applies the file of an edit to the model of the settings, or undoes it, and writes the model as a new folder."""
    _require_new(out)
    folder = resolve(config.model).resolve()
    _write(out, lambda new: change_model(folder, edit, new, undo=undo), folder)
    return {"undone" if undo else "applied": str(edit), "model": str(out)}


def _require_new(out: Path) -> None:
    if out.exists():
        raise BadInputError("this exists already", where=f"--out {out}", fix="Name a new folder.")
    require_writable(out, out)


def _write(out: Path, make: Callable[[Path], object], origin: Path) -> None:
    """Writes a folder whole or not at all, with the model card of the model that it was made from."""
    unfinished = temporary_for(out)
    sweep(out)
    try:
        make(unfinished)
        _write_card(origin, unfinished)
        unfinished.rename(out)
    except OSError as error:
        raise BadInputError(
            f"cannot write here ({error.strerror or type(error).__name__})",
            where=f"--out {out}",
            fix="Make space, or choose another folder.",
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_card(origin: Path, new: Path) -> None:
    """Writes the card of the model before, with a note of the edit that is new or gone: its figures know nothing of it.

    A card that has the contrary note gets none, so an edit that is applied and undone leaves the card as it was.
    """
    if not (origin / README).is_file():
        return
    card = (origin / README).read_bytes()
    for name in sorted(_edits(origin) ^ _edits(new)):
        edited, undone = (note.format(name).encode() for note in (_EDITED, _UNDONE))
        note, contrary = (edited, undone) if name in _edits(new) else (undone, edited)
        metadata = _METADATA.match(card)
        begin = metadata.end() if metadata else 0
        card = card.replace(contrary, b"") if contrary in card else card[:begin] + note + card[begin:]
    (new / README).write_bytes(card)


def _edits(folder: Path) -> set[str]:
    return {path.name for path in (folder / FOLDER).glob("*")}


def _copied(folder: Path, new: Path) -> None:
    shutil.copytree(folder, new, ignore=shutil.ignore_patterns(MANIFEST))

"""Edits a model folder: measures prompts, computes the change of every layer, and writes the new folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.progress import Progress
from mpo_core.contract.tables import EDITS, QUARANTINE
from mpo_core.editing.bits import Change, Matrix, change_model, change_of, matrices, write_change
from mpo_core.editing.measure import PROJECTIONS, Mlp, gated_mlps, mlp_inputs
from mpo_core.editing.solve import Inputs, select_neurons, solve
from mpo_core.models import require_layers
from mpo_core.models.chat import encode_prompt
from mpo_core.settings.edit import EditSettings

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_FEWEST = 2  # prompts of a kind: fewer have no spread


class EditedPrompts(NamedTuple):
    """The prompts that an edit is computed from."""

    dominant: list[dict[str, Any]]
    """Rows of PROMPTS."""
    translated: list[dict[str, Any]]
    """Rows of TRANSLATIONS of these prompts, in the target languages."""


class Edited(NamedTuple):
    """What an edit has changed, and the prompts that it could not use."""

    rows: pa.Table
    """Table EDITS."""
    rejected: pa.Table
    """Table QUARANTINE: prompts that the tokenizer or the chat template fails on (`not_encodable`)."""


class _Matrix(NamedTuple):
    """One matrix to edit: the number of its layer, the name of its tensor, and where it lies."""

    layer: int
    name: str
    place: Matrix


class _Figures(NamedTuple):
    """The change of a matrix: new rows as bytes, and its row of EDITS."""

    name: str
    change: Change | None
    row: dict[str, Any]


def edit_folder(
    folder: Path,
    model: Any,
    tokenizer: Any,
    prompts: EditedPrompts,
    settings: EditSettings,
    out: Path,
    *,
    system: str | None,
    progress: Progress,
) -> Edited:
    """Copies a model folder with an edit, whose file is in its folder `edits`.

    All layers are measured once, on the unedited model.

    `out` must not exist; a file of the same name with the ending `.edit` is written first.

    Raises:
        BadInputError: the model cannot be edited, there are too few prompts, or the change is too large; nothing is
            written then.
    """
    mlps = gated_mlps(model)
    chosen = _layers(len(mlps), settings)
    places = _places(folder, mlps, chosen)
    ids, usable, rejected = _encoded(prompts, tokenizer, system)
    texts, order = _texts(usable)
    states = mlp_inputs(model, [mlps[at] for at in chosen], [ids[text] for text in texts], progress=progress)
    done = [
        figures
        for at, of_layer in zip(chosen, states, strict=True)
        for figures in _of_layer(
            folder, [place for place in places if place.layer == at], order.inputs(of_layer, model.device), settings
        )
    ]
    changes = {figures.name: figures.change for figures in done if figures.change is not None}
    if not changes:
        raise BadInputError(
            "no neuron reacts more to harmful than to harmless prompts",
            where="edit",
            fix="Lower edit.min_z_score or edit.min_effect, or give more prompts.",
        )
    edit = out.with_suffix(".edit")
    write_change(edit, changes)
    change_model(folder, edit, out)
    return Edited(EDITS.build(figures.row for figures in done), QUARANTINE.build(rejected))


def require_editable(model: Any, settings: EditSettings, folder: Path | None = None) -> None:
    """Requires that a model can be edited.

    Its config is enough: the weights may lie on the meta device. `folder` is the model's if its own files are edited.

    Raises:
        BadInputError: it has no such layers, or its files hold no such matrices.
    """
    mlps = gated_mlps(model)
    chosen = _layers(len(mlps), settings)
    if folder is not None:
        _places(folder, mlps, chosen)


class _Order(NamedTuple):
    """Which texts belong to which of the inputs, by number."""

    translated: list[int]
    dominant: list[int]
    harmful: list[int]
    harmless: list[int]

    def inputs(self, states: Tensor, device: torch.device) -> Inputs:
        """Returns the inputs of a layer, in float64 on a device; states are [N, D]."""
        return Inputs(*(states[numbers].to(device, torch.float64) for numbers in self))


def _encoded(
    prompts: EditedPrompts, tokenizer: Any, system: str | None
) -> tuple[dict[str, list[int]], EditedPrompts, list[dict[str, Any]]]:
    """Returns the token ids of each text, the prompts that have some, and rows of QUARANTINE for the others.

    A prompt that cannot be read in the dominant language takes its translations along: they are compared with it.
    """
    ids: dict[str, list[int]] = {}
    rejected: list[dict[str, Any]] = []

    def encodes(row: dict[str, Any]) -> bool:
        language = row.get("language")
        try:
            ids[row["text"]] = encode_prompt(tokenizer, row["text"], system=system)
        except BadInputError as error:
            about = {"row_id": "/".join(filter(None, (row["prompt_id"], language))), "language": language}
            rejected.append(about | {"reason": "not_encodable", "detail": error.where})
            return False
        return True

    dominant = [row for row in prompts.dominant if encodes(row)]
    known = {row["prompt_id"] for row in dominant}
    mirrored = [row for row in prompts.translated if row["role"] == "prompt" and row["prompt_id"] in known]
    return ids, EditedPrompts(dominant, [row for row in mirrored if encodes(row)]), rejected


def _texts(prompts: EditedPrompts) -> tuple[list[str], _Order]:
    """Returns every text to measure, and which of them belong together."""
    place = {row["prompt_id"]: at for at, row in enumerate(prompts.dominant)}
    kind = {row["prompt_id"]: row["kind"] for row in prompts.dominant}
    rows = [*prompts.dominant, *prompts.translated]
    of_kind = {
        name: [at for at, row in enumerate(rows) if kind[row["prompt_id"]] == name] for name in ("harmful", "harmless")
    }
    translated = [at for at in of_kind["harmful"] if at >= len(prompts.dominant)]
    order = _Order(translated, [place[rows[at]["prompt_id"]] for at in translated], **of_kind)
    for name, numbers in (("harmful prompts in target languages", translated), ("harmless prompts", order.harmless)):
        if len(numbers) < _FEWEST:
            raise BadInputError(
                f"an edit needs at least {_FEWEST} {name}, and there are {len(numbers)}",
                where="edit, prompts of the split `train`",
                fix="Give more prompts, or see the quarantine of the translations.",
            )
    return [row["text"] for row in rows], order


def _layers(count: int, settings: EditSettings) -> list[int]:
    """Returns the layers to edit, counted from 0."""
    chosen = sorted(set(settings.layers or range(1, count + 1)))
    require_layers(chosen, count, where="edit.layers")
    return [number - 1 for number in chosen]


def _places(folder: Path, mlps: list[Mlp], chosen: list[int]) -> list[_Matrix]:
    """Finds the matrices of the layers in the model's files."""
    known = matrices(folder)
    wanted = [(at, f"{mlps[at].name}.{part}.weight") for at in chosen for part in PROJECTIONS]
    if missing := [name for _, name in wanted if name not in known]:
        raise BadInputError(
            f"the weight files hold no matrix {missing[0]} of floating-point numbers",
            where=f"model {folder}",
            fix="Save the model with save_pretrained in float32, bfloat16 or float16, without quantisation.",
        )
    return [_Matrix(at, name, known[name]) for at, name in wanted]


def _of_layer(folder: Path, places: list[_Matrix], inputs: Inputs, settings: EditSettings) -> Iterator[_Figures]:
    for place in places:
        dtype, mapped = _DTYPES[place.place.dtype], place.place.open(folder)
        # A copy: torch wants memory that can be written.
        weights = torch.from_numpy(np.array(mapped)).view(dtype).to(inputs.harmful.device, torch.float64).T  # [D, I]
        rows = select_neurons(
            inputs.harmful @ weights,
            inputs.harmless @ weights,
            min_z_score=settings.min_z_score,
            min_effect=settings.min_effect,
        )
        row = {"layer": place.layer + 1, "matrix": place.name, "neurons": weights.shape[1], "edited": len(rows)}
        if not len(rows):
            yield _Figures(place.name, None, row | {"change": 0.0, "remaining": 1.0, "harmless": 0.0})
            continue
        before = weights[:, rows]
        change = solve(
            inputs, before, rank=settings.rank, harmless_weight=settings.harmless_weight, ridge=settings.ridge
        )
        size = float(change.norm() / weights.norm())
        if not size <= settings.max_change:  # NaN is too large as well
            raise BadInputError(
                f"the edit would change the matrix by {size:.2f} of its norm (in {len(rows)} of its "
                f"{weights.shape[1]} neurons), at most {settings.max_change:g} is allowed",
                where=f"edit.max_change, {place.name}",
                fix="Raise edit.ridge or edit.harmless_weight, give more prompts, or name other layers (edit.layers).",
            )
        after = (before + change).T.to(dtype).contiguous().cpu()
        numbers = rows.cpu().numpy()
        flipped = change_of(numbers, np.array(mapped[numbers]), after.view(torch.uint8).numpy())
        yield _Figures(place.name, flipped, row | {"change": size} | _effects(inputs, before, change))


def _effects(inputs: Inputs, weights: Tensor, change: Tensor) -> dict[str, float]:
    """Returns how much of the distance to the dominant language remains, and how far harmless activations moved."""
    lacking = (inputs.dominant - inputs.translated) @ weights
    moved = inputs.harmless @ change
    return {
        "remaining": _ratio(lacking - inputs.translated @ change, lacking),
        "harmless": _ratio(moved, inputs.harmless @ weights),
    }


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part.norm() / whole.norm().clamp(min=1e-30))

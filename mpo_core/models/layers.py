"""What a model's config says of its layers, so that settings that name some can be checked without the weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mpo_core.contract.errors import BadInputError
from mpo_core.models.fit import check_config
from mpo_core.models.folder import check_folder
from mpo_core.settings import ModelSettings


def described(folder: Path, settings: ModelSettings) -> Any:
    """Returns the model that config.json describes, on the meta device, where weights take no memory.

    Raises:
        BadInputError: config.json describes no language model that can be used here.
    """
    return check_config(folder, settings, check_folder(folder))


def require_layers(numbers: Iterable[int], count: int, *, where: str) -> None:
    """Requires that a model has the layers that settings name.

    Raises:
        BadInputError: it lacks one.
    """
    if beyond := [number for number in numbers if not 1 <= number <= count]:
        raise BadInputError(
            f"there is no layer {beyond[0]}; the model has {count}",
            where=where,
            fix=f"Name layers from 1 to {count}.",
        )

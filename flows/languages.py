"""Registering a language: its facts, and the event that starts its alignment."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect.events import emit_event
from pydantic import ValidationError

from mpo_core.contract.errors import BadInputError
from mpo_core.files.read import text_lines
from mpo_core.languages.known import LANGUAGES
from mpo_core.languages.tags import standard
from mpo_core.settings import DefinedLanguage
from mpo_core.settings.languages import check_code

REGISTERED = "mpo.language.registered"
_SCRIPT = 4
"""Letters of a script's code."""


def canonical(code: str) -> str:
    """Returns the code of a language that a user calls `SW`, `eng` or `English`: `sw`, `en`, `en`.

    A code that is not in the table is written as BCP-47 does: `FIL` becomes `fil`, `sr-latn-rs` becomes `sr-Latn-RS`.
    """
    tag = code.strip().replace("_", "-")
    for entry in LANGUAGES.values():
        others = {entry.code.lower(), entry.name.lower(), entry.engines.get("nllb", "").partition("_")[0]}
        if tag.lower() in others - {""}:
            return entry.code
    first, *rest = tag.split("-")
    sizes = {2: str.upper, _SCRIPT: str.title}  # a region, a script
    return "-".join([first.lower(), *(sizes.get(len(part), str.lower)(part) for part in rest)])


def require_target(code: str, script: str | None, dominant: str) -> None:
    """Rejects the dominant language as a target.

    Raises:
        BadInputError: it is the dominant language, or a regional variant of it.
    """
    dominant_script = LANGUAGES[dominant].script if dominant in LANGUAGES else None
    own_script = next(
        (part for part in code.split("-")[1:] if len(part) == _SCRIPT), script
    )  # en-Shaw is another target
    if canonical(code.partition("-")[0]) == canonical(dominant.partition("-")[0]) and own_script in {
        None,
        dominant_script,
    }:
        raise BadInputError(
            f"this is the dominant language ({dominant}), to which the others are aligned",
            where=f"languages add {code}",
            fix="Name another language; or give --dominant CODE if the runs below --root have another dominant one.",
        )


_RIGHT_TO_LEFT = {"Adlm", "Arab", "Aran", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa", "Yezi"}


def facts_of(
    code: str, options: dict[str, str | None], *, engines: Iterable[str] = (), refusals: Path | None = None
) -> DefinedLanguage:
    """Returns the facts of a language: those of the table, completed by those that the user gives.

    Args:
        code: its code; another code of a language of the table, such as `swh`, takes the facts from there.
        options: name, script and resource level as the user gives them; None takes the table's, or the default.
        engines: codes of translation engines, each as ENGINE=CODE.
        refusals: a text file of refusal phrases, one per line; blank lines and lines that begin with # are skipped.

    Raises:
        BadInputError: the language is not known and a fact is missing, or a fact is wrong.
    """
    try:
        check_code(code)
    except ValueError as error:
        raise BadInputError(
            f"mpo does not know the language {code!r}: it is {error}",
            where=f"languages add {code}",
            fix="Name a code of BCP 47, such as sw.",
        ) from None
    entry = next((known for known in LANGUAGES.values() if standard(known.code) == standard(code)), None)
    known: dict[str, Any] = {} if entry is None else DefinedLanguage.of(entry).model_dump()
    facts = known | {"code": code} | {name: value for name, value in options.items() if value is not None}
    missing = [f"--{name}" for name in ("name", "script") if name not in facts]
    if missing:
        raise BadInputError(
            f"mpo does not know the language {code!r}",
            where=f"languages add {code}",
            fix=f"Give {' '.join(missing)} too.",
        )
    facts["engines"] = facts.get("engines", {}) | dict(_engine_code(option, code) for option in engines)
    if refusals is not None:
        facts["refusals"] = _phrases(refusals)
    facts.setdefault("right_to_left", facts["script"] in _RIGHT_TO_LEFT)
    try:
        return DefinedLanguage(**facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        option = {"code": "", "engines": " --engine-code"}.get(name, f" --{name}")
        raise BadInputError(
            first["msg"].removeprefix("Value error, "),
            where=f"languages add {code}{option}",
            fix="See languages.defined in docs/settings.md.",
        ) from None


def _engine_code(option: str, code: str) -> tuple[str, str]:
    engine, equals, own = option.partition("=")
    if not equals:
        raise BadInputError(
            f"{option!r} is not ENGINE=CODE",
            where=f"languages add {code} --engine-code",
            fix="Write google=tl, for example.",
        )
    return engine.strip(), own.strip()


def _phrases(path: Path) -> list[str]:
    lines = (line.strip() for line in text_lines(path, fix="Name a text file of refusal phrases, one per line."))
    phrases = [line for line in lines if line and not line.startswith("#")]
    if not phrases:
        raise BadInputError("the file holds no refusal phrase", where=str(path), fix="Write one phrase per line.")
    return phrases


def tell_server(facts: DefinedLanguage, root: str) -> None:
    """Sends the event of a new language; at the end of the process Prefect waits until the server has it."""
    emit_event(
        REGISTERED,
        resource={"prefect.resource.id": f"mpo.language.{facts.code}", "prefect.resource.name": facts.name},
        payload={"language": facts.code, "root": root if "://" in root else str(Path(root).resolve())},
    )

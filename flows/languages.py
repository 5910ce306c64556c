"""Registering a language: its facts, and the event that starts its alignment."""

from pathlib import Path

from prefect.events import emit_event
from pydantic import ValidationError

from mpo_core.errors import BadInputError
from mpo_core.languages import LANGUAGES
from mpo_core.settings import DefinedLanguage

REGISTERED = "mpo.language.registered"
_SCRIPT = 4
"""Letters of a script's code."""


def canonical(code: str) -> str:
    """The table's code of a language named otherwise (`SW`, `eng`, `English`); else BCP-47 in its usual case."""
    named = code.strip().replace("_", "-")
    for entry in LANGUAGES.values():
        others = {entry.code.lower(), entry.name.lower(), entry.engines.get("nllb", "").partition("_")[0]}
        if named.lower() in others - {""}:
            return entry.code
    first, *rest = named.split("-")
    sizes = {2: str.upper, _SCRIPT: str.title}  # a region, a script
    return "-".join([first.lower(), *(sizes.get(len(part), str.lower)(part) for part in rest)])


def require_target(code: str, script: str | None, dominant: str) -> None:
    """Makes sure that a language can be aligned to the dominant one.

    Args:
        code: the language, in its canonical form.
        script: the script that is given for it, if one is.
        dominant: the dominant language, in its canonical form.

    Raises:
        BadInputError: it is the dominant language, or a regional variant of it.
    """
    of_dominant = LANGUAGES[dominant].script if dominant in LANGUAGES else None
    named = next((part for part in code.split("-")[1:] if len(part) == _SCRIPT), script)  # en-Shaw is another target
    if canonical(code.partition("-")[0]) == canonical(dominant.partition("-")[0]) and named in {None, of_dominant}:
        raise BadInputError(
            f"this is the dominant language ({dominant}), to which the others are aligned",
            where=f"languages add {code}",
            mend="Name another language, or give --dominant CODE if the runs of this root have another one.",
        )


def facts_of(code: str, given: dict[str, str | None]) -> DefinedLanguage:
    """What is known of a language, completed by what is given.

    Raises:
        BadInputError: it is not known and something is missing, or what is given is wrong.
    """
    known = LANGUAGES[code]._asdict() if code in LANGUAGES else {"code": code}
    known |= {name: value for name, value in given.items() if value is not None}
    missing = [f"--{name}" for name in given if name not in known]
    if missing:
        raise BadInputError(
            f"mpo does not know the language {code!r}",
            where=f"languages add {code}",
            mend=f"Give {' '.join(missing)} too.",
        )
    try:
        return DefinedLanguage(**{**known, "identified_as": list(known.get("identified_as", ()))})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        where = f"languages add {code}" + ("" if name == "code" else f" --{name}")
        raise BadInputError(first["msg"], where=where, mend="See languages.defined in docs/settings.md.") from None


def tell_server(facts: DefinedLanguage, root: str) -> None:
    """Sends the event; Prefect waits at the end of the process until the server has it."""
    emit_event(
        REGISTERED,
        resource={"prefect.resource.id": f"mpo.language.{facts.code}", "prefect.resource.name": facts.name},
        payload={"language": facts.code, "root": root if "://" in root else str(Path(root).resolve())},
    )

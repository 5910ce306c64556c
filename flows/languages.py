"""Registering a language: its facts, and the event that starts its alignment."""

from pathlib import Path

from prefect.events import emit_event
from pydantic import ValidationError

from mpo_core.errors import BadInputError
from mpo_core.languages import LANGUAGES
from mpo_core.settings import DefinedLanguage

REGISTERED = "mpo.language.registered"


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

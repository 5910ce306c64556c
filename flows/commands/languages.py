"""The commands `mpo languages`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.shared import (
    DEFAULT_ROOT,
    AsJson,
    LanguagesRoot,
    Root,
    console,
    know_registered,
    output,
    store_at,
    tell,
)
from flows.prefect_api import require_server, server
from flows.registered import define_registered
from mpo_core.languages.known import LANGUAGES

languages_app = typer.Typer(
    help="The languages that are known; `add` registers one to be aligned, and `remove` undoes that."
)


@languages_app.callback(invoke_without_command=True)
def languages_(context: typer.Context, root: LanguagesRoot = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """List the known languages: those that come with mpo, and those added with `mpo languages add`."""
    if context.invoked_subcommand is not None:
        return
    know_registered(root)
    if as_json:
        print(json.dumps([entry._asdict() for entry in LANGUAGES.values()]))
        return
    table = Table("code", "name", "script", "resource level", "translation engines that know it")
    for entry in LANGUAGES.values():
        table.add_row(entry.code, entry.name, entry.script, entry.resource, " ".join(entry.engines))
    output.print(table)
    output.print(
        "Engine openai=MODEL accepts every language; it is not checked whether the model knows it.", soft_wrap=True
    )


@languages_app.command("add")
def add_language(
    code: Annotated[str, typer.Argument(help="BCP-47 code, such as sw.")],
    name: Annotated[str | None, typer.Option(help="Its English name, where mpo does not know it.")] = None,
    script: Annotated[str | None, typer.Option(help="Its script in ISO 15924, such as Latn.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="How much text of it there is: high, medium or low. Default: low.")
    ] = None,
    refusals: Annotated[
        Path | None, typer.Option(help="Text file of phrases by which an answer declines, one per line.")
    ] = None,
    engine_code: Annotated[
        list[str] | None,
        typer.Option(help="A translation engine's own code for it, such as google=tl; may be repeated."),
    ] = None,
    who: Annotated[
        str, typer.Option(help="Name of the person who asks for it; it is stored.", envvar="USER")
    ] = "unknown",
    dominant: Annotated[
        str | None,
        typer.Option(help="The dominant language of the runs in --root. Default: the promoted version's, or en."),
    ] = None,
    root: Root = "artifacts",
    as_json: AsJson = False,
) -> None:
    """Register a language to be aligned; a Prefect server, if PREFECT_API_URL names one, then starts `realign`."""
    from flows.languages import canonical, facts_of, require_target, tell_server
    from mpo_core import registry
    from mpo_core.languages.identify import identifiable
    from mpo_core.languages.refusals import lexicon
    from mpo_core.settings import LanguageSettings

    store = store_at(root)
    define_registered(root)
    promoted = registry.promoted(store)
    known = None if promoted is None else promoted.entry.dominant
    code = canonical(code)
    require_target(code, script, canonical(dominant or known or LanguageSettings().dominant))
    options = {"name": name, "script": script, "resource": resource}
    facts = facts_of(code, options, engines=engine_code or (), refusals=refusals)
    require_server()  # before registering: the server gets the event of a new language alone
    new = registry.add_language(store_at(root, writes=True), facts, who=who)
    facts.define()
    notified = server() is not None and new
    if notified:
        tell_server(facts, root)
    result: dict[str, str | bool | int] = {
        "language": facts.code,
        "registered": "now" if new else "before",
        "server_notified": notified,
    }
    if promoted is not None and facts.code in promoted.entry.targets:
        result["covered_by"] = promoted.version
    phrases = lexicon(facts.code)
    if phrases is None:
        result["refusal_phrases"] = 0
    if not identifiable(facts.code):
        result["identified_by"] = "script alone"
    tell(result, as_json)
    if phrases is None and not as_json:
        console.print(
            f"The judge refusal_rules needs refusal phrases in {facts.name} before a run: "
            f"mpo languages add {facts.code} --refusals FILE",
            soft_wrap=True,
        )


@languages_app.command("remove")
def remove_language(
    code: Annotated[str, typer.Argument(help="Code of a registered language, such as sw.")],
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Remove the registration of a language: `realign` no longer adds it to the targets of the settings."""
    from flows.languages import canonical
    from mpo_core import registry

    store = store_at(root)
    # A registration that contradicts the table can be removed too, so the registered languages are not made known here.
    codes = {entry.facts.code for entry in registry.registered_languages(store)}
    code = code if code in codes else canonical(code)
    promoted = registry.promoted(store)
    registry.remove_language(store_at(root, writes=True) if code in codes else store, code)
    covered = promoted is not None and code in promoted.entry.targets
    tell({"removed": code, **({"still_covered_by": promoted.version} if promoted and covered else {})}, as_json)
    if covered and not as_json:
        console.print(
            f"The promoted version was aligned in {code} and stays as it is. A later version without {code} is "
            "promoted only with the setting gate.allow_fewer_languages.",
            soft_wrap=True,
        )

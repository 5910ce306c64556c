"""Finds the implementations of an extension point, in this repository and in other packages.

An implementation is a class in a file of its own: its fields are its settings, its methods do the work. The settings
of a stage are the union of the implementations' classes, so profiles, `--help`, the form in Prefect's UI and
docs/settings.md know an implementation as soon as its file is there.
"""

import functools
import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar, Union, get_args

from pydantic import BeforeValidator, Discriminator, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.settings import Settings

S = TypeVar("S", bound=Settings)
FOREIGN = "foreign_setting"
"""Type of pydantic's error about a setting of another implementation; its context names both."""


class _AnyOf:
    """Describes a union in JSON schema by `anyOf`, with the bare names of its members.

    Prefect checks the parameters of a deployment and of a run by this schema. Where settings may leave the name to a
    default, no member requires its name; `oneOf` would then reject them as valid under every member.
    """

    def __init__(self, optional: str | None, names: tuple[str, ...]) -> None:
        self.optional, self.names = optional, names

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        members = schema.get("oneOf") or [schema]
        for member in members:
            definition = handler.resolve_ref_schema(member)
            definition["required"] = [name for name in definition.get("required", []) if name != self.optional]
        return {"anyOf": [*members, {"type": "string", "enum": list(self.names)}]}


class ExtensionPoint(Generic[S]):
    """A kind of part that can be added with one new file.

    Args:
        base: the class that implementations derive from.
        tag: the field that holds an implementation's name, declared in each as `tag: Literal["name"]`.
        package: the package of this repository whose modules hold one implementation each.
        group: the entry-point group in which other packages name their classes, such as `mpo.judges`.
    """

    def __init__(self, base: type[S], *, tag: str, package: str, group: str) -> None:
        self.base, self.tag, self.package, self.group = base, tag, package, group

    @functools.cached_property
    def implementations(self) -> dict[str, type[S]]:
        """The implementations' classes by name, those of this repository first.

        Raises:
            BadInputError: another package's class cannot be loaded, is not an implementation, or has a name in use.
        """
        classes: dict[str, type[S]] = {}
        for implementation, where in [*self._own(), *map(self._loaded, entry_points(group=self.group))]:
            name = self._name(implementation, where)
            if name in classes:
                raise BadInputError(f"the name {name!r} is already in use", where=where, fix="Choose another name.")
            classes[name] = implementation
        return classes

    def union(self, *, default: str | None = None) -> Any:
        """Returns the type of a setting that takes an implementation by name or with settings, else the `default`."""
        members: Any = Union[tuple(self.implementations.values())]  # noqa: UP007 - the members are known at run time

        def named(value: Any) -> Any:
            if isinstance(value, str):
                value = {self.tag: value}
            if isinstance(value, dict):
                value = value if default is None else {self.tag: default, **value}
                self._refuse_unknown(value)
                self._refuse_foreign(value)
            return value

        described = _AnyOf(None if default is None else self.tag, tuple(self.implementations))
        return Annotated[members, Discriminator(self.tag), BeforeValidator(named), described]

    def _refuse_unknown(self, value: dict[str, Any]) -> None:
        name = value.get(self.tag)
        if isinstance(name, str) and name not in self.implementations:
            raise ValueError(f"{self.tag} {name[:60]!r} is not known; known: {', '.join(self.implementations)}")

    def _refuse_foreign(self, value: dict[str, Any]) -> None:
        """Refuses a setting that is not of the implementation that `value` names, but of another one."""
        name = str(value.get(self.tag))
        own = self.implementations.get(name)
        for setting in () if own is None else value.keys() - own.model_fields.keys():
            owners = [other for other, member in self.implementations.items() if setting in member.model_fields]
            if owners:
                about = {"setting": setting, "owners": ", ".join(owners), "name": name, "tag": self.tag}
                raise PydanticCustomError(FOREIGN, "`{setting}` is a setting of {owners}, not of {name}", about)

    def parse(self, value: dict[str, Any]) -> S:
        """Returns the implementation that `value` names, with its settings.

        Raises:
            pydantic.ValidationError: no implementation has this name, or a setting is not one of its own.
        """
        parsed: S = self._adapter.validate_python(value)
        return parsed

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[S]:
        return TypeAdapter(self.union())

    def _own(self) -> list[tuple[type[S], str]]:
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__, f"{self.package}.")
        contents = [(value, name) for _, name, _ in modules for value in vars(importlib.import_module(name)).values()]
        return [
            (value, where)
            for value, where in contents
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == where
            if not value.__name__.startswith("_")
        ]

    def _loaded(self, entry: EntryPoint) -> tuple[type[S], str]:
        where = f"entry point {entry.name} = {entry.value} ({self.group})"
        try:
            implementation = entry.load()
        except Exception as error:  # whatever another package raises while it is imported
            raise BadInputError(
                f"the class cannot be loaded ({type(error).__name__}: {error})",
                where=where,
                fix="Repair or remove its package.",
            ) from error
        if not (isinstance(implementation, type) and issubclass(implementation, self.base)):
            raise BadInputError(
                f"the class is not a subclass of {self.base.__name__}", where=where, fix="See CONTRIBUTING.md."
            )
        return implementation, where

    def _name(self, implementation: type[S], where: str) -> str:
        field = implementation.model_fields.get(self.tag)
        names = () if field is None or not field.is_required() else get_args(field.annotation)
        if len(names) != 1 or not isinstance(names[0], str):
            raise BadInputError(
                f"{implementation.__name__} does not declare a field `{self.tag}: Literal[NAME]` that has no default",
                where=where,
                fix="See CONTRIBUTING.md.",
            )
        return names[0]

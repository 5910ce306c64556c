"""Reads the user's YAML within limits: text that is malformed, too deep or too large is reported with its line."""

import contextlib
import re
from typing import Any

import yaml

from mpo_core.contract.errors import shortened

LARGEST_FILE = 1 << 18  # bytes; PyYAML needs some seconds for these
_DEEPEST = 50
_MOST_VALUES = 100_000
_LARGEST_INTEGER = 2**63 - 1
_UNRESOLVED = {"bool", "int", "float", "timestamp", "value"}  # types that YAML 1.1 recognises differently


class YamlError(ValueError):
    """A text is not YAML, or is YAML that is not accepted here.

    `line` counts from 1.
    """

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


class _Loader(yaml.SafeLoader):
    """A loader of plain values only: numbers, texts, true, false, null, lists and mappings.

    As in YAML 1.2 and unlike YAML 1.1, `1e-4` is a number, and `no` (Norwegian), `12:30`, `007` and dates are texts:
    YAML 1.1 reads them as false, 750, 7 and a date, and a setting such as `where` would search for other values.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composes a node, which must not be nested too deep and must not have a tag."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth > _DEEPEST:
            raise _RefusedError(f"lists and mappings are nested more than {_DEEPEST} levels deep", event)
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(f"the tag {shortened(event.tag)!r} is not accepted", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Adds the entries of merged mappings (`<<`), each key once, since nested merges would double at each level."""
        super().flatten_mapping(node)
        entries = {(key.tag, key.value): (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        others = [(key, value) for key, value in node.value if not isinstance(key, yaml.ScalarNode)]
        node.value = [*entries.values(), *others]


class _RefusedError(yaml.MarkedYAMLError):
    """A part of a YAML text that is valid YAML, and is not accepted here."""

    def __init__(self, problem: str, place: Any) -> None:
        super().__init__(problem=problem, problem_mark=place.start_mark)


class _RepeatedKeyError(_RefusedError):
    """A mapping that names a key twice; plain YAML readers let the last one win."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Constructs a mapping whose keys are plain values, each named once."""
    known = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _RefusedError("a key is a list or a mapping", key)
        value = "<<" if key.tag == "tag:yaml.org,2002:merge" else loader.construct_object(key)
        if value in known:
            raise _RepeatedKeyError(f"the key {shortened(str(key.value))!r} occurs twice", key)
        known.add(value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _integer(_: _Loader, node: yaml.ScalarNode) -> int:
    number = None
    with contextlib.suppress(ValueError):  # Python cannot read integers of more than 4,300 digits
        number = int(node.value.replace("_", ""), 16 if "x" in node.value else 10)
    if number is None or abs(number) > _LARGEST_INTEGER:
        raise _RefusedError(f"an integer of {len(node.value):,} characters is too large", node)
    return number


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in _UNRESOLVED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^([-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(0|[1-9][0-9_]*)(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """Reads a YAML text of plain values.

    Raises:
        YamlError: it is not YAML, repeats a key, or is too deep or too large.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise YamlError(f"the character U+{int(error.character):04X} is not allowed in YAML", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = shortened(str(error.problem or error.context))
        if not isinstance(error, _RefusedError):
            problem = f"this is not YAML ({problem})"
        elif not isinstance(error, _RepeatedKeyError):
            problem = f"this YAML is not accepted here ({problem})"
        raise YamlError(problem, None if mark is None else mark.line + 1) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise YamlError(f"this is not YAML ({type(error).__name__})", None) from None
    _require_plain(data)
    return data


def _require_plain(data: Any) -> None:
    """Checks that every text can be stored, and that there are not too many values, which aliases can multiply."""
    waiting, count = [data], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            raise YamlError("a text holds a NUL or half of a surrogate pair", None)
        if isinstance(value, dict | list):
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
            count += len(value)
        if count > _MOST_VALUES:
            raise YamlError(
                f"the file holds more than {_MOST_VALUES:,} values, counting those that aliases repeat", None
            )

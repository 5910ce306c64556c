"""Credentials inside URLs: hidden wherever a URL is shown."""

import re

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/{2,}")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]*\]|[^\s/?#@:'\"]*)(?::\d*)?(?=[/?#\s'\",;)]|$|\.(?:\s|$))")
"""A host with its port, and nothing before it."""
_PARAMETER = re.compile(
    r"(?<=[?&;])([\w.\-]*(?:key|token|secret|pass|pwd|auth|sig|credential)[\w.\-]*)=[^&#\s'\"]*", re.IGNORECASE
)


def redact(text: str) -> str:
    """Returns the text with the user information of every URL removed, and keys in URL queries replaced by `…`."""
    if "://" not in text:
        return text
    starts = [*_SCHEME.finditer(text)]
    parts = [text[: starts[0].end()]] if starts else [text]
    for number, start in enumerate(starts):
        end = starts[number + 1].end() if number + 1 < len(starts) else len(text)
        parts.append(_without_user(text[start.end() : end]))
    return _PARAMETER.sub(r"\1=…", "".join(parts))


def has_password(url: str) -> bool:
    """Returns whether a URL names a user with a password, as in `scheme://user:password@host`."""
    return re.search(r"://[^\s/?#]*:[^\s/?#]*@", url) is not None


def _without_user(rest: str) -> str:
    """Removes `user:password@` from what follows `scheme://`; a password may hold characters that no URL allows."""
    if _HOST.match(rest):
        return rest
    authority = re.split(r"[/?#\s'\"]", rest, maxsplit=1)[0]
    if "@" in authority:
        return rest[authority.rindex("@") + 1 :]
    return rest[rest.rindex("@") + 1 :] if "@" in rest else rest

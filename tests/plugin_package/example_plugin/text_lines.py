"""Prompts from a text file with one request per line."""

import hashlib
from pathlib import Path
from typing import Literal

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.prompts import Kind, Prompt, PromptSource, RejectedRow


class TextLines(PromptSource):
    """A text file with one request per line."""

    source: Literal["text_lines"]
    """`text_lines`."""
    path: str
    """Path of the file."""
    kind: Kind
    """Kind of every request."""

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name

    def prompts(self, *, dominant: str, seed: int, key: str) -> list[Prompt | RejectedRow]:
        """Returns a prompt per line, and rejects empty lines."""
        lines = self._content(key).decode().splitlines()
        return [
            Prompt(row, text, self.kind) if text.strip() else RejectedRow(row, "empty_text", f"line {row + 1} is empty")
            for row, text in enumerate(lines)
        ]

    def digest(self) -> str:
        """Returns the digest of the content."""
        return f"text_lines:{hashlib.sha256(self._content('prompts.sources')).hexdigest()}"

    def _content(self, key: str) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise BadInputError(f"cannot be read ({error.strerror})", where=self.path, fix=f"Check {key}.") from None

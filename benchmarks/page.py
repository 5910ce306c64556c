"""Replaces measured blocks of the documentation, each between marks that name the command."""

from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def block_of(page: str, name: str) -> str:
    """Returns the text of a block of a page in docs/, without its marks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text[text.index("-->", text.index(f"<!-- {name}: written by ")) + 3 : text.index(f"<!-- end {name} -->")]


def put(page: str, name: str, command: str, block: str) -> None:
    """Replaces a block of a page in docs/.

    Args:
        page: file name.
        name: name of the block, as in both marks.
        command: the command that writes the block, for the opening mark.
        block: the new text, in markdown.
    """
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    before, rest = text[: text.index(f"<!-- {name}: written by ")], text[text.index(f"<!-- end {name} -->") :]
    path.write_text(f"{before}<!-- {name}: written by `{command}` -->\n\n{block}\n\n{rest}", encoding="utf-8")

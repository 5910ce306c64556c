"""Makes an engine of a machine translator: splits texts, masks protected items, saves answers and uses them again."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mpo_core.contract.translation import Backend, EngineDownError, Reply, UnknownLanguageError
from mpo_core.translation.layout import Layout, take_apart
from mpo_core.translation.replies import Direction, Replies


class Load(NamedTuple):
    """An estimate for some texts: requests and characters to send, and the number of pieces with a saved answer."""

    requests: int
    characters: int
    known: int


class MachineEngine:
    """A machine translator as an engine: whole texts go in, and its backend translates their pieces.

    `on_reply` is called at every new answer, `before` before the backend translates anything; either may raise.
    """

    masks = True

    def __init__(
        self, backend: Backend, replies: Replies, on_reply: Callable[[], None], before: Callable[[], None]
    ) -> None:
        self._backend, self._replies, self._on_reply, self._before = backend, replies, on_reply, before

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._backend.name

    @property
    def licence(self) -> str | None:
        """Licence of its answers; None where the backend names none."""
        return getattr(self._backend, "licence", None)

    def check(self, source: str, target: str) -> None:
        """Checks that the backend translates from the source language into the target language."""
        self._pair(source, target)

    def _pair(self, source: str, target: str) -> tuple[str, str]:
        codes = []
        for code in (source, target):
            own = self._backend.code(code)
            if own is None:
                raise UnknownLanguageError(
                    f"the engine {self.name} does not know the language {code!r}",
                    where="translation.engines",
                    fix="Name another engine; `mpo languages` lists the engines for each language.",
                )
            codes.append(own)
        self._backend.check(*codes)
        return codes[0], codes[1]

    def load(self, texts: Sequence[str], source: str, target: str) -> Load:
        """Estimates the requests that translating these texts would need; pieces with a saved answer need none."""
        pieces = _pieces(self._layouts(texts))
        known = self._replies.find(self._direction(source, target), pieces)
        missing = [piece for piece in pieces if piece not in known]
        return Load(len(missing), sum(map(len, missing)), len(known))

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """Translates texts, with one reply per text in their order; equal pieces are sent once."""
        own = self._pair(source, target)
        direction = self._direction(source, target)
        layouts = self._layouts(texts)
        pieces = _pieces(layouts)
        replies = {piece: Reply(text) for piece, text in self._replies.find(direction, pieces).items()}
        missing = [piece for piece in pieces if piece not in replies]

        def keep(piece: str, text: str) -> None:
            self._replies.save(direction, piece, text)
            self._on_reply()

        if missing:
            self._before()
        try:
            replies |= self._backend.translate(missing, *own, keep) if missing else {}
        except EngineDownError as error:
            replies |= error.replies
            whole = {text: _whole(layout, replies) for text, layout in zip(texts, layouts, strict=True)}
            raise EngineDownError(self.name, error.reason, whole, error.refusal) from None
        return [_whole(layout, replies) for layout in layouts]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Saves whether the gates rejected the translations of these texts, beside the saved translations."""
        self._replies.judge(self._direction(source, target), _pieces(self._layouts(texts)), refused=refused)

    def _layouts(self, texts: Sequence[str]) -> list[Layout]:
        # A model that was trained on sentences gets each sentence as a piece of its own.
        sentences = getattr(self._backend, "sentences", False)
        return [take_apart(text, self._backend.limit, sentences=sentences) for text in texts]

    def _direction(self, source: str, target: str) -> Direction:
        return Direction(self._backend.identity, source, target)


def _pieces(layouts: Iterable[Layout]) -> list[str]:
    return list(dict.fromkeys(piece.text for layout in layouts for piece in layout.pieces))


def _whole(layout: Layout, replies: dict[str, Reply]) -> Reply:
    known = {piece.text: replies[piece.text] for piece in layout.pieces}
    reason = next((reply.reason for reply in known.values() if reply.text is None), None)
    if reason is not None:
        return Reply(None, reason)
    return Reply(layout.rebuilt({piece: reply.text or "" for piece, reply in known.items()}))

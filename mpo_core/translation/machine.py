"""An engine made of a machine translator: text taken apart, items masked, every answer kept and used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mpo_core.contract.translation import Backend, EngineDownError, Reply, UnknownLanguageError
from mpo_core.translation.layout import Layout, take_apart
from mpo_core.translation.replies import Direction, Replies


class Load(NamedTuple):
    """What translating some texts would ask of an engine."""

    requests: int
    characters: int
    known: int


class MachineEngine:
    """A backend behind the engines' protocol.

    Args:
        backend: the translator.
        replies: where its answers are kept.
        on_reply: called at every new answer; may raise to end the work.
    """

    masks = True

    def __init__(self, backend: Backend, replies: Replies, on_reply: Callable[[], None]) -> None:
        self._backend, self._replies, self._on_reply = backend, replies, on_reply

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._backend.name

    @property
    def licence(self) -> str | None:
        """Licence of its answers, where it has one to tell."""
        return getattr(self._backend, "licence", None)

    def check(self, source: str, target: str) -> None:
        """Passes if the backend knows both languages and goes this way.

        Raises:
            UnknownLanguageError: it does not.
        """
        self._pair(source, target)

    def _pair(self, source: str, target: str) -> tuple[str, str]:
        codes = []
        for code in (source, target):
            own = self._backend.code(code)
            if own is None:
                raise UnknownLanguageError(
                    f"the engine {self.name} does not know the language {code!r}",
                    where="translation.engines",
                    fix="Name another engine; `mpo languages` lists who knows what.",
                )
            codes.append(own)
        self._backend.check(*codes)
        return codes[0], codes[1]

    def load(self, texts: Sequence[str], source: str, target: str) -> Load:
        """What would be asked for these texts: pieces that are not kept yet."""
        pieces = _pieces(self._layouts(texts))
        known = self._replies.find(self._direction(source, target), pieces)
        missing = [piece for piece in pieces if piece not in known]
        return Load(len(missing), sum(map(len, missing)), len(known))

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Reply]:
        """One reply per text, in order; equal pieces are asked for once.

        Raises:
            EngineDownError: the backend is down; with the replies until then.
            BadInputError: as the backend's.
        """
        own = self._pair(source, target)
        direction = self._direction(source, target)
        layouts = self._layouts(texts)
        pieces = _pieces(layouts)
        replies = {piece: Reply(text) for piece, text in self._replies.find(direction, pieces).items()}
        missing = [piece for piece in pieces if piece not in replies]

        def keep(piece: str, text: str) -> None:
            self._replies.keep(direction, piece, text)
            self._on_reply()

        try:
            replies |= self._backend.translate(missing, *own, keep) if missing else {}
        except EngineDownError as error:
            replies |= error.replies
            whole = {text: _whole(layout, replies) for text, layout in zip(texts, layouts, strict=True)}
            raise EngineDownError(self.name, error.reason, whole, error.refusal) from None
        return [_whole(layout, replies) for layout in layouts]

    def judge(self, texts: Sequence[str], source: str, target: str, *, refused: bool) -> None:
        """Notes what became of the translations of these texts."""
        self._replies.judge(self._direction(source, target), _pieces(self._layouts(texts)), refused=refused)

    def _layouts(self, texts: Sequence[str]) -> list[Layout]:
        # Backends of models that were trained on sentences say so.
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

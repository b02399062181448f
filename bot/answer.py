"""What the engine's events add up to: the answer's text and its files."""

from __future__ import annotations

from bot.domain import FileProduced, RunRef, Text, TextDelta


class Answer:
    """Messages of one run in the order they began, under the notices of the turn."""

    def __init__(self, notices: tuple[str, ...] = ()) -> None:
        self.notices = notices
        self.files: list[FileProduced] = []
        self._run: RunRef | None = None
        self._messages: dict[str, str] = {}

    def begin(self, run: RunRef) -> None:
        """Another run of the same turn starts over; the same run goes on."""
        if run != self._run:
            self._run = run
            self._messages.clear()
            self.files.clear()

    def add(self, event: TextDelta | Text | FileProduced) -> None:
        match event:
            case TextDelta(message, text):
                self._messages[message] = self._messages.get(message, "") + text
            case Text(message, text):
                self._messages[message] = text
            case FileProduced():
                if all(file.id != event.id for file in self.files):
                    self.files.append(event)

    @property
    def said(self) -> str:
        """What the assistant said, without notices."""
        if len(self._messages) == 1:
            return next(iter(self._messages.values()))
        return "\n\n".join(text for text in self._messages.values() if text)

    @property
    def text(self) -> str:
        """What people see: empty until the assistant says something."""
        said = self.said
        return "\n\n".join((*self.notices, said)) if self.notices and said else said

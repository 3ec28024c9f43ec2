"""The newest tick of a training, held by an actor: its process must not need torch, so neither does this module."""

from __future__ import annotations

Fields = tuple[str, int, int, float, float]


class LatestProgress:
    """The worker puts, the driver gets."""

    def __init__(self) -> None:
        self.fields: Fields | None = None

    def put(self, fields: Fields) -> None:
        """Keep the newest."""
        self.fields = fields

    def get(self) -> Fields | None:
        """The newest, or None before the first."""
        return self.fields

"""What the stack says of itself: the record that ``up`` writes, the answer of ``status`` and of ``down``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from adjobs.config.settings import stack_file
from adjobs.errors import StackError
from adjobs.stack.credentials import write_private

_VERSION = 1


@dataclass(frozen=True)
class ServiceRecord:
    """A service that was started."""

    pid: int
    port: int
    url: str
    log: str


@dataclass(frozen=True)
class StackState:
    """A stack that was started, as it is kept in :func:`adjobs.config.settings.stack_file`.

    Attributes:
        id: by which its processes are found.
        port_base: first port of its block.
        environment: variables that a client process needs, secrets among them.
        services: by name, in the order in which they are shown.
    """

    id: str
    port_base: int
    environment: dict[str, str]
    services: dict[str, ServiceRecord]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """From :meth:`to_dict`; KeyError or TypeError if it is something else."""
        services = {name: ServiceRecord(**record) for name, record in state["services"].items()}
        return cls(state["id"], state["port_base"], state["environment"], services)

    def write(self, home: Path) -> None:
        """Keep it for clients and for later calls; only this user can read it.

        Raises:
            StackError: the disk refuses.
        """
        write_private(stack_file(home), json.dumps(self.to_dict(), indent=1))

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The stack that was started last; None when it was stopped or the file is damaged: processes are found without it.

        Raises:
            StackError: the file cannot be read.
        """
        path = stack_file(home)
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
            return None
        except OSError as error:
            raise StackError(f"{path}: cannot be read ({error.strerror}); correct its owner") from error


@dataclass(frozen=True)
class ServiceStatus:
    """A service now.

    Attributes:
        running: whether its process runs.
        answers: whether it runs and answers a client.
        memory: bytes of its process and of all below it; None when it does not run.
        uptime: seconds; None when it does not run.
    """

    running: bool
    answers: bool
    pid: int
    port: int
    url: str
    log: str
    memory: int | None
    uptime: float | None


@dataclass(frozen=True)
class StackStatus:
    """The stack now.

    Attributes:
        running: whether all services run and answer.
        port_base: first port of its block; None when it was never started, or stopped.
        services: by name.
    """

    running: bool
    port_base: int | None
    services: dict[str, ServiceStatus]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class StopResult:
    """What ``down`` did.

    Attributes:
        stopped: number of processes that ran.
    """

    stopped: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"running": False, "stopped": self.stopped}

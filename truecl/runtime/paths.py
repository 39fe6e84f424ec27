"""Where a node's files are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Where everything is. Each can be moved by an environment variable, TRUECL_ETC and so on, for tests and labs."""

    etc: Path = Path("/etc/truecl")
    run: Path = Path("/run/truecl")
    state: Path = Path("/var/lib/truecl")
    log: Path = Path("/var/log/truecl")

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "Paths":
        default = cls()
        return cls(
            *(
                Path(environment.get(f"TRUECL_{name.upper()}", getattr(default, name)))
                for name in ("etc", "run", "state", "log")
            )
        )

"""How a fence agent is asked (fence-agents' interface): a program without arguments, `key=value` lines on its input."""

import shutil
from pathlib import Path

from truecl.drivers.contract import SYSTEM_PATH, StepFailed
from truecl.model.config import FenceConfig


def agent(config: FenceConfig) -> tuple[str, ...]:
    """The agent's absolute path. Raises StepFailed if there is no such program."""
    found = shutil.which(config.agent, path=SYSTEM_PATH)
    if found is None:
        where = "" if config.agent.startswith("/") else f" in {SYSTEM_PATH}"
        raise StepFailed(f"fence agent {config.agent} is missing{where}, or not executable; install fence-agents")
    if not Path(found).is_absolute():
        raise StepFailed(f"fence agent {config.agent}: a name or an absolute path is needed")
    return (found,)


def request(config: FenceConfig, secrets: dict[str, str], action: str) -> bytes:
    """What the agent reads. Raises StepFailed for a parameter that would be read as something else."""
    lines = []
    for key, value in sorted((config.parameters | secrets).items()):
        if key in ("action", "option"):
            raise StepFailed(f"fence parameter {key!r} is not for the configuration to set")
        if not key or any(c in key for c in "=\n\0") or any(c in value for c in "\n\0"):
            raise StepFailed(f"fence parameter {key!r} cannot be passed to an agent")
        lines.append(f"{key}={value}\n")
    return "".join([*lines, f"action={action}\n"]).encode()

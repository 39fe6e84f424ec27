"""Is an application still as lha_buildapp found it? What lha_startapp and lha_moveapp ask before they begin.

Failover never asks that: what ran goes on running.
"""

import hashlib
from typing import Any

import msgspec

from truecl.model.build import Seen
from truecl.model.config import AppConfig, Replication
from truecl.model.ids import NodeName
from truecl.model.ledger import Build

PARTS = ("nodes", "volumes", "filesystems", "addresses", "programs", "replication")
"""Of an application's file: what its nodes must be ready for. Its times and `autostart` are not."""
_PART = "configuration "
_SCHEDULE = ("verify", "verify_between")
"""Of `replication`: when copies are compared, which nothing has to be ready for."""
_PLAIN = Replication()


def parts(app: AppConfig) -> dict[str, str]:
    """Each part's own digest, as facts."""
    values = {name: getattr(app, name) for name in PARTS}
    values["replication"] = msgspec.structs.replace(app.replication, **{key: getattr(_PLAIN, key) for key in _SCHEDULE})
    encoded = {name: msgspec.json.encode(_said(value), order="deterministic") for name, value in values.items()}
    return {_PART + name: hashlib.sha256(value).hexdigest()[:16] for name, value in encoded.items()}


def _said(value: Any) -> Any:
    """Only what the file says otherwise than by default: a release that knows more keys finds nothing changed."""
    if isinstance(value, msgspec.Struct):
        empty = type(value).__struct_defaults__
        required = len(value.__struct_fields__) - len(empty)
        defaults = dict(zip(value.__struct_fields__[required:], empty, strict=True))
        found = {name: getattr(value, name) for name in value.__struct_fields__}
        said = {name: _said(each) for name, each in found.items() if name not in defaults or each != defaults[name]}
        return {type(value).__name__: said}
    return [_said(each) for each in value] if isinstance(value, tuple) else value


def digest(app: AppConfig) -> str:
    return hashlib.sha256("".join(parts(app).values()).encode()).hexdigest()


def changed_parts(app: AppConfig, build: Build) -> tuple[str, ...]:
    """Of its configuration since then."""
    if digest(app) == build.digest:
        return ()
    return tuple(name.removeprefix(_PART) for name, value in parts(app).items() if build.facts.get(name) != value)


def validated(app: AppConfig, build: Build | None) -> bool:
    """As far as the configuration tells."""
    return build is not None and digest(app) == build.digest


def scripts(build: Build) -> dict[str, str]:
    return {name: value for name, value in build.facts.items() if name.startswith("script ")}


def changed_scripts(build: Build, seen: dict[NodeName, Seen]) -> tuple[str, ...]:
    """Sentences. A node that does not say is not held against it: it would be found when it starts there."""
    found = []
    for name, value in sorted(scripts(build).items()):
        nodes = [node for node, each in seen.items() if each.facts and each.facts.get(name) != value]
        if nodes:
            found.append(f"{name} on {', '.join(nodes)}")
    return tuple(found)


def refusal(app: AppConfig, build: Build | None, seen: dict[NodeName, Seen]) -> str:
    """Why an operator's start is refused; '' if it is not."""
    helps = f"lha_buildapp -A {app.name}"
    if build is None:
        return f"application '{app.name}' is not validated: {helps} checks its nodes"
    changed = [*(f"'{each}' in its file" for each in changed_parts(app, build)), *changed_scripts(build, seen)]
    if changed:
        return f"application '{app.name}' changed since it was validated: {', '.join(changed)}; {helps} checks it again"
    return ""

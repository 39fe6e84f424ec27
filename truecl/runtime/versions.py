"""The versions of the configuration on one node's disk: the files in force, the staged one, the former ones.

    ETC/cluster.yaml, ETC/apps/*.yaml     in force
    STATE/staged/cluster.yaml …           what is to come
    STATE/activating                      the digest whose files are being put in force: an activation that a crash
                                          cut short is finished at the next start
    STATE/former/DIGEST/…                 what was in force before, the latest KEPT of them

Each file is replaced by a rename, so that a reader sees the old or the new one whole.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from truecl.config.cluster import FILE
from truecl.config.reader import digest as digest_of
from truecl.config.reader import read
from truecl.core.versions import ActivatedFiles, Gathered, StagedFiles
from truecl.model.ids import NodeName
from truecl.runtime.files import Unreadable, gather

KEPT = 10
DIGEST_SHOWN = 16
MAX_PROBLEMS = 5


class Versions:
    """Of node `me`: `etc` is the configuration's directory, `state` syncd's own. Blocks for the time of the disk."""

    def __init__(self, me: NodeName, etc: Path, state: Path) -> None:
        self._me = me
        self._etc = etc
        self._staged = state / "staged"
        self._marker = state / "activating"
        self._former = state / "former"

    def finish(self) -> ActivatedFiles:
        """At the start: finishes an activation that was cut short."""
        try:
            return self.activate(self._marker.read_text())
        except FileNotFoundError:
            return ActivatedFiles(None)
        except (OSError, UnicodeDecodeError) as error:
            return ActivatedFiles(None, f"{self._marker}: {error}")

    def gather(self) -> Gathered:
        try:
            raw = gather(self._etc)
            changed = max(((self._etc / name).stat().st_mtime for name in raw), default=0.0)
        except Unreadable as error:
            return Gathered(None, (str(error),))
        except OSError as error:
            return Gathered(None, (f"{error.filename}: {error.strerror}",))
        configuration, problems = read(raw)
        return Gathered(
            configuration,
            tuple(str(problem) for problem in problems),
            digest_of(raw),
            {name: content.decode(errors="replace") for name, content in raw.items()},
            {name: hashlib.sha256(content).hexdigest() for name, content in raw.items()},
            time.strftime("%Y-%m-%d %H:%M", time.localtime(changed)) if raw else "",
        )

    def stage(self, digest: str, files: Mapping[str, str]) -> StagedFiles:
        """Refuses what could not be activated: another content, problems, a directory that may not be written."""
        if digest_of(files) != digest:
            return StagedFiles("what arrived is not what was sent (another digest)")
        configuration, problems = read(files)
        if configuration is None:
            more = f" and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
            return StagedFiles("; ".join(str(problem) for problem in problems[:MAX_PROBLEMS]) + more)
        if all(node.name != self._me for node in configuration.cluster.nodes):
            return StagedFiles(f"the new version does not name {self._me} among its nodes")
        try:
            refusal = self._not_writable()
            if not refusal:
                shutil.rmtree(self._staged, ignore_errors=True)
                _write_all(self._staged, files)
        except OSError as error:
            return StagedFiles(f"{error.filename or self._staged}: {error.strerror}")
        return StagedFiles(refusal)

    def activate(self, digest: str) -> ActivatedFiles:
        try:
            present = gather(self._etc)
            if digest_of(present) == digest:
                self._marker.unlink(missing_ok=True)
                return ActivatedFiles(read(present)[0])
            staged = gather(self._staged)
            configuration, _ = read(staged)
            if configuration is None or configuration.digest != digest:
                return ActivatedFiles(None, f"version {digest[:8]} is not staged here; run lha_form --sync again")
            # Once the marker is there the old version is half replaced, perhaps; it was kept before.
            if not self._marker.exists():
                self._keep(present)
            _write(self._marker, digest.encode())
            _write_all(self._etc, staged)
            for name in present:
                if name not in staged:
                    (self._etc / name).unlink(missing_ok=True)
            _sync_directory(self._etc / "apps")
            self._marker.unlink()
            _sync_directory(self._marker.parent)
        except Unreadable as error:
            return ActivatedFiles(None, str(error))
        except OSError as error:
            return ActivatedFiles(None, f"{error.filename}: {error.strerror}")
        return ActivatedFiles(configuration)

    def _keep(self, files: Mapping[str, bytes]) -> None:
        directory = self._former / digest_of(files)[:DIGEST_SHOWN]
        shutil.rmtree(directory, ignore_errors=True)
        _write_all(directory, files)
        versions = sorted(self._former.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in versions[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _not_writable(self) -> str:
        apps = self._etc / "apps"
        for directory in (self._etc, apps) if apps.exists() else (self._etc,):
            if not os.access(directory, os.W_OK | os.X_OK):
                way_out = f"restart the truecl service, or: chgrp truecl {directory} && chmod g+w {directory}"
                return f"syncd may not write {directory}; {way_out}"
        return ""


def give_way(etc: Path, gid: int) -> None:
    """As root: lets group `gid`, which syncd runs in, replace the configuration's files. Raises OSError.

    It can have commands run as root by way of an application's file in any case, so this gives it nothing new.
    """
    apps = etc / "apps"
    apps.mkdir(mode=0o775, exist_ok=True)
    for directory in (etc, apps):
        os.chown(directory, -1, gid)
        directory.chmod(directory.stat().st_mode & 0o7777 | 0o070)


def _write_all(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """cluster.yaml last: what names an application's file that is not there yet would be worse than the reverse."""
    (directory / "apps").mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda each: (each == FILE, each)):
        content = files[name]
        _write(directory / name, content.encode() if isinstance(content, str) else content)
    for each in (directory / "apps", directory):
        _sync_directory(each)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk. The suffix keeps a leftover from being read as an application."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

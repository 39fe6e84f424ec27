"""Who is at the other end of a Unix socket, and what they may do on this node.

The kernel says who connects (SO_PEERCRED): root and user truecl act, members of group truecl may look.
"""

import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

SO_PEERGROUPS = 59
"""Supplementary groups of the other side (socket(7), Linux 4.13)."""


@dataclass(frozen=True)
class Rights:
    """Who may do what on this node."""

    acting: frozenset[int]
    """User ids."""
    looking: int | None
    """A group's id; None: there is no such group."""

    @classmethod
    def of_system(cls, user: str = "truecl", group: str = "truecl") -> "Rights":
        """Root, and `user` and `group` where they exist."""
        acting = {0}
        looking = None
        with suppress(KeyError):
            acting.add(pwd.getpwnam(user).pw_uid)
        with suppress(KeyError):
            looking = grp.getgrnam(group).gr_gid
        return cls(frozenset(acting), looking)

    def may_act(self, uid: int) -> bool:
        return uid in self.acting

    def may_look(self, uid: int, groups: frozenset[int]) -> bool:
        return uid in self.acting or (self.looking is not None and self.looking in groups)


def credentials_of(connection: socket.socket) -> tuple[int, int, frozenset[int]]:
    """The other side's process id, user id and all group ids, as the kernel noted them when it connected."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = {gid}
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
        groups.update(struct.unpack(f"{len(more) // 4}I", more))
    except OSError:
        # More than 256 groups: what the user database says then.
        with suppress(KeyError):
            account = pwd.getpwuid(uid)
            groups.update(os.getgrouplist(account.pw_name, account.pw_gid))
    return pid, uid, frozenset(groups)

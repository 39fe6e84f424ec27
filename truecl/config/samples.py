"""Commented sample files, for `lha_init` and for conf/. What they say is read by a test like any configuration."""

from collections.abc import Sequence

from truecl.model.ids import LinkName, NodeName

LINKS = ("lan", "ring")
"""Names of the first links where the operator gives none."""

_HEAD = """\
# The cluster: its nodes and how they reach one another. The same on every node; syncd sees to that.
# `lha_check` tells everything that is wrong with it, `lha_form` brings it up.
# What stands behind a '#' followed by a key can be used by deleting '# '.
#
# Durations carry their unit: 100ms, 5s, 2m, 1h. Each key stands once; anchors and tags are not used.

cluster: {cluster}

# Networks that the nodes hear one another on. Two that share no switch and no card keep the cluster whole if one fails.
links: [{links}]

# Each node by its name (as `lha_init` certified it), with its numeric address on every link.
nodes:
"""

_FENCE = """\
    # Switches this node off, for certain, when it does not answer. Without one, its applications with storage wait for
    # the operator. Any agent of the fence-agents packages, run on the master; its parameters are those of its man page.
    # fence:
    #   agent: fence_ipmilan
    #   parameters: {ip: 192.0.2.11, username: truecl, lanplus: 1}
    #   secrets: {password: /etc/truecl/ipmi-password}   # files that only root can read, on every node
    #   timeout: 20s              # for 'off' and the questions that verify it, together
    #   verify: yes               # believe 'off' only after asking for the status
    #   retries: 0                # more attempts before the next level
    #   delay: 0s                 # before the first attempt
    # Several devices, two power supplies: a list of levels, see docs/fencing.md. `lha_fence --test` tries them all.
    # Resets this node when it lost its lease and cannot stop what it runs, or hangs. `required`: without it nothing
    # starts here; `automatic`: with it where there is one. Short: `watchdog: required`.
    # watchdog:
    #   use: required
    #   device: /dev/watchdog
    #   timeout: 10s              # whole seconds, more than stop_allowance and half a second
    #   watchdog_survives_pause: no     # yes: in a virtual machine, its clock runs on however the machine is stopped
    # witness: yes                # this node votes and never runs applications; `observer: yes`: the other way round
    # fence_delay: 21s            # of two nodes: the other waits so long before it has this one fenced (docs/timing.md)
"""

_TAIL = """\

# What a node does with its applications when it can reach no majority: `stop`, or `freeze`: they stand still, addresses
# down, and go on when there is one again. With a watchdog they are stopped before its time is over.
on_quorum_loss: stop

# docs/timing.md says what each of these is for, and the law between them. These are the defaults. All of them together
# halved are `profile: fast`. Failures are noticed and leases end in half the time; devices, mounts and programs take
# what they take. It costs twice the messages, and patience with slow machines.
# profile: normal
# timing:
#   heartbeat: 100ms              # between two heartbeats, on every link
#   detection: 300ms              # silence on all links that makes a node dead
#   election: 1s                  # silence of the master's log that starts an election, if nothing else did
#   lease: 750ms                  # for so long a node may run applications without hearing from the majority
#   renewal: 220ms                # between two requests for the lease
#   drift: 30ms                   # the most by which two nodes' clocks part over one lease
#   stop_allowance: 5s            # from the end of the lease to the last step of a forced stop
#   address_allowance: 100ms      # from the end of the lease until the floating addresses are down

# Ports between the nodes: TCP with TLS, UDP for hbd. These are the defaults.
# ports: {reqd: 7420, lockd: 7421, syncd: 7422, statd: 7423, clusterd: 7424, hbd: 7425, drbd: 7789}
"""

_APP = """\
# An application: what moves together from node to node. This file's name is the application's: NAME.yaml.
# Started in this order: volumes, file systems, addresses, programs. Stopped the other way round.

# Where it may run, the preferred node first.
nodes: [{nodes}]

# Started whenever the cluster forms?
autostart: no

# A raw image, attached to a loop device. On storage that all of its nodes see, as NFS.
volumes:
  data:
    type: file
    image: /srv/images/web.img

filesystems:
  - type: ext4                    # ext3, ext4 or xfs
    mount: /srv/web               # made if it is missing
    volume: data                  # may be left out where there is just one
    options: [noatime]
    fsck: preen                   # never; preen: repair what is safe, else refuse; always: a full check

# Floating addresses: one alone, or with details.
addresses:
  - {address}
#   - address: 2001:db8::50
#     prefix: 64                  # left out: a host address, or that of the interface's network
#     interface: eth0             # left out: the one that has an address in the same network
#     conflict: warn              # when somebody else answers for it; left out: refuse to start

# Commands are run without a shell and without a search path: the first word is an absolute path. A line is split at
# blanks, quotes keep words together; a list is taken as it is. Where a shell is meant: [/bin/sh, -c, '... | ...']
programs:
  web:
    run: /usr/bin/python3 -m http.server --directory /srv/web 8080  # stays in the foreground; its death is seen at once
    restarts: 3                   # deaths within restart_window before it moves to another node
    restart_window: 1m
    stop_timeout: 10s             # TERM, and KILL after this
    monitor:                      # asked again and again; exit code 0 is well
      command: [/usr/bin/python3, -c, "import urllib.request as u; u.urlopen('http://127.0.0.1:8080', timeout=4)"]
      interval: 5s
      timeout: 5s
      failures: 2                 # so many in a row count as its death
#   database:
#     start: /usr/local/sbin/database-start   # a program that goes to the background by itself
#     stop: /usr/local/sbin/database-stop
#     start_timeout: 60s
#     user: database
#     directory: /srv/web
#     environment: {{LANG: C.UTF-8}}

# For the application as a whole.
start_timeout: 60s
stop_timeout: 60s
"""


def cluster_yaml(cluster: str, nodes: Sequence[tuple[NodeName, Sequence[str]]], links: Sequence[LinkName]) -> str:
    """cluster.yaml for these nodes with one address for each of `links`."""
    lines = [_HEAD.format(cluster=cluster, links=", ".join(links))]
    for number, (name, addresses) in enumerate(nodes):
        lines.append(f"  {name}:\n")
        lines += [f"    {link}: {_value(address)}\n" for link, address in zip(links, addresses, strict=True)]
        if number == 0:
            lines.append(_FENCE)
    return "".join(lines) + _TAIL


def app_yaml(nodes: Sequence[NodeName], address: str) -> str:
    """A web server with a file system and a floating address."""
    return _APP.format(nodes=", ".join(nodes), address=_value(address))


def _value(address: str) -> str:
    return f'"{address}"' if ":" in address else address

"""fence_truecl_lab: the fence agent of a lab's power switch.

Written into every node as /lab/fence_truecl_lab with the interpreter's line put before it. Follows the conventions
of fence-agents: `key=value` lines on standard input, or --key value / --key=value; `action` off, on, reboot, status,
monitor, list or metadata; `plug` (or `port`) the node; `socket` the switch. Exit 0 done; for status 0 on, 2 off; 1
failed.
"""

import _socket  # the module `socket` costs as much as all the rest of the agent
import sys

METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_truecl_lab" shortdesc="Power switch of a truecl lab">
<longdesc>Cuts and restores the power of the nodes of a cluster on one machine (lha_lab).</longdesc>
<vendor-url></vendor-url>
<parameters>
<parameter name="action" required="1"><content type="string" default="reboot"/>
<shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="plug" required="1"><content type="string"/>
<shortdesc lang="en">Name of the node</shortdesc></parameter>
<parameter name="socket" required="0"><content type="string" default="/lab/power.sock"/>
<shortdesc lang="en">Socket of the power switch</shortdesc></parameter>
<parameter name="timeout" required="0"><content type="second" default="60"/>
<shortdesc lang="en">Seconds to wait for the switch</shortdesc></parameter>
</parameters>
<actions><action name="on"/><action name="off"/><action name="reboot"/><action name="status"/><action name="list"/>
<action name="monitor"/><action name="metadata"/></actions>
</resource-agent>
"""


def parameters(arguments: list[str]) -> dict[str, str]:
    """Out of the command line, or, without one, standard input."""
    given = {"action": "reboot", "socket": "/lab/power.sock", "timeout": "60"}
    if not arguments:
        for line in sys.stdin.read(65536).splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith("#"):
                given[key] = value
    words = iter(arguments)
    for word in words:
        key, equals, value = word.lstrip("-").partition("=")
        given[key] = value if equals else next(words, "")
    return given


def ask(path: str, request: str, timeout: float) -> str:
    """The switch's answer, a line. Raises OSError."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(timeout)
    connection.connect(path)
    connection.sendall(f"{request}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            break
        answer += piece
    connection.close()
    return answer.decode().strip()


def main(arguments: list[str]) -> int:
    given = parameters(arguments)
    action, plug = given["action"], given.get("plug") or given.get("port", "")
    if action == "metadata":
        sys.stdout.write(METADATA)
        return 0
    request = "list" if action in ("list", "monitor") else f"{action} {plug}"
    try:
        answer = ask(given["socket"], request, float(given["timeout"]))
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{given['socket']}: {problem}\n")
        return 1
    word, _, rest = answer.partition(" ")
    if word != "ok":
        sys.stderr.write(f"{rest or 'no answer'}\n")
        return 1
    if action == "list":
        sys.stdout.write("".join(f"{node},\n" for node in rest.split()))
    if action == "status":
        sys.stdout.write(f"Status: {rest.upper()}\n")
        return 0 if rest == "on" else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

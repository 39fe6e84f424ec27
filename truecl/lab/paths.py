"""Where a lab keeps what: plain strings, shared by the commands, the power switch and a node's first process."""

BASE = "/run/truecl-lab"
GROUP = "truecl-lab"
CLIENT = "client"
SCOPE = "init.scope"
"""The cgroup, in a node's, where its processes live; the node's own stays empty, as cgroup v2 wants it."""
AGENT_GROUP = "lab"
"""The cgroup, in a node that has a kernel, of what serves the lab there: it runs on when the node is paused."""


class Paths:
    """Paths of the lab `name`, on the machine outside the nodes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = f"{BASE}/{name}"
        self.lab_file = f"{self.root}/lab.json"
        self.cuts_file = f"{self.root}/cuts.json"
        self.lock_file = f"{BASE}/.{name}.lock"
        """Outside `root`, so that `up` and `down` can hold it while the directory comes and goes."""
        self.power_directory = f"{self.root}/power"
        """Bound into every node as /lab/power. The directory, since a socket made anew would be another inode."""
        self.power_socket = f"{self.power_directory}/power.sock"
        self.control_socket = f"{self.root}/control.sock"
        self.power_log = f"{self.root}/power.log"
        self.shared = f"{self.root}/shared"
        self.switch_namespace = f"{self.root}/ns/switch"
        self.client_namespace = f"{self.root}/ns/client"

    def node(self, node: str) -> str:
        """The directory of a node: image, /etc/truecl, logs, state."""
        return f"{self.root}/nodes/{node}"

    def image(self, node: str) -> str:
        return f"{self.node(node)}/disk.img"

    def boot_file(self, node: str) -> str:
        """What the node's first process reads: written at each boot."""
        return f"{self.node(node)}/boot.json"

    def state_file(self, node: str) -> str:
        return f"{self.node(node)}/node.json"

    def loops_file(self, node: str) -> str:
        """Loop devices found at a power cut, until all are free: an interrupted cut is finished by the next."""
        return f"{self.node(node)}/loops"

    def mode_file(self, node: str) -> str:
        """How the power switch treats orders for this node: 'ok', 'refuse' or 'slow SECONDS'."""
        return f"{self.node(node)}/power-mode"

    def scratch(self, node: str) -> str:
        """What user-mode Linux itself writes, a directory for each start of the kernel; emptied by the next boot."""
        return f"{self.node(node)}/uml"

    def paused_file(self, node: str) -> str:
        """There while all that runs in a node with a kernel is stopped, and the kernel is not."""
        return f"{self.node(node)}/paused"

    def ports_file(self, node: str) -> str:
        """Names of the node's switch ports."""
        return f"{self.node(node)}/ports"

    def node_lock(self, node: str) -> str:
        return f"{self.node(node)}/lock"

    def console(self, node: str) -> str:
        return f"{self.node(node)}/console.log"

    def shared_inside(self, node: str) -> str:
        """Where the shared directory is really mounted in a node; /shared is a symbolic link to it.

        The kernel shows the backing file of a loop device by this path, on every node of every lab: with the node's
        name in it, each can tell its own devices from the others'.
        """
        return f"/shared.{self.name}.{node}"

    def group(self, mount_point: str) -> str:
        return f"{mount_point}/{GROUP}/{self.name}"

    def node_group(self, mount_point: str, node: str) -> str:
        return f"{self.group(mount_point)}/node.{node}"

"""`lha_lab demo`: form, start, power failure, fail-over, return, stop, dissolve, told with the commands' own outputs.

Nothing is staged: every command runs on a node of a real lab, and every figure is what the client measured.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

from truecl.lab import sample
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError

NODES = 4
FIRST = "n1"
PATIENCE = 30.0


class Telling:
    """What every story needs. `write` takes text as it comes."""

    def __init__(self, lab: Lab, write: Callable[[str], None]) -> None:
        self.lab = lab
        self.write = write

    def say(self, text: str) -> None:
        self.write(f"\n--- {text}\n")

    def run(self, node: str, *argv: str) -> int:
        """Show the prompt, then the command's output line by line as the operator sees it."""
        self.write(f"root@{node}:~# {' '.join(argv)}\n")
        process = self.lab.popen(
            node, list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        for line in process.stdout:
            self.write(line.rstrip("\n") + "\n")
        return process.wait()

    def must(self, node: str, *argv: str) -> None:
        """Raises LabError when the command failed: a demo goes on with nothing that went wrong."""
        code = self.run(node, *argv)
        if code != 0:
            raise LabError(f"{' '.join(argv)} on {node} ended with exit code {code}")

    def status(self, node: str) -> dict[str, object]:
        """`lha_stat --json`."""
        said: dict[str, object] = json.loads(self.lab.exec(node, ["lha_stat", "--json"]).check().out)
        return said

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"waited {PATIENCE:.0f} s in vain for: {what}")
            time.sleep(0.1)

    def node_up(self, asked: str, node: str) -> bool:
        """With all its daemons, as its own statd reports."""
        nodes = self.status(asked)["nodes"]
        assert isinstance(nodes, list)
        there = next(each for each in nodes if each["name"] == node)
        states = list(there["daemons"].values())
        return there["status"] == "UP" and bool(states) and all(state == "up" for state in states)


class Demo(Telling):
    """Four nodes and an image that all of them see."""

    def tell(self) -> None:
        lab = self.lab
        self.say(f"{len(lab.description.nodes)} nodes with two links each; form the cluster")
        self.must(FIRST, "lha_form", "--verbose")
        self.say("check and start an application: an ext4 file system on an image, a floating address, a web server")
        self.must(FIRST, "lha_buildapp", "-A", sample.APP, "-V")
        self.must(FIRST, "lha_startapp", "-A", sample.APP, "-V")
        self.must(FIRST, "lha_stat")
        self.must(FIRST, "lha_stat", "-A", sample.APP)
        self.say("a client writes a line; the answer comes when the line is on the disk")
        self.must("client", "curl", "-s", f"http://{sample.ADDRESS}/add?written-before-the-power-failed")
        survivor = self.power_failure()
        self.must(survivor, "lha_stat")
        self.say("the data is still there")
        self.must("client", "curl", "-s", f"http://{sample.ADDRESS}/")
        self.say(f"{FIRST} gets its power back and joins again by itself; the application stays where it is")
        lab.boot(FIRST)
        self.wait_for(f"{FIRST} in the cluster", lambda: self.node_up(survivor, FIRST))
        self.must(FIRST, "lha_stat")
        self.say("stop the application, dissolve the cluster")
        self.must(FIRST, "lha_stopapp", "-A", sample.APP, "-V")
        self.must(FIRST, "lha_dissolve", "--verbose")

    def power_failure(self) -> str:
        """Cut the power of the node that is owner and master; returns the node that answers afterwards."""
        lab = self.lab
        self.say(f"cut the power of {FIRST}, which runs the application and leads, too; a client asks every 5 ms")
        with lab.probe(sample.TARGET) as probing:
            probing.wait_answer(PATIENCE, node=FIRST)
            lab.kill(FIRST)
            self.wait_for("an answer from another node", lambda: probing.wait_answer(PATIENCE) != FIRST)
        result = probing.result
        survivor = next(node for node in result.nodes if node != FIRST)
        self.write(f"the client was without an answer for {result.longest * 1000:.0f} ms, then {survivor} answered\n")
        return survivor


def demo(name: str = "demo", vm: bool = False) -> None:
    """Make a lab, tell the story, remove the lab. `vm`: the story of real storage (`truecl.lab.replicated.story`) on
    kernels. Raises LabError."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    began = time.monotonic()
    if vm:
        from truecl.lab.replicated import app, story

        with Lab.up(2, name=name, provide=app.provide, vm=True) as lab:
            story.Story(lab, write).tell()
    else:
        with Lab.up(NODES, name=name, provide=sample.provide) as lab:
            Demo(lab, write).tell()
    write(f"\n--- all of it took {time.monotonic() - began:.1f} s; the lab is gone again\n")

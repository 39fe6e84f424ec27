"""Runs on a node with a kernel of its own: reqd's drivers bring steps up and down, one for each line of input.

Started by `driven.Driven`. A line is {"verb", "step", "force"}; its answer {"probe", "reason", "facts", "seconds"}.
"""

import json
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from realhost import RealHost

from truecl.drivers.contract import Driver, StepFailed
from truecl.drivers.filesystem.driver import FileSystemDriver
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.step import Instance, Step, StepKind
from truecl.service.storage import storage_drivers

INSTANCE = Instance(AppName("test"), Generation(7))


def main() -> None:
    real = RealHost()
    storage, _ = storage_drivers(real.runner, real.loop, NodeName("n1"), "boot", Path("/run/truecl-test"))
    drivers: dict[StepKind, Driver] = {
        StepKind.STORAGE: storage,
        StepKind.FILESYSTEM: FileSystemDriver(real.runner, real.loop, storage.device),
    }
    print(json.dumps({"reason": "", "probe": "ready"}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        step = msgspec.convert(asked["step"], Step)
        driver = drivers[step.kind]
        reason, began = "", time.monotonic()
        try:
            if asked["verb"] == "up":
                real.do(driver.up(step, INSTANCE), 60)
            elif asked["verb"] == "down":
                real.do(driver.down(step, INSTANCE, asked["force"]), 60)
        except StepFailed as failed:
            reason = failed.reason
        took = time.monotonic() - began
        probe = real.do(driver.probe(step, INSTANCE))
        facts = real.do(driver.detail(step, INSTANCE))
        print(json.dumps({"probe": probe, "reason": reason, "facts": facts, "seconds": took}), flush=True)


if __name__ == "__main__":
    main()

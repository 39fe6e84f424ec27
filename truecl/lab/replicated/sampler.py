"""Watches DRBD from inside a node: `sampler.py`, a line of JSON for every change of /proc/drbd, and ten a second.

    [time, {MINOR: [connection, role, disk, I/O], ...}]

Time is the wall clock's, which all nodes of a machine share. I/O is `running` or `suspended`.
"""

import json
import re
import sys
import time

LOOK = 0.01
SIGN_OF_LIFE = 0.1
LINE = re.compile(r"^ *(\d+): cs:(\S+)(?: ro:(\S+)/\S+ ds:(\S+)/\S+ \S+ (\S))?", re.MULTILINE)


def look() -> dict[str, list[str]]:
    try:
        with open("/proc/drbd", encoding="ascii") as file:
            text = file.read()
    except FileNotFoundError:  # the module is not loaded yet
        return {}
    found = {}
    for minor, connection, role, disk, flag in LINE.findall(text):
        if role:
            found[minor] = [connection, role, disk, "suspended" if flag == "s" else "running"]
    return found


def main() -> None:
    told: dict[str, list[str]] | None = None
    last = 0.0
    while True:
        now, found = time.time(), look()
        if found != told or now - last >= SIGN_OF_LIFE:
            sys.stdout.write(json.dumps([now, found]) + "\n")
            sys.stdout.flush()
            told, last = found, now
        time.sleep(LOOK)


if __name__ == "__main__":
    main()

"""The application's program: PostgreSQL in the foreground, on a data directory that it makes when there is none.

    server.py DIRECTORY ADDRESS PORT

As root it goes over to the user of the directory's owner, `postgres`. TERM is a fast shutdown (PostgreSQL's own answer
to TERM waits for its clients). Nothing but builtins, os and signal is imported before the server runs: it starts
while somebody waits.
"""

import os
import signal
import sys

USER = "postgres"
INITDB = (
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--wal-segsize=1",
    "--no-instructions",
    "--no-sync",
    "--username",
    USER,
)
SETTINGS = {
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "20",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "min_wal_size": "8MB",
    "max_wal_size": "32MB",
    "huge_pages": "off",
    "jit": "off",
    "logging_collector": "off",
    "restart_after_crash": "off",
    # One call instead of one for each file, before a log is replayed.
    "recovery_init_sync_method": "syncfs",
    # A log that is small is soon replayed: a takeover waits for it.
    "checkpoint_timeout": "30s",
    "checkpoint_completion_target": "0.1",
}
"""fsync, synchronous_commit and full_page_writes stay on, PostgreSQL's default: what it acknowledged is on the disk."""
ACCESS = "host all all all trust\n"
VERSIONS = "/usr/lib/postgresql"


def program(name: str) -> str:
    """Of the newest version that is installed."""
    versions = sorted((int(version), version) for version in os.listdir(VERSIONS) if version.isdigit())
    return f"{VERSIONS}/{versions[-1][1]}/bin/{name}"


def prepare(directory: str) -> str:
    """The data directory, as the user that it belongs to. A directory that initdb did not finish is made anew."""
    data, making = f"{directory}/data", f"{directory}/data.new"
    if os.getuid() == 0:
        import pwd

        user = pwd.getpwnam(USER)
        if os.stat(directory).st_uid != user.pw_uid:
            os.chown(directory, user.pw_uid, user.pw_gid)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    if not os.path.isdir(data):
        initialise(making)
        os.rename(making, data)
    return data


def initialise(making: str) -> None:
    import shutil
    import subprocess

    shutil.rmtree(making, ignore_errors=True)
    subprocess.run([program("initdb"), *INITDB, "--pgdata", making], check=True, stdout=subprocess.DEVNULL, cwd="/")
    with open(f"{making}/pg_hba.conf", "w", encoding="utf-8") as file:
        file.write(ACCESS)
    os.sync()  # once, for all that initdb wrote


def serve(data: str, address: str, port: str) -> int:
    """Until it ends; its exit code."""
    name = os.environ.get("TRUECL_NODE", os.uname().nodename)
    settings = SETTINGS | {"listen_addresses": address, "port": port, "cluster_name": name}
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until there is whom to pass it on to
    postgres = program("postgres")
    child = os.posix_spawn(postgres, [postgres, "-D", data, *words], os.environ, setsigmask=[])
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(serve(prepare(sys.argv[1]), sys.argv[2], sys.argv[3]))

"""A Ray cluster of the benchmark's own, which stays up while the searches in it are killed.

It runs in a process of its own, so that the one that forks commands has no threads of Ray's. Nodes are lost and added
by lines that are sent to it; it ends when nobody can send any more.
"""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.faulty.running import descendants

__all__ = ["Cluster", "cluster"]

ROOT = Path(__file__).parents[2]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else other programs on this machine come first
    "RAY_preload_python_modules": "q2.session.search,q2.denoisers.dit,diffusers.models.transformers",
}
"""Workers that wait for an actor have imported what it needs."""


class Cluster:
    """Two nodes with one core each. `client` is the address of the server for Ray's client; empty without one."""

    def __init__(self) -> None:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faulty.cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.address, *clients = self._answer()
        self.client = clients[0] if clients else ""

    def add(self) -> None:
        """Add a node, and wait for it."""
        self._say("add")

    def lose(self) -> None:
        """Kill all processes of the node that was added last."""
        self._say("lose")

    def actors(self) -> list[int]:
        """Return the processes in which an actor lives."""
        return [pid for pid in descendants(self._process.pid) if _title(pid).startswith(b"ray::_Actor")]

    def close(self) -> None:
        """Stop all nodes."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(60)

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> list[str]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line.startswith("ok"), "the cluster has ended"
        return line.split()[1:]


@cache
def cluster() -> Cluster:
    """Return the cluster; it is started when first asked for, and ends with this process."""
    made = Cluster()
    atexit.register(made.close)
    return made


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def main() -> None:
    """Do as the lines on standard input say."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.update(ENVIRONMENT)
    from ray.cluster_utils import Cluster as Nodes

    folder = tempfile.mkdtemp(prefix="ray-")
    port = _client_port()
    head = NODE | {"temp_dir": folder} | ({"ray_client_server_port": port} if port else {})
    nodes = Nodes(initialize_head=True, head_node_args=head)
    try:
        nodes.add_node(**NODE)
        print("ok", nodes.address, f"ray://127.0.0.1:{port}" if port else "", file=answers, flush=True)
        for line in sys.stdin:
            if line.strip() == "add":
                nodes.add_node(**NODE)
            else:
                nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
            print("ok", file=answers, flush=True)
    finally:
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _client_port() -> int:
    """Return a free port for the server of Ray's client; 0 without grpcio, which it needs."""
    if find_spec("grpc") is None:
        return 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()

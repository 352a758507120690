"""Starts the processes of a run on several machines, here or over ssh, and looks after them: when
one dies, or hangs, all end, with the reason.

    python -m core.train --workers 2 --servers 1 [--hosts FILE] ...

The scheduler of MXNet's parameter server runs on the first host, servers and workers on the hosts
in turn. A host has what this machine has, in the same places: this folder, its Python, and what is
learnt from. The first worker alone writes the run's folder.
"""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue

from core.base.parallel import cores
from core.train.lifeline import MARK
from facelet.console import Problem, check_stop
from facelet.files import read_lines
from facelet.isolated import signal_name

ROOT = Path(__file__).resolve().parents[2]
MOST = 1000  # workers or servers
TICK = 0.5  # s
SILENT = 15  # s without a sign of life, then a process hangs
STALLED = 25  # s without a step, after one and before the next of an epoch, then all hang
HOST = re.compile(r"([A-Za-z0-9_.-]+@)?[A-Za-z0-9][A-Za-z0-9_.:-]*")
COMMAND = (sys.executable, "-c", "from core.train import node; node.main()")
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")
# What of this process's environment holds for those on other hosts.
PASSED = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "DMLC_INTERFACE", "PS_VERBOSE")
LARGE = 20_000  # values: from so many on, what is added up is spread over the servers


def read_hosts(path):
    """The hosts in a file, NAME or USER@NAME, a line each; what follows # is a comment."""
    hosts = [line for text in read_lines(path) if (line := text.partition("#")[0].strip())]
    for host in hosts:
        if not HOST.fullmatch(host):
            raise Problem(f"{path}: {host!r} is no host: a line is NAME or USER@NAME")
    if not hosts:
        raise Problem(f"{path} names no host: a line is NAME or USER@NAME")
    return hosts


def _address(host):
    """The numeric address of a host, which the others reach it by."""
    name = host.rpartition("@")[2]
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        raise Problem(f"the host {name} is not known here ({error.strerror or error})") from None
    return address


def _free_port():
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


class Node:
    """A process that has been started.

    role -- worker, server or scheduler; rank -- its number among those
    host -- where it runs, None here; given -- what it is to be, for core.train.node
    """

    def __init__(self, role, rank, host, given):
        self.name = f"{role} {rank}" if role != "scheduler" else role
        self.name += f" on {host}" if host else ""
        self.role, self.rank = role, rank
        self.facts, self.step, self.done, self.problem = None, None, False, None
        self.silent = self.standing = 0.0  # s
        command = COMMAND
        if host:
            command = [*SSH, host, f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(COMMAND)}"]
        # Not in this terminal's group: ctrl-C is this process's to answer.
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.lines = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.tell(json.dumps(given))

    def tell(self, line):
        with contextlib.suppress(OSError):  # dead: its end tells
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def hear(self):
        """Take in what the process has said. Returns whether it has ended."""
        ended, heard, step = False, False, self.step
        with contextlib.suppress(Empty):
            while True:
                line = self.lines.get_nowait()
                heard = True
                if line is None:
                    ended = True
                    break
                text = line.decode("utf-8", "replace").rstrip("\n")
                if not text.startswith(MARK):
                    print(text, flush=True)
                    continue
                for key, value in json.loads(text[len(MARK) :]).items():
                    setattr(self, key, value)
        self.silent = 0.0 if heard else self.silent + TICK
        self.standing = 0.0 if self.step is None or self.step != step else self.standing + TICK
        return ended

    def end(self):
        """How the process ended, in words."""
        status = self.process.wait()
        return f"died ({signal_name(-status)})" if status < 0 else f"ended with status {status}"

    def kill(self):
        # Over ssh, the end of its input tells it.
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def launch(argv, out, workers, servers, hosts=None):
    """Run `python -m core.train` with arguments `argv` in `workers` processes that train together.
    Returns when they are done.

    out -- the run's folder, for what is said; servers -- processes that add up
    hosts -- as read_hosts() gives them; None: all here

    Raises Problem when one of them can't go on, dies or hangs; all have ended then."""
    environment = {
        "DMLC_PS_ROOT_URI": _address(hosts[0]) if hosts else "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(_free_port()),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(servers),
        "MXNET_KVSTORE_BIGARRAY_BOUND": str(LARGE),
        **{name: os.environ[name] for name in PASSED if name in os.environ},
    }
    if not hosts:
        environment["DMLC_NODE_HOST"] = "127.0.0.1"
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))
    roles = [("scheduler", 1), ("server", servers), ("worker", workers)]
    nodes = []
    try:
        for role, count in roles:
            for rank in range(count):
                host = hosts[rank % len(hosts)] if hosts else None
                given = {
                    "role": role,
                    "rank": rank,
                    "count": count,
                    "argv": argv,
                    "environment": {**environment, "DMLC_ROLE": role},
                }
                nodes.append(Node(role, rank, host, given))
        _watch(nodes, f"; the same command goes on after the last finished epoch of {out}")
    finally:
        for node in nodes:
            node.kill()


def _watch(nodes, way_on):
    """Until the workers are done. Raises Problem for the first that is wrong."""
    workers, compared = [node for node in nodes if node.role == "worker"], False
    pause = threading.Event()
    while not all(node.done for node in workers):
        check_stop()
        pause.wait(TICK)
        ended = [node for node in nodes if node.hear() and not node.done]
        for node in nodes:
            if node.problem:
                raise Problem(
                    node.problem if node is workers[0] else f"{node.name}: {node.problem}"
                )
        if ended:
            raise Problem(f"{ended[0].name} {ended[0].end()}: all have ended{way_on}")
        for node in nodes:
            if node.silent > SILENT and not node.done:
                raise Problem(
                    f"{node.name} has given no sign of life for {SILENT} s: all have ended{way_on}"
                )
        if workers and all(node.standing > STALLED for node in workers):
            raise Problem(
                f"no worker has made a step for {STALLED} s (the network, or a disk?): all have "
                f"ended{way_on}"
            )
        if not compared and all(node.facts for node in workers):
            _compare(workers)
            for node in workers:
                node.tell("go")
            compared = True


def _compare(workers):
    """Raise Problem where workers are not the same."""
    first = workers[0]
    for node in workers[1:]:
        found = [key for key, value in first.facts.items() if node.facts.get(key) != value]
        if found:
            raise Problem(
                f"{node.name} has not the same as {first.name}: {', '.join(found)}; bring all "
                "hosts to the same state"
            )

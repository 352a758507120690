"""A process of a run on several machines: a worker, a server or the scheduler of MXNet's parameter
server. core.train.launch starts it and speaks with it over its input and output, which reach
through ssh as well:

    input   a line of JSON, what to be; "go" when all workers are the same; its end: the launcher
            is gone, and so goes this process
    output  ordinary lines, which the launcher prints, and lines that begin with MARK: a JSON
            object, a sign of life among others
"""

import json
import os
import sys
import threading
import time
import traceback

MARK = "\x01"
BEAT = 1.0  # s between two signs of life


class Lifeline:
    """The line to the launcher."""

    def __init__(self):
        self._step, self._go, self._lock = None, threading.Event(), threading.Lock()
        self._output = os.dup(1)
        threading.Thread(target=self._beat, daemon=True).start()

    def say(self, **words):
        line = f"{MARK}{json.dumps(words)}\n".encode()
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._output, line) :]
            except OSError:
                os._exit(1)

    def _beat(self):
        while True:
            self.say(step=self._step)
            time.sleep(BEAT)

    def listen(self):
        """From here on, end when the launcher does."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in sys.stdin:
            if line.strip() == "go":
                self._go.set()
        os._exit(1)

    def join(self, facts):
        self.say(facts=facts)
        self._go.wait()

    def alive(self, step):
        """step -- a number that grows from step to step, None where there are none"""
        self._step = step


def _work(given, lifeline):
    if given["rank"]:
        # What all say alike is said once; errors have another way.
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    from core.train import __main__, cluster

    args = __main__.parsed(given["argv"])
    cluster.join(cluster.Cluster(given["rank"], given["count"], lifeline, args.compression))
    __main__.train(args)


def main():
    # Whoever starts processes of its own in here gives them another input, but this output.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    lifeline = Lifeline()
    given = json.loads(sys.stdin.readline())
    lifeline.listen()
    os.environ.update(given["environment"])
    from facelet.console import Problem, describe_os_error

    try:
        if given["role"] == "worker":
            _work(given, lifeline)
        else:
            from symbols import mxnet_import  # noqa: F401 -- MXNet's import serves, and returns not
    except Problem as problem:
        lifeline.say(problem=str(problem))
        os._exit(2)
    except OSError as error:
        lifeline.say(problem=describe_os_error(error))
        os._exit(2)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    lifeline.say(done=True)
    sys.stdout.flush()
    # At once: what the parameter server has to say at the end may wait for ever for others.
    os._exit(0)

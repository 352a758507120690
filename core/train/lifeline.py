"""What the launcher of a run on several machines and its processes say to each other, over their
input and output, which reach through ssh as well:

    input   a line of JSON, what to be; "go" when all workers are the same; its end: the launcher
            is gone, and so goes the process
    output  ordinary lines, which the launcher prints, and lines that begin with MARK: a JSON
            object, a sign of life among others
"""

import json
import os
import sys
import threading
import time

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

"""A decoder that does what damaged files make decoders do, in all processes that are started: a
picture or video whose file ends in one of DOES crashes or stops the process that decodes it."""

from facelet import isolated

DOES = {
    "abort": "os.abort()",
    "fault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "(print('hangs', file=sys.stderr, flush=True), time.sleep(1000))",
    "stops": "os.kill(os.getpid(), signal.SIGSTOP)",
}
CODE = """
import os, signal, sys, time
import cv2

ACTS = {acts}
imdecode, VideoCapture = cv2.imdecode, cv2.VideoCapture


def act(end):
    word = end[-5:].decode("latin-1")
    if word in ACTS:
        ACTS[word]()


def deadly(data, flags):
    act(bytes(data[-5:]))
    return imdecode(data, flags)


class Deadly:
    def __init__(self, path, *arguments):
        self.video, self.left = VideoCapture(path, *arguments), 3
        with open(path, "rb") as file:
            self.end = file.read()[-5:]

    def __getattr__(self, name):
        return getattr(self.video, name)

    def read(self):
        self.left -= 1
        if self.left < 0:
            act(self.end)
        return self.video.read()


cv2.imdecode, cv2.VideoCapture = deadly, Deadly
"""


def install(folder, monkeypatch):
    """Have it in all processes that this one starts from now on, by a module that Python imports
    when it starts. Called before a test's other work; undone after it."""
    folder.mkdir()
    acts = ", ".join(f"{word!r}: lambda: {code}" for word, code in DOES.items())
    (folder / "sitecustomize.py").write_text(CODE.format(acts=f"{{{acts}}}"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    isolated.close()


def add(path, what):
    """Make a file one of those."""
    path.write_bytes(path.read_bytes() + what.encode())

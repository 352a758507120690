"""The folder of a training run: its configuration, its log as text, curves and TensorBoard events,
and which of its checkpoints are whole."""

import json
import os
from pathlib import Path

from core.formats import checkpoint
from core.train.curves import curves
from core.train.log import read as read_log
from facelet.console import Problem
from facelet.files import differences, is_new, read_json, to_json, write_json, write_text

CURVES = "curves.png"
DIFFERENCES = 4  # that a message names
# What the line of an epoch tells: words, figure.
LOSSES = (
    ("cls", "cls_loss"),
    ("box", "bbox_loss"),
    ("points", "landmark_loss"),
    ("maps", "heatmap_loss"),
)
FIGURES = (
    ("accuracy", "accuracy"),
    ("hardest 70 %", "accuracy_hard"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("box error", "box_error"),
    ("points", "landmark_error"),
    ("mean face's", "mean_face_error"),
    ("inter-ocular", "inter_ocular"),
    ("joints", "joint_error"),
    ("mean body's", "mean_body_error"),
    ("found", "pck"),
)


class Run:
    """The folder of a training run."""

    def __init__(self, folder, net, identity):
        """identity -- everything the result depends on, JSON values; a folder that was made with
        another is refused."""
        self.folder, self.net = Path(folder), net
        self.identity = json.loads(json.dumps(identity))
        self.config_path, self.log_path = self.folder / "config.json", self.folder / "log.jsonl"
        self.epoch = self._finished_epoch()
        # Of any net: a run that was refused or stopped before its first epoch may be started
        # otherwise, one that has something to lose may not.
        begun = any(self.folder.glob("*-[0-9][0-9][0-9][0-9].json"))
        if begun and self.config_path.exists():
            then = read_json(self.config_path)
            if not isinstance(then, dict):
                raise Problem(
                    f"{self.config_path} is no configuration of a run, or a damaged one: choose "
                    "another --out"
                )
            differing = differences(self.identity, then)[:DIFFERENCES]
            if differing:
                raise Problem(
                    f"{folder} holds a run with other settings ({'; '.join(differing)}): "
                    "choose another --out, or the same settings to go on"
                )
        elif not self.config_path.exists() and not is_new(self.folder):
            raise Problem(f"{folder} is not empty and holds no run: choose another --out")
        self.log = read_log(self.log_path)[: self.epoch] if self.epoch else []
        if len(self.log) < self.epoch:
            raise Problem(
                f"{self.log_path} has {len(self.log)} epochs, and {self.epoch} are finished: it is "
                "damaged; choose another --out, or put back the whole file to go on"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.config_path, self.identity)
        self._made = os.stat(self.folder)
        self._board = None

    def check_there(self):
        """Raise Problem where the folder is gone, or another has taken its place."""
        try:
            there = os.path.samestat(os.stat(self.folder), self._made)
        except OSError:
            there = False
        if not there:
            raise Problem(
                f"{self.folder} has gone while this run was training into it: put it back to go "
                "on after its last finished epoch, or begin anew"
            )

    def params_path(self, epoch):
        return checkpoint.paths(self.folder, self.net, epoch)[1]

    def states_path(self, epoch):
        """Of the optimiser's states after an epoch."""
        return self.folder / f"{self.net}-{epoch:04d}.states"

    def _of_epochs(self, suffix):
        """(epoch, path) of the files NET-EPOCH with a suffix, in the order of epochs."""
        return sorted(
            (int(path.stem.rsplit("-", 1)[1]), path)
            for path in self.folder.glob(f"{self.net}-[0-9][0-9][0-9][0-9]{suffix}")
        )

    def _finished_epoch(self):
        """The last epoch whose files are whole; later ones are written anew."""
        for epoch, _ in reversed(self._of_epochs(".json")):
            if self.params_path(epoch).exists() and self.states_path(epoch).exists():
                return epoch
        return 0

    def drop_states(self, before):
        """Remove the optimiser's states after epochs before one, which have had their use."""
        for epoch, path in self._of_epochs(".states"):
            if epoch < before:
                path.unlink()

    def record(self, figures):
        """Add an epoch's figures to the log and draw the curves."""
        self.log.append(figures)
        write_text(self.log_path, "".join(to_json(row) + "\n" for row in self.log))
        self.draw_curves()

    def draw_curves(self):
        curves(self.log, self.folder / CURVES, title=self.net)

    def to_tensorboard(self, row):
        """Add an epoch's figures to the events of TensorBoard, if its writer is installed."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            return
        if self._board is None:
            self._board = SummaryWriter(str(self.folder / "tensorboard"))
        for part in ("train", "val"):
            for name, value in row[part].items():
                if not isinstance(value, list):
                    self._board.add_scalar(f"{part}/{name}", value, row["epoch"])
        self._board.flush()


def describe(row, epochs):
    """A log row as one line."""
    train, val = row["train"], row["val"]
    losses = "".join(f" {name} {train[key]:.4f}" for name, key in LOSSES if key in train)
    held_out = "".join(f" {words} {val[key]:.4f}" for words, key in FIGURES if key in val)
    left_out = train.get("left_out", 0)
    return (
        f"epoch {row['epoch']}/{epochs}  loss{losses}  held out:{held_out}  "
        f"{train['samples_per_second']:,.0f}/s, {train['waiting']:.0%} waiting"
        + (f", {train['communicating']:.0%} communicating" if "communicating" in train else "")
        + (f", {left_out:,} unreadable left out" if left_out else "")
    )

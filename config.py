"""Every default of the toolkit, once, grouped by stage.

`config` is what the programs start from. On a command line `section.key=value` overrides one
value (`train.epochs=8 loss.bbox.weight=0.5`); from Python use `override(config, [...])`. Values
keep the type they have here; a key that isn't here is an error. The resolved configuration is
saved with each run.
"""
import ast
import copy
import difflib
import math
import sys
from dataclasses import asdict
from functools import cache

from easydict import EasyDict

from facelet import schemes
from facelet.console import Problem
from facelet.settings import LIMITS as DETECT_LIMITS
from facelet.settings import (
    MAX_PIXELS,
    MAX_SECONDS,
    MEAN,
    MOST_PIXELS,
    MOST_SECONDS,
    SCALE,
    Settings,
)

config = EasyDict()

# --- picture to input: the same for training, mining, evaluation and export -----------------
config.input = EasyDict()
config.input.mean = MEAN             # BGR value -> (value - mean) * scale
config.input.scale = SCALE

# --- files of data that others made: lists, ground truths, detector.json ---------------------
config.data = EasyDict()
config.data.outside = False          # whether they may name files to read that lie outside of the
                                     # folders that their paths are relative to

# --- samples (prepare_data.samples) ---------------------------------------------------------
config.samples = EasyDict()
config.samples.base_num = 1          # multiplies the three numbers below
config.samples.negatives = 50        # random negatives per picture
config.samples.near_negatives = 6    # tries at negatives around each face
config.samples.positives = 25        # tries at positives and parts around each face
config.samples.min_face = 20         # faces whose larger side is below it give no positives, px
config.samples.max_negative_iou = 0.3    # below it, with every face: negative
config.samples.min_part_iou = 0.4        # from it on: part
config.samples.min_positive_iou = 0.65   # from it on: positive
config.samples.keep_part = 0.41      # probability of keeping a part: there are more than wanted
config.samples.turned = 0.0          # part of the positives and parts that are turned, ...
config.samples.angle = 30.0          # ... by as much at most, degrees
config.samples.seed = 0

# --- samples with landmarks (prepare_data.landmark_samples) ---------------------------------
config.landmark_samples = EasyDict()
config.landmark_samples.base_num = 5        # samples of each face
config.landmark_samples.box = "points"      # what they are cut around: points, the square that a
                                            # detector would give a face with these; list, its box
config.landmark_samples.scale = [0.8, 1.25]  # side, in sides of that box
config.landmark_samples.shift = 0.15        # of the centre, in x and in y, at most; in sides
config.landmark_samples.angle = 15.0        # turned by as much at most, degrees
config.landmark_samples.margin = 0.0        # of the side, that points keep clear of its edges
config.landmark_samples.padding = 0.1       # of a crop's area that may lie out of the picture
config.landmark_samples.min_face = 20       # faces whose box is smaller give none, px
config.landmark_samples.seed = 0

# --- crops that landmark nets are trained on (prepare_data.face_crop, core.train.landmark_loader)
# A row is a preset, crop.preset=NAME; of its two dicts the first is for five points. Lengths are in
# sides of the face's box unless it says otherwise.
CROPS = {
    # As train-mtcnn trained its nets, with its defects mended. For points whose scheme doesn't say
    # where a detector's box is, the second dict holds by default.
    "train-mtcnn": (
        dict(box="half", scale=[0.5, 2.5], plain=2.0, shift=0.4, angle=45.0, upright=False,
             margin=[-0.05, 0.05, -0.05, -0.05], nose=True, spread=0.2, blur=[0.67, 12],
             occlusion=[0.0, 0.1, 0.4]),
        dict(box="bounds", scale=[1.0, 1.5], plain=1.25, shift=0.2, angle=45.0, upright=False,
             margin=[-0.15, -0.15, -0.15, -0.15], nose=False, spread=1.0, blur=[0.67, 12],
             occlusion=[0.0, 0.1, 0.4])),
    # What a net sees that runs after a detector: squares about its boxes, with its scatter.
    "detector": (
        dict(box="detector", scale=[0.8, 1.25], plain=1.0, shift=0.12, angle=30.0, upright=False,
             margin=[-0.1, -0.1, -0.1, -0.1], nose=False, spread=0.0, blur=[0.3, 4],
             occlusion=[0.3, 0.1, 0.4]),) * 2,
}
config.crop = EasyDict(
    CROPS["detector"][1],
    preset="detector",   # a row of CROPS, whose values hold where nothing else is said
    tries=1000,          # draws for a face, then it gets the plain crop
    min_face=12)         # faces whose points reach over less are not cut, px
# box        what crops are cut around: bounds, the square about the points; half, half of the
#            list's box about eyes and mouth; detector, the square that a detector would give; list,
#            the list's box
# scale      side of the crop, drawn between
# plain      side of the crop where nothing is drawn: in validation, and in use
# shift      of the crop's centre in x and in y, at most
# angle      the crop is turned by as much at most, degrees; with upright, from the face's own angle
# margin     what the points keep clear of the crop's left, top, right and bottom edge, in sides of
#            the crop; below 0: what they may lie out of it
# nose       whether the nose's mirror image, at the middle of eyes and mouth, keeps to it as well
# spread     width^2 + height^2 of the points is this at least, in squares of the crop's side
# blur       probability, and the largest radius, of a Gaussian blur; px of the crop
# occlusion  probability of a patch of another sample, and its least and greatest side, in sides of
#            the crop

# --- crops of bodies that heat-map nets are trained on (core.train.heatmaps) -----------------
# scale, plain, shift, angle, blur and occlusion as above, of the list's box.
config.joints = EasyDict()
config.joints.scale = [1.0, 1.5]
config.joints.plain = 1.25
config.joints.shift = 0.05
config.joints.angle = 45.0
config.joints.blur = [0.67, 12]
config.joints.occlusion = [0.0, 0.1, 0.4]
config.joints.sigma = 3.0            # of the spot in a joint's map, exp(-d^2 / sigma^2), its pixels
config.joints.min_side = 80          # bodies whose box is smaller are left out, px

# --- labels checked with another detector (prepare_data.teacher) -----------------------------
config.teacher = EasyDict()
config.teacher.floor = 0.1           # boxes with smaller scores aren't written down
config.teacher.iou = 0.3             # a box and a labelled face with this IoU are of one face
config.teacher.score = 0.5           # from it on a box of no labelled face is taken for a face
config.teacher.hopeless = 0.15       # labelled faces whose best box is below it are no use
config.teacher.min_face = 20         # ... except smaller ones, which detectors miss anyway, px

# --- hard examples (prepare_data.mine) -------------------------------------------------------
config.mine = EasyDict()
config.mine.pnet = [0.5]             # thresholds of the nets that find examples for a Pnet, ...
config.mine.rnet = [0.5]             # ... for an Rnet ...
config.mine.onet = [0.6, 0.5]        # ... and for an Onet
config.mine.max_negative_iou = 0.1   # below it, with every face: negative
config.mine.positives = False        # positives and parts of the boxes near faces as well, by the
config.mine.parts = False            # IoUs of samples
config.mine.min_side = 20            # smaller squares are left out, px
config.mine.per_picture = 100        # samples of a kind at most, drawn at random, of a picture ...
config.mine.total = 300_000          # ... and in all
config.mine.seed = 0

# --- losses: symbols.losses has the rule ----------------------------------------------------
config.loss = EasyDict()
config.loss.cls = EasyDict(weight=1.0, ohem=0.7)
# kind: l2, smooth_l1 or wing; beta, wing_w and wing_eps in units of the target (crop sides)
config.loss.bbox = EasyDict(weight=2.0, ohem=0.7, kind="l2", beta=0.1, wing_w=0.04, wing_eps=0.008)
# groups: factors by group of points, e.g. eyebrows:2,lips:2; adaptive: power of a group's error
# over the mean that its weight is multiplied by, 0 for none; point_ohem: part of the points kept
config.loss.landmark = EasyDict(weight=1.0, ohem=1.0, point_ohem=1.0, groups="", adaptive=0.0,
                                kind="l2", beta=0.02, wing_w=0.04, wing_eps=0.008)
# The loss of a sample is summed over the pixels of its maps: with this weight, over 28 x 28, it is
# the sum of the maps' means.
config.loss.heatmap = EasyDict(weight=1 / 784, ohem=1.0, kind="l2", beta=0.1, wing_w=0.1,
                               wing_eps=0.02)

# --- pixel augmentation of training batches (core.train.augment) -----------------------------
config.augment = EasyDict()
config.augment.flip = True           # mirror each sample with probability 0.5
config.augment.brightness = [0.6, 0.8, 1.0, 1.2]  # factors, one drawn per sample
config.augment.gray = 0.5            # probability of grey, in all three channels
config.augment.color = 0.2           # else each channel times U(1 - color, 1 + color)
config.augment.noise = [1, 10]       # its variance is a whole number drawn between; 0,0: none

# --- what makes photographs hard, done to samples with boxes (core.train.loader) --------------
# The first number of each is the probability, by the sample. Landmark nets have crop.blur and
# crop.occlusion.
config.degrade = EasyDict()
config.degrade.gamma = [0.0, 2.0]    # its power is drawn between 1/this and this
config.degrade.occlusion = [0.0, 0.1, 0.5]  # a patch of another sample, sides from, to, in its own
config.degrade.motion = [0.0, 0.3]   # blur along a line of this length at most, in sides
config.degrade.blur = [0.0, 3]       # Gaussian, of this radius at most, px of the sample
config.degrade.shrink = [0.0, 0.4]   # scaled down to this part of its side at least, and up again
config.degrade.jpeg = [0.0, 30]      # compressed with this quality at least

# --- training (core.train) ------------------------------------------------------------------
config.train = EasyDict()
config.train.batch = 256
config.train.mix = []                # positives : parts : negatives : mined negatives : landmarks
                                     # in a batch; empty: 1,1,3 or, with mined ones, 1,1,2,1, and
                                     # 2 of landmarks where a net learns them
config.train.epochs = 16
config.train.optimizer = "adam"      # adam or sgd
config.train.lr = 0.02               # for gradients averaged over the samples kept; of sgd 0.3
config.train.warmup = 300            # updates over which the rate rises to lr
config.train.schedule = "cosine"     # cosine (to 0 over the epochs) or step
config.train.lr_steps = [8, 14]      # step: epochs after which the rate is multiplied by lr_factor
config.train.lr_factor = 0.1
config.train.momentum = 0.9          # adam: of the gradients' mean
config.train.mine_from = 2           # epoch from which loss.*.ohem and point_ohem hold; all samples
                                     # and points count before
config.train.prelu_slope = 0.25      # where PReLU slopes start
config.train.val_fraction = 0.1      # part of the pictures held out (prepare_data.held_out)
config.train.weight_decay = 1e-5
config.train.seed = 0
config.train.prefetch = 4            # batches made ahead of the net
config.train.gpus = []               # CUDA device numbers; empty: the CPU

# Defaults of nets of landmarks alone, where they differ. With smooth_l1 a net gets to within a
# hundredth of the crop on faces it knows in half the steps that it takes with l2.
LANDMARK_TRAINING = {"train.batch": 64, "train.lr": 0.05, "train.warmup": 200, "train.epochs": 40,
                     "loss.landmark.kind": "smooth_l1"}

# --- detection (facelet.cascade, facelet.detector) and its evaluation (core.evaluate) --------
# facelet.settings has the values, and what each is; lists, as all here.
config.detect = EasyDict({name: list(value) if isinstance(value, tuple) else value
                          for name, value in asdict(Settings()).items()})
config.detect.max_pixels = MAX_PIXELS  # width x height of the largest picture that any program
                                     # decodes; larger ones are named and passed over
config.detect.max_seconds = MAX_SECONDS  # that decoding one may take, then it is passed over, and a
                                     # tenth of what a worker process may take over a picture, or
                                     # anything else that it is at, then the program ends
config.evaluate = EasyDict()
config.evaluate.iou = 0.5            # a face is found when a box has this IoU with it
config.evaluate.min_face = 20        # faces counted: side of the labelled box, px
config.evaluate.side = "larger"      # ... which of them: larger or smaller
config.evaluate.ious = [0.4, 0.5, 0.65]  # of the table of stages
config.evaluate.sizes = [20, 40]     # average precision is over faces from each of these sizes, px
config.evaluate.floor = 0.02         # ... and over boxes with scores over it, from the last net
config.evaluate.box_scatter = [0.12, 0.08, 0.06]  # of a detector's box about a face, one standard
                                     # deviation: log of its side, centre in x and in y, in sides
config.evaluate.box_draws = 5        # of which landmarks are measured with as many a face; 0: none

# --- from pictures to a detector (core.pipeline) ---------------------------------------------
# A run goes on after a Pnet, Rnet, Onet if the cascade so far finds enough of the faces on held-out
# pictures, with few enough boxes: any recall can be had for enough boxes, which the next net then
# has to tell apart. Boxes are counted by the labelled face (of evaluate.min_face and more): a
# picture with more faces, or a larger one, has more of them. With many faces unlabelled, or many
# pictures without any, more must be allowed.
config.pipeline = EasyDict()
config.pipeline.floors = [0.85, 0.8, 0.75]  # recall, at least
config.pipeline.most_boxes = [100.0, 25.0, 5.0]  # boxes a face, at most


RENAMED = {"second": "teacher"}  # sections by their old name


def _from(low, high):
    """Test and words of a row of LIMITS."""
    return lambda value: low <= value <= high, f"from {low:,} to {high:,}"


def _over(low, high):
    return lambda value: low < value <= high, f"more than {low:,}, up to {high:,}"


# Beyond these a number has no use: it is a slip, or would take more than there is.
PX = 100_000        # of a side of a picture, and of what is in it
EACH = 100_000      # things that are made of one picture or face
EPOCHS = 100_000
SEEDS = 2**32 - 1

# What a value must be, beside its type: (keys, test, in words).
LIMITS = (
    (("samples.min_face", "landmark_samples.min_face", "evaluate.min_face", "mine.min_side",
      "teacher.min_face", "crop.min_face", "joints.min_side"), *_from(1, PX)),
    (("samples.base_num", "landmark_samples.base_num"), *_from(1, 1000)),
    (("samples.negatives", "samples.near_negatives", "samples.positives"), *_from(0, EACH)),
    (("mine.per_picture",), *_from(1, EACH)),
    (("mine.total",), *_from(1, 10**9)),
    (("train.batch",), *_from(1, 65_536)),
    (("train.epochs",), *_from(1, EPOCHS)),
    (("train.mine_from",), *_from(0, EPOCHS)),
    (("train.prefetch",), *_from(1, 1000)),
    (("train.warmup",), *_from(0, 10**7)),
    (("train.lr_steps",), lambda v: all(0 <= x <= EPOCHS for x in v),
     f"epochs from 0 to {EPOCHS:,}"),
    (("train.gpus",), lambda v: all(x % 1 == 0 and 0 <= x < 1000 for x in v),
     "device numbers from 0 to 999"),
    (("train.prelu_slope",), *_from(-10, 10)),
    (("train.weight_decay",), *_from(0, 1)),
    (("detect.max_pixels",), *_from(1, MOST_PIXELS)),
    (("samples.seed", "landmark_samples.seed", "mine.seed", "train.seed"), *_from(0, SEEDS)),
    (("mine.pnet", "mine.rnet"), lambda v: len(v) == 1 and 0 <= v[0] <= 1,
     "one number from 0 to 1"),
    (("mine.onet",), lambda v: len(v) == 2 and all(0 <= x <= 1 for x in v),
     "two numbers from 0 to 1, for Pnet,Rnet"),
    (("mine.max_negative_iou", "teacher.iou", "evaluate.iou"), lambda v: 0 < v <= 1, "in (0, 1]"),
    (("samples.max_negative_iou", "samples.min_part_iou", "samples.min_positive_iou",
      "samples.keep_part", "landmark_samples.shift", "landmark_samples.padding", "crop.shift",
      "joints.shift", "samples.turned", "augment.gray", "augment.color", "teacher.floor",
      "teacher.score", "teacher.hopeless", "evaluate.floor"), *_from(0, 1)),
    (("loss.cls.weight", "loss.bbox.weight", "loss.landmark.weight", "loss.heatmap.weight"),
     *_from(0, 10**6)),
    (("loss.landmark.adaptive",), *_from(0, 100)),
    (("landmark_samples.box",), lambda v: v in ("points", "list"), "points or list"),
    (("landmark_samples.scale", "crop.scale", "joints.scale"),
     lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 100, "two factors over 0, low,high, up to 100"),
    (("landmark_samples.angle", "samples.angle", "crop.angle", "joints.angle"),
     lambda v: 0 <= v <= 180, "from 0 to 180 degrees"),
    (("degrade.gamma",), lambda v: len(v) == 2 and 0 <= v[0] <= 1 <= v[1] <= 10,
     "a probability and a power from 1 to 10"),
    (("degrade.motion", "degrade.shrink"),
     lambda v: len(v) == 2 and 0 <= v[0] <= 1 and 0 < v[1] <= 1,
     "a probability and a part of the side, up to 1"),
    (("degrade.jpeg",),
     lambda v: len(v) == 2 and 0 <= v[0] <= 1 and 1 <= v[1] <= 95 and v[1] % 1 == 0,
     "a probability and a quality from 1 to 95"),
    (("landmark_samples.margin",), lambda v: -0.5 < v < 0.5, "between -0.5 and 0.5"),
    (("evaluate.side",), lambda v: v in ("larger", "smaller"), "larger or smaller"),
    (("crop.preset",), lambda v: v in CROPS, " or ".join(CROPS)),
    (("crop.box",), lambda v: v in ("bounds", "half", "detector", "list"),
     "bounds, half, detector or list"),
    (("crop.plain", "joints.plain"), *_over(0, 100)),
    (("joints.sigma",), *_over(0, 1000)),
    (("crop.margin",), lambda v: len(v) == 4 and all(-1 < x < 0.5 for x in v),
     "four numbers between -1 and 0.5, left,top,right,bottom"),
    (("crop.spread",), lambda v: 0 <= v < 2, "from 0 to below 2"),
    (("crop.tries",), *_from(1, 10**6)),
    (("crop.blur", "joints.blur", "degrade.blur"),
     lambda v: len(v) == 2 and 0 <= v[0] <= 1 <= v[1] <= 1000 and v[1] % 1 == 0,
     "a probability and a whole number of pixels, up to 1,000"),
    (("crop.occlusion", "joints.occlusion", "degrade.occlusion"),
     lambda v: len(v) == 3 and 0 <= v[0] <= 1 and 0 < v[1] <= v[2] <= 1,
     "a probability and two sides, low,high, up to 1"),
    (("train.lr",), *_over(0, 1000)),
    (("detect.max_seconds",), *_over(0, MOST_SECONDS)),
    (("train.lr_factor",), *_over(0, 10)),
    (tuple(f"loss.{head}.{key}" for head in ("bbox", "landmark", "heatmap")
           for key in ("beta", "wing_w", "wing_eps")), *_over(0, 1000)),
    (("train.momentum",), lambda v: 0 <= v < 1, "from 0 to below 1"),
    (("train.optimizer",), lambda v: v in ("sgd", "adam"), "sgd or adam"),
    (("loss.cls.ohem", "loss.bbox.ohem", "loss.landmark.ohem", "loss.landmark.point_ohem",
      "loss.heatmap.ohem"), lambda v: 0 < v <= 1,
     "in (0, 1]"),
    (("train.val_fraction",), lambda v: 0 < v < 1, "between 0 and 1"),
    *(((f"detect.{name}",), *rule) for name, rule in DETECT_LIMITS.items()),
    (("pipeline.floors",),
     lambda v: len(v) == 3 and all(0 <= x <= 1 for x in v),
     "three numbers from 0 to 1, for Pnet,Rnet,Onet"),
    (("pipeline.most_boxes",), lambda v: len(v) == 3 and all(0 < x <= 10**9 for x in v),
     "three numbers over 0, for Pnet,Rnet,Onet, up to 1,000,000,000"),
    (("augment.noise",), lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 255**2,
     f"two numbers, low,high, from 0 to {255**2:,}"),
    (("augment.brightness",), lambda v: len(v) >= 1 and all(0 < x <= 100 for x in v),
     "factors over 0, up to 100"),
    (("evaluate.ious",), lambda v: len(v) and all(0 < x <= 1 for x in v), "numbers in (0, 1]"),
    (("evaluate.sizes",), lambda v: len(v) and all(1 <= x <= PX for x in v),
     f"sizes from 1 to {PX:,} px"),
    (("evaluate.box_scatter",), lambda v: len(v) == 3 and all(0 <= x <= 10 for x in v),
     "three numbers from 0 to 10, for side, x and y"),
    (("evaluate.box_draws",), lambda v: v == 0 or 2 <= v <= 1000, "0, or from 2 to 1,000"),
    (("train.mix",),
     lambda v: not v or (len(v) <= 5 and all(0 <= x <= 1000 for x in v) and sum(v) > 0),
     "up to five shares, positive,part,negative,mined negative,landmark, each up to 1,000"),
    (("input.mean",), *_from(0, 255)),
    (("input.scale",), *_over(0, 1)),
)


def _value(tree, key):
    for part in key.split("."):
        tree = tree[part]
    return tree


def check(tree):
    """Raise Problem for a value out of LIMITS; sections that `tree` lacks are let be."""
    known = set(_keys(tree))
    for keys, holds, words in LIMITS:
        for key in keys:
            if key in known and not holds(_value(tree, key)):
                raise Problem(f"{key} is {_value(tree, key)}: it must be {words}")


def _keys(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def values(tree):
    """All values of a configuration by dotted key."""
    return {key: _value(tree, key) for key in _keys(tree)}


def _typed(key, old, text):
    """`text` as a value of the type of `old`. Raises Problem."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, float) and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if isinstance(old, list) and isinstance(value, (tuple, int, float)) and value is not True:
        value = list(value) if isinstance(value, tuple) else [value]
    wrong = type(value) is not type(old)
    if isinstance(old, list) and not wrong:
        wrong = not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if wrong:
        kind = {bool: "True or False", int: "a whole number", float: "a number",
                list: "numbers like 1,1,3"}[type(old)]
        raise Problem(f"{key}={text}: it must be {kind}")
    return value


@cache  # one line, however often a program resolves its settings
def _new_spelling(key):
    section, dot, name = key.partition(".")
    if section not in RENAMED or not dot:
        return key
    new = f"{RENAMED[section]}.{name}"
    print(f"note: {key} is now {new}; the old spelling will go", file=sys.stderr)
    return new


def override(tree, assignments):
    """A copy of `tree` with "section.key=value" assignments applied; values take the type of
    the default; a section's old name works, and a line says so. Raises Problem for an unknown key,
    a value of another type or out of LIMITS."""
    tree = copy.deepcopy(tree)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = _new_spelling(key)
        known = list(_keys(tree))
        if not equals:
            raise Problem(f"{assignment!r} is no override: write section.key=value")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
            raise Problem(f"there is no setting {key!r}"
                          + (f"; near: {', '.join(near)}" if near else "; config.py has them all"))
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[last] = _typed(key, node[last], text)
    check(tree)
    return tree


def for_landmarks(points, assignments=(), scheme=None):
    """A copy of `config` for nets of landmarks alone with a number of points: LANDMARK_TRAINING,
    config.crop as its preset has it, then "section.key=value" assignments applied as by
    override().

    scheme -- name of the points' order (facelet.schemes); None: any with so many points. Where it
        has no box, and no preset is said, crops are those of train-mtcnn's about the points' bounds
    """
    tree = override(config, [f"{key}={value}" for key, value in LANDMARK_TRAINING.items()])
    said = [text for text in assignments if text.startswith("crop.preset=")]
    preset, row = override(config, said).crop.preset, points != 5
    known = [schemes.get(scheme)] if scheme else schemes.of(points)
    if not said and known and not any(one.box for one in known):
        preset, row = "train-mtcnn", 1
    tree.crop.update(copy.deepcopy(CROPS[preset][row]), preset=preset)
    return override(tree, assignments)

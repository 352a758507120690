"""Errors of the landmark points that nets give to annotated faces.

    python -m core.evaluate landmarks --net FILE ... --faces FACES --out FOLDER
    python -m core.evaluate landmarks --net A B --crop bounds:1.25,best --faces FACES --out FOLDER

leaves in FOLDER landmarks.json, errors-all.png and for each net faces-1.png: its worst faces and
those in the middle. FACES is a store of prepare_data.points cut, or what prepare_data.points check
takes. If a net's points are not those that the faces have, all nets are compared at the places that
their points and the faces' have in common (errors-shared.png); those with the faces' own points at
all of these too.

Measured are the faces of the pictures that training holds out (train.val_fraction, train.seed), or
of another share, but for pictures that a net compared was trained on, as its manifest has it
(prepare_data.held_out). The error of a face is the mean distance of its points from the true ones
over a size of the face, by each rule of core.evaluate.metrics.face_sizes. The mean face knows nothing: it says of
every crop what is the mean of the points in exact crops of other faces, each as it is and mirrored.

Crops are made from the true points, each net's by its own rule (prepare_data.face_crop.boxes_of). Exact
ones tell where the face is, and how large. So nets are measured on scattered ones too, evaluate.
box_draws of each face, the same for all nets: moved and scaled as a detector's boxes scatter about
faces (evaluate.box_scatter). How far the points of a face move with them, the root mean square
distance from their mean place, stands beside. No crop is turned.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config import config, for_landmarks, override
from core.detect import nets
from core.evaluate import landmark_pictures, metrics, plots
from core.formats.checkpoint import describe
from facelet import schemes
from facelet.console import Problem, Progress
from facelet.files import write_json
from facelet.picture import BrokenPicture, to_input
from prepare_data import face_crop
from prepare_data.held_out import is_held_out, split_faces
from prepare_data.points import face_sets
from prepare_data.points import sets as points

BATCH = 64
OTHERS = 2000  # faces that the mean face is made of, at most
TRIED_ON = 200  # of these, at most, `--crop best` is found on
TRIED = 1.1 ** np.arange(-1, 14)  # sides of crops tried, in sides of the square about the points
SHOWN = 12  # faces of each kind in a net's picture
SKIPPED = 10  # pictures skipped that are named
EXACT, SCATTERED = "exact", "scattered"  # boxes
NET, MEAN_FACE = "net", "mean_face"  # who says where the points are
ALL, SHARED = "all", "shared"  # views
BEST, USUAL = "best", "usual"  # in place of a Rule


@dataclass(frozen=True)
class Rule:
    """What a net's crops are: the box that they are cut around, one of those of config.crop.box,
    and their side in sides of it."""

    box: str
    side: float

    def __str__(self):
        return f"{self.box} x {self.side:.4g}"


@dataclass(frozen=True)
class View:
    """What is compared: places by name, each the mean of points of the net, and of the truth (lists
    of tuples); groups -- {name: list of places by number}"""

    names: list
    net: list
    truth: list
    groups: dict

    def of_net(self, found):
        return _means(found, self.net)

    def of_truth(self, truth):
        return _means(truth, self.truth)


def _means(found, rows):
    return np.stack([found[..., list(row), :].mean(axis=-2) for row in rows], axis=-2)


def common_places(wanted, truth):
    """Names of the places that nets' schemes, `wanted`, and the truth's all have; none if they are
    all one. Raises Problem where nothing can be compared."""
    if {*wanted} == {truth}:
        return []
    rows = [schemes.shared(scheme, truth) for scheme in wanted]
    places = [place for place in rows[0] if all(place in row for row in rows)]
    if not places:
        raise Problem(
            f"points of the schemes {', '.join(sorted({*wanted, truth}))} have no place "
            "in common where they could be compared"
        )
    return places


def views(net, truth, places):
    """The Views of a net's points on faces by their schemes: ALL points, if these are the same
    ones, and SHARED `places`, if there are any."""
    found = {}
    if schemes.get(net).base == schemes.get(truth).base:
        count, groups = schemes.get(truth).points, schemes.get(truth).groups
        order = schemes.convert(np.arange(count)[:, None], net, truth)[:, 0]
        found[ALL] = View(
            [str(i) for i in range(count)],
            [(i,) for i in order.tolist()],
            [(i,) for i in range(count)],
            groups,
        )
    if places:
        rows = schemes.shared(net, truth)
        found[SHARED] = View(
            places,
            [rows[place][0] for place in places],
            [rows[place][1] for place in places],
            {place: [i] for i, place in enumerate(places)},
        )
    return found


# ---- crops ---------------------------------------------------------------------------------


class Measured:
    """Faces that nets are measured on, and others.

    faces -- prepare_data.points.face_sets.Cuts, or what is like it
    indices -- which of them are measured; others -- which make the mean face: they are not among
        those unless all are measured
    skipped -- a line for each that is measured but can't be read
    """

    def __init__(self, faces, held_out, settings):
        self.faces, self.scheme, self.settings = faces, schemes.get(faces.scheme), settings
        seed = settings.train.seed
        self.indices = self.others = np.arange(len(faces))
        self.held_out, self.apart = held_out, held_out < 1
        if self.apart:
            (self.others,), (self.indices,), _ = split_faces([faces], held_out, seed)
        rng = np.random.default_rng([seed, 5])
        self.others = np.sort(rng.permutation(self.others)[:OTHERS])
        self.indices, self.skipped = _readable(faces, self.indices)
        draws = settings.evaluate.box_draws if self.scheme.box else 0
        self.draws = (
            rng.standard_normal((draws, len(self.indices), 3)) * settings.evaluate.box_scatter
        )

    def leave_out_trained_on(self, opened):
        """Measure no face of a picture that one of some nets was trained on, as far as they say
        (prepare_data.held_out); unless all faces are measured. Returns how many are left out.
        Raises Problem where no face stays."""
        rules = [rule for net in opened for rule in net.facts.get("held_out", [])]
        if not self.apart or not rules:
            return 0
        names = self.faces.names()
        kept = is_held_out([names[index] for index in self.indices], *rules)
        if not kept.any():
            raise Problem(
                f"{self.faces.path}: of the pictures to measure none was held out from the training "
                "of every net; with train.seed and train.val_fraction as in training some are, and "
                "--held-out 1 measures all"
            )
        self.indices, self.draws = self.indices[kept], self.draws[:, kept]
        return int((~kept).sum())

    def squares(self, indices, rule):
        """Exact crops of faces: (N, 4)."""
        crop = {**self.settings.crop, "box": rule.box, "plain": rule.side}
        return face_crop.plain(
            self.faces.points_of[indices],
            self.faces.boxes[indices],
            type(self.settings.crop)(crop),
            self.faces.scheme,
        )

    def scattered(self, indices, squares, draws):
        """Crops (N, 4) of faces moved and scaled by draws (D, N, 3): (D, N, 4)."""
        _, side = face_crop.boxes_of(
            self.faces.points_of[indices], self.faces.boxes[indices], "detector", self.faces.scheme
        )
        centre = (squares[:, :2] + squares[:, 2:]) / 2 + draws[:, :, 1:] * side[:, None]
        half = (squares[:, 2:] - squares[:, :2]) / 2 * np.exp(draws[:, :, :1])
        return np.concatenate([centre - half, centre + half], axis=2)

    def boxes(self, rule):
        """Crops of the faces measured, {EXACT: (1, N, 4), SCATTERED: (D, N, 4)}: there are no
        scattered ones of a scheme that doesn't say where a detector's boxes are."""
        squares = self.squares(self.indices, rule)
        if not len(self.draws):
            return {EXACT: squares[None]}
        return {EXACT: squares[None], SCATTERED: self.scattered(self.indices, squares, self.draws)}

    def placed(self, indices, squares):
        """True points in crops (..., N, 4) of faces: (..., N, P, 2) in crop sides."""
        corner, side = squares[..., None, :2], (squares[..., 2] - squares[..., 0])[..., None, None]
        return (self.faces.points_of[indices] - corner) / side

    def mean_face(self, rule):
        """What the mean face says of crops by a rule: (P, 2)."""
        placed = self.placed(self.others, self.squares(self.others, rule))
        if self.scheme.partners:
            placed = np.concatenate([placed, schemes.flip(placed, self.faces.scheme)])
        return placed.mean(axis=0)

    def sizes(self, placed):
        """Sizes of faces with points (N, P, 2) by rule, in their unit: {rule: (N,)}."""
        return metrics.face_sizes(placed, self.scheme.eyes, self.scheme.corners)


def _readable(faces, indices):
    """Those of `indices` whose pictures can be read, and why the others can't."""
    kept, skipped = [], []
    for index in indices.tolist():
        try:
            faces.read(index)
            kept.append(index)
        except BrokenPicture as error:
            skipped.append(str(error))
    if not kept:
        raise Problem(
            f"none of the {len(indices):,} faces to measure can be read"
            + (f"; the first: {skipped[0]}" if skipped else "")
        )
    return np.array(kept), skipped


def said(net, faces, indices, squares, progress=None):
    """The points that a net gives in crops (D, N, 4) of N faces: (D, N, P, 2) in crop sides. Raises
    Problem where they are no numbers."""
    size, found = net.facts["input"]["size"], []
    for start in range(0, len(indices), BATCH):
        chosen = slice(start, start + BATCH)
        images = [faces.read(index) for index in indices[chosen].tolist()]
        found.append(
            [
                schemes.unpack(
                    net(
                        to_input(
                            np.stack([face_crop.crop(*each, 0, size) for each in zip(images, some)])
                        )
                    )["landmark"]
                )
                for some in squares[:, chosen]
            ]
        )
        if progress:
            progress.step(len(images) * len(squares))
    found = np.concatenate(found, axis=1).astype(np.float64)
    if not np.isfinite(found).all():
        raise Problem(
            f"{net.name} gives points that are no numbers: its training has gone astray, "
            "or the file is damaged"
        )
    return found


# ---- figures -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """What is wrong in crops (D, N) at P places.

    by_rule -- {rule of size: (D, N, P)}, NaN for faces without that size
    moved -- {rule of size: how far points move}, None of one crop a face
    coordinates -- metrics.coordinate_errors()
    """

    by_rule: dict
    moved: dict
    coordinates: dict


def errors(found, placed, sizes):
    """The Errors of points, (D, N, P, 2) or the same (P, 2) in all crops, against true ones
    (D, N, P, 2), in crop sides; sizes -- of the faces by rule, (D, N), likewise."""
    off = {rule: (found - placed) / size[..., None, None] for rule, size in sizes.items()}
    return Errors(
        {rule: np.linalg.norm(values, axis=3) for rule, values in off.items()},
        {rule: metrics.movement(values) for rule, values in off.items()}
        if len(placed) > 1
        else None,
        metrics.coordinate_errors(found, placed),
    )


def measure(net, rule, measured, every_view, progress=None):
    """{view: {boxes: {who: Errors}}} of a net on a Measured, with crops by a Rule; and the points
    that it gave in exact crops, (N, P, 2) in crop sides."""
    results, mean_face = {name: {} for name in every_view}, measured.mean_face(rule)
    for boxes, squares in measured.boxes(rule).items():
        found = said(net, measured.faces, measured.indices, squares, progress)
        placed = measured.placed(measured.indices, squares)
        sizes = [measured.sizes(some) for some in placed]
        sizes = {
            name: np.stack([some[name] for some in sizes])
            for name, first in sizes[0].items()
            if np.isfinite(first).any()
        }
        for name, view in every_view.items():
            true = view.of_truth(placed)
            results[name][boxes] = {
                NET: errors(view.of_net(found), true, sizes),
                MEAN_FACE: errors(view.of_truth(mean_face), true, sizes),
            }
        if boxes == EXACT:
            exact = found[0]
    return results, exact


def figures(found, view):
    """JSON values of Errors at the places of a View."""
    by_rule = {}
    for rule, values in found.by_rule.items():
        by_rule[rule] = {
            **metrics.error_figures(values.mean(axis=2).ravel()),
            "groups": {
                name: float(np.nanmean(values[:, :, places]))
                for name, places in view.groups.items()
            },
            "places": np.nanmean(values, axis=(0, 1)).tolist(),
        }
        if found.moved:
            by_rule[rule]["moved"] = found.moved[rule]
    return {"by_rule": by_rule, "per_coordinate": found.coordinates}


# ---- a net's crops -------------------------------------------------------------------------


def parsed(text, settings):
    """The Rule that "bounds:1.25" stands for; BEST and USUAL stay. Raises Problem."""
    if text in (BEST, USUAL):
        return text
    box, colon, side = text.partition(":")
    if not colon:
        raise Problem(
            f"--crop {text}: write best, usual, or a box and the crop's side in its "
            "sides, like bounds:1.25"
        )
    crop = override(settings, [f"crop.box={box}", f"crop.plain={side}"]).crop
    return Rule(crop.box, crop.plain)


def usual(net, assignments):
    """The Rule that a net was trained by, as its facts say, or else that of config.crop."""
    said = net.facts.get("crop")
    if said is not None:
        try:
            return parsed(f"{said.get('box')}:{said.get('scale')}", config)
        except Problem:
            raise Problem(
                f"{net.name} says that it was trained on crops of {said}: that can't be; "
                "train or export it anew"
            ) from None
    crop = for_landmarks(net.facts["points"], assignments).crop
    return Rule(crop.box, crop.plain)


def best(net, measured, view):
    """The Rule that gives a net the smallest mean error over faces that are not measured, and
    [(Rule, error)] of all that were tried. Raises Problem if there are no other faces.

    Crops are scattered, if that can be, one of each face: the smaller exact ones are, the more they
    tell of where the points are."""
    if not measured.apart:
        raise Problem(
            "--crop best takes faces that are not measured: measure a share of them, "
            "with --held-out below 1"
        )
    indices, _ = _readable(measured.faces, measured.others[:TRIED_ON])
    points_of, listed = measured.faces.points_of[indices], measured.faces.boxes[indices]
    (_, unit), tried = face_crop.boxes_of(points_of, listed, "bounds", measured.faces.scheme), []
    boxes = ("bounds", "detector") if measured.scheme.box else ("bounds",)
    rng = np.random.default_rng([measured.settings.train.seed, 6])
    scatter = rng.standard_normal((1, len(indices), 3)) * measured.settings.evaluate.box_scatter
    progress = Progress(len(boxes) * len(TRIED), "crops tried")
    for box in boxes:
        _, side = face_crop.boxes_of(points_of, listed, box, measured.faces.scheme)
        for rule in [Rule(box, float(f"{times * np.median(unit / side):.2f}")) for times in TRIED]:
            squares = measured.squares(indices, rule)[None]
            if measured.scheme.box:
                squares = measured.scattered(indices, squares[0], scatter)
            placed = measured.placed(indices, squares)[0]
            size = next(iter(measured.sizes(placed).values()))
            found = view.of_net(said(net, measured.faces, indices, squares)[0])
            off = metrics.point_errors(found, view.of_truth(placed), size)
            tried.append((rule, float(np.nanmean(off))))
            progress.step()
    progress.close()
    return min(tried, key=lambda row: row[1])[0], tried


# ---- the program ---------------------------------------------------------------------------


def evaluate(paths, rules, measured, out, settings, assignments=()):
    """Measure nets in files on a Measured; prints the figures, leaves them and pictures in the
    folder `out` and returns them, JSON values.

    rules -- for each net a Rule, or BEST or USUAL for what best() or usual() says

    Raises Problem for nets that give no points, or points that can't be compared.
    """
    out, opened = Path(out), [_opened(path) for path in paths]
    trained_on = measured.leave_out_trained_on(opened)
    truth = measured.faces.scheme
    places = common_places([net.facts["scheme"] for net in opened], truth)
    result = {
        "faces": len(measured.indices),
        "set": measured.faces.describe(),
        "scheme": truth,
        "held_out": measured.held_out,
        "skipped": measured.skipped,
        "trained_on": trained_on,
        "mean_face_of": len(measured.others),
        "nets": [],
        "boxes": {"draws": len(measured.draws), "scatter": settings.evaluate.box_scatter},
    }
    shown, every_error, all_views = [], {}, {}
    for number, (net, rule) in enumerate(zip(opened, rules), 1):
        every_view = views(net.facts["scheme"], truth, places)
        all_views.update(every_view)
        first, tried = next(iter(every_view.values())), []
        if rule == BEST:
            rule, tried = best(net, measured, first)
        elif rule == USUAL:
            rule = usual(net, assignments)
        progress = Progress(len(measured.indices) * (1 + len(measured.draws)), "crops")
        found, exact = measure(net, rule, measured, every_view, progress)
        progress.close()
        result["nets"].append(
            {
                "file": net.name,
                "net": describe(net.facts["net"], net.facts["options"]),
                "points": net.facts["points"],
                "scheme": net.facts["scheme"],
                "crop": {"box": rule.box, "side": rule.side},
                "tried": [
                    {"box": one.box, "side": one.side, "error": error} for one, error in tried
                ],
                "views": {
                    name: {
                        boxes: {who: figures(one, every_view[name]) for who, one in some.items()}
                        for boxes, some in by.items()
                    }
                    for name, by in found.items()
                },
            }
        )
        for name, by in found.items():
            every_error.setdefault(name, {})[number] = by
        shown.append((rule, first, exact, found[next(iter(found))][EXACT][NET]))
    result["places"] = {name: view.names for name, view in all_views.items()}
    show(result)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "landmarks.json", result)
    written = ["landmarks.json"]
    for name in result["places"]:
        written.append(f"errors-{name}.png")
        plots.landmarks(every_error[name], all_views[name], out / written[-1], _title(result, name))
    for number, one in enumerate(shown, 1):
        written.append(f"faces-{number}.png")
        _draw(measured, result, number, *one, out / written[-1])
    print(f"in {out}: {', '.join(written)}")
    return result


def _opened(path):
    net = nets.open_net(path)
    if "landmark" not in net.tasks or net.facts["stride"]:
        raise Problem(
            f"{net.name} holds {net.facts['net']}, which gives "
            f"{', '.join(net.tasks)}: a net that takes crops and gives points is needed"
        )
    if net.facts["scheme"] is None:
        raise Problem(
            f"{net.name} doesn't say in which order its {net.facts['points']} points "
            "are: convert it with python -m core.convert, or export it anew"
        )
    return net


def _title(result, name):
    return "\n".join(
        [
            f"{result['set']}; {result['faces']:,} measured, {_words(name, result['places'][name])}",
            *(
                _name(number, net)
                for number, net in enumerate(result["nets"], 1)
                if name in net["views"]
            ),
        ]
    )


def _name(number, net):
    return (
        f"net {number}: {net['file']}, {net['net']}, {net['points']} points ({net['scheme']}); "
        f"crops {Rule(**net['crop'])}"
        + (f", the best of {len(net['tried'])} tried on other faces" if net["tried"] else "")
    )


def _draw(measured, result, number, rule, view, exact, found, path):
    """A net's worst faces, and those in the middle."""
    size_rule, values = next(iter(found.by_rule.items()))
    values = values[0].mean(axis=1)
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    parts = []
    for title, chosen in (
        ("worst", order[:SHOWN]),
        ("in the middle", order[middle : middle + SHOWN]),
    ):
        indices = measured.indices[chosen]
        squares = measured.squares(indices, rule)
        crops = np.stack(
            [
                face_crop.crop(measured.faces.read(index), square, 0, landmark_pictures.CELL)
                for index, square in zip(indices.tolist(), squares)
            ]
        )
        parts.append(
            (
                f"{title}: {len(chosen)} of {len(values):,} faces",
                crops,
                view.of_truth(measured.placed(indices, squares)),
                view.of_net(exact[chosen]),
                [f"{value:.4f}" for value in values[chosen]],
            )
        )
    row = result["nets"][number - 1]
    landmark_pictures.sheet(
        path,
        parts,
        [f"{row['file']}: {row['net']}, crops {rule}; errors by {size_rule}, exact boxes"],
    )


def show(result):
    """The figures as lines."""
    scattered = result["boxes"]["draws"]
    print(
        f"{result['set']}\n{result['faces']:,} faces measured"
        + (
            f", {len(result['skipped']):,} left out: their pictures can't be read"
            if result["skipped"]
            else ""
        )
    )
    if result["trained_on"]:
        print(f"  left out {result['trained_on']:,} more: a net was trained on their pictures")
    for reason in result["skipped"][:SKIPPED]:
        print(f"  left out {reason}")
    for number, net in enumerate(result["nets"], 1):
        print(_name(number, net))
    for name, places in result["places"].items():
        having = {
            f"net {number}": net["views"][name]
            for number, net in enumerate(result["nets"], 1)
            if name in net["views"]
        }
        print(f"\n{_words(name, places)}")
        _show_view(having)
    if not scattered:
        print(
            f"\nscattered boxes aren't measured: the scheme {result['scheme']} doesn't say where "
            "a detector's boxes are"
        )


def _words(name, places):
    return (
        f"all {len(places)} points"
        if name == ALL
        else f"{len(places)} places in common: {', '.join(places)}"
    )


def _show_view(having):
    """Figures by net of one view."""
    some = next(iter(having.values()))
    limits = [f"{limit:.2f}" for limit in metrics.LIMITS]
    print(
        f"{'error, of':<16}{'':<12}{'boxes':<12}{'mean':>8}{'median':>8}"
        + "".join(f"{f'AUC {limit}':>10}" for limit in limits)
        + "".join(f"{f'> {limit}':>8}" for limit in limits)
        + f"{'moved':>8}"
    )
    for rule in some[EXACT][NET]["by_rule"]:
        for title, view in having.items():
            for boxes, who in ((boxes, who) for boxes in view for who in (NET, MEAN_FACE)):
                row = view[boxes][who]["by_rule"][rule]
                print(
                    f"{rule:<16}{title if who == NET else '  mean face':<12}{boxes:<12}"
                    f"{row['mean']:>8.4f}{row['median']:>8.4f}"
                    + "".join(f"{row['auc'][limit]:>10.4f}" for limit in limits)
                    + "".join(f"{row['failures'][limit]:>8.4f}" for limit in limits)
                    + (f"{row['moved']:>8.4f}" if "moved" in row else "")
                )
    rule = next(iter(some[EXACT][NET]["by_rule"]))
    print(f"{'exact boxes':<34}" + "".join(f"{title:>10}{'mean face':>11}" for title in having))
    pairs = [view[EXACT][who] for view in having.values() for who in (NET, MEAN_FACE)]
    widths = [10, 11] * len(having)
    for group in pairs[0]["by_rule"][rule]["groups"]:
        print(
            f"{group:<34}"
            + "".join(
                f"{row['by_rule'][rule]['groups'][group]:>{width}.4f}"
                for row, width in zip(pairs, widths)
            )
            + f"  of {rule}"
        )
    for key, words in (("l1", "absolute"), ("l2", "squared")):
        print(
            f"{words + ', a coordinate':<34}"
            + "".join(
                f"{row['per_coordinate'][key]:>{width}.5f}" for row, width in zip(pairs, widths)
            )
            + "  of the crop's side"
        )


def arguments(parser):
    parser.add_argument(
        "--net",
        required=True,
        nargs="+",
        metavar="FILE",
        help="nets that give points: runs' folders, .params files or ONNX models",
    )
    parser.add_argument(
        "--crop",
        default=USUAL,
        metavar="BOX:SIDE|best|usual,...",
        help="what "
        "crops are cut around (crop.box) and their side in its sides, one for all "
        "nets or one each; best is looked for on other faces (default: usual, as "
        "the net was trained, or else crop.box and crop.plain)",
    )
    parser.add_argument(
        "--faces",
        required=True,
        metavar="FACES",
        help="annotated faces: a store, a list or a folder",
    )
    points.arguments(parser)
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="of the pictures, to measure; 1: all (default: train.val_fraction)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and pictures")


def main(args, settings):
    held_out = settings.train.val_fraction if args.held_out is None else args.held_out
    if not 0 < held_out <= 1:
        raise Problem(f"--held-out {held_out}: it must be over 0 and up to 1")
    rules = [parsed(text, settings) for text in args.crop.split(",")]
    if len(rules) not in (1, len(args.net)):
        raise Problem(
            f"--crop names {len(rules)} crops for {len(args.net)} nets: give one for all "
            "or one each"
        )
    faces = face_sets.open_faces(args.faces, args)
    measured = Measured(faces, held_out, settings)
    evaluate(
        args.net, rules * (len(args.net) // len(rules)), measured, args.out, settings, args.settings
    )

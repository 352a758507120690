"""Figures of landmark nets as lines, and titles of what is shown."""

import itertools

from core.evaluate import metrics
from core.evaluate.landmark_comparisons import ALL
from core.evaluate.landmark_crops import Rule
from core.evaluate.landmark_figures import EXACT, MEAN_FACE, NET

SKIPPED = 10  # pictures skipped that are named


def picture_title(result, name):
    """The title of the picture of a comparison's curves."""
    return "\n".join(
        [
            f"{result['set']}; {result['faces']:,} measured, "
            + comparison_title(name, result["places"][name]),
            *(
                net_title(number, net)
                for number, net in enumerate(result["nets"], 1)
                if name in net["views"]
            ),
        ]
    )


def net_title(number, net):
    """A net with its number, points and crops, as printed and drawn."""
    return (
        f"net {number}: {net['file']}, {net['net']}, {net['points']} points ({net['scheme']}); "
        f"crops {Rule(**net['crop'])}"
        + (f", the best of {len(net['tried'])} tried on other faces" if net["tried"] else "")
    )


def comparison_title(name, places):
    """What a comparison is of, in words."""
    return (
        f"all {len(places)} points"
        if name == ALL
        else f"{len(places)} places in common: {', '.join(places)}"
    )


def show(result):
    """Print the figures of core.evaluate.landmarks.evaluate."""
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
        print(net_title(number, net))
    for name, places in result["places"].items():
        having = {
            f"net {number}": net["views"][name]
            for number, net in enumerate(result["nets"], 1)
            if name in net["views"]
        }
        print(f"\n{comparison_title(name, places)}")
        _show_comparison(having)
    if not scattered:
        print(
            f"\nscattered boxes aren't measured: the scheme {result['scheme']} doesn't say where "
            "a detector's boxes are"
        )


def _show_comparison(having):
    """Figures of one comparison, {title of a net: its figures}."""
    some = next(iter(having.values()))
    limits = [f"{limit:.2f}" for limit in metrics.LIMITS]
    print(
        f"{'error, of':<16}{'':<12}{'boxes':<12}{'mean':>8}{'median':>8}"
        + "".join(f"{f'AUC {limit}':>10}" for limit in limits)
        + "".join(f"{f'> {limit}':>8}" for limit in limits)
        + f"{'moved':>8}"
    )
    for rule in some[EXACT][NET]["by_rule"]:
        for title, by_boxes in having.items():
            for boxes, predictor in itertools.product(by_boxes, (NET, MEAN_FACE)):
                row = by_boxes[boxes][predictor]["by_rule"][rule]
                print(
                    f"{rule:<16}{title if predictor == NET else '  mean face':<12}{boxes:<12}"
                    f"{row['mean']:>8.4f}{row['median']:>8.4f}"
                    + "".join(f"{row['auc'][limit]:>10.4f}" for limit in limits)
                    + "".join(f"{row['failures'][limit]:>8.4f}" for limit in limits)
                    + (f"{row['moved']:>8.4f}" if "moved" in row else "")
                )
    rule = next(iter(some[EXACT][NET]["by_rule"]))
    print(f"{'exact boxes':<34}" + "".join(f"{title:>10}{'mean face':>11}" for title in having))
    pairs = [
        by_boxes[EXACT][predictor] for by_boxes in having.values() for predictor in (NET, MEAN_FACE)
    ]
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

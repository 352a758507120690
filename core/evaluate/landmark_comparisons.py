"""Which places of a face points of two schemes are compared at."""

from dataclasses import dataclass

import numpy as np

from facelet import schemes
from facelet.console import Problem

ALL, SHARED = "all", "shared"  # names of comparisons


@dataclass(frozen=True)
class Comparison:
    """Places that a net's points and the true ones are compared at.

    names -- of the places, (P,)
    net, truth -- for each place the numbers of the net's points, and of the true ones, whose mean
        it is: lists of P tuples
    groups -- {name of a part of the face: list of places by number}
    """

    names: list
    net: list
    truth: list
    groups: dict

    def of_net(self, points):
        """Places (..., P, 2) of a net's points (..., N, 2)."""
        return _means(points, self.net)

    def of_truth(self, points):
        """Places (..., P, 2) of true points (..., N, 2)."""
        return _means(points, self.truth)


def _means(points, rows):
    return np.stack([points[..., list(row), :].mean(axis=-2) for row in rows], axis=-2)


def common_places(nets, truth):
    """Names of the places that the schemes of nets and of the true points all have; none if they
    are all one scheme. Raises Problem where nothing can be compared."""
    if {*nets} == {truth}:
        return []
    rows = [schemes.shared(scheme, truth) for scheme in nets]
    places = [place for place in rows[0] if all(place in row for row in rows)]
    if not places:
        raise Problem(
            f"points of the schemes {', '.join(sorted({*nets, truth}))} have no place "
            "in common where they could be compared"
        )
    return places


def comparisons(net, truth, places):
    """The Comparisons of the points of a net and of faces by their schemes, {name: Comparison}: ALL
    points, if the two are the same ones, and SHARED `places`, if there are any."""
    found = {}
    if schemes.get(net).base == schemes.get(truth).base:
        count, groups = schemes.get(truth).points, schemes.get(truth).groups
        order = schemes.convert(np.arange(count)[:, None], net, truth)[:, 0]
        found[ALL] = Comparison(
            [str(i) for i in range(count)],
            [(i,) for i in order.tolist()],
            [(i,) for i in range(count)],
            groups,
        )
    if places:
        rows = schemes.shared(net, truth)
        found[SHARED] = Comparison(
            places,
            [rows[place][0] for place in places],
            [rows[place][1] for place in places],
            {place: [i] for i, place in enumerate(places)},
        )
    return found

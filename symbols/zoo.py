"""All nets by name. Needs no MXNet."""

import difflib
import fnmatch
from dataclasses import replace

from facelet.console import Problem
from symbols import classic, lnet, onet, pnet, rnet

NETS = {net.name: net for table in (pnet, rnet, onet, lnet, classic) for net in table.NETS}
ALIASES = {alias: net.name for net in NETS.values() for alias in net.aliases}


class UnknownNet(Problem, KeyError):
    """No net of that name; the text lists the near ones."""

    __str__ = Exception.__str__  # KeyError would print the repr


def names(pattern="*"):
    """Names of the nets that match a shell pattern, in the order of the tables."""
    return [name for name in NETS if fnmatch.fnmatchcase(name, pattern)]


def variants(name):
    """The options of each form of a net that train-mtcnn has: its widths, its landmark head."""
    net = NETS[name]
    yield from ({"base": base} for base in sorted(net.table_budget)) if net.base else ({},)
    if net.landmark:
        yield {"landmark": True}


def spec(name, landmark=False):
    """The `Net` of a name, with its landmark head if asked for.

    Raises UnknownNet, or Problem where there is no landmark head to ask for.
    """
    net = NETS.get(ALIASES.get(name, name))
    if net is None:
        by_lower = {known.lower(): known for known in (*NETS, *ALIASES)}
        near = difflib.get_close_matches(str(name).lower(), by_lower, n=4, cutoff=0.5)
        hint = (
            "; near: " + ", ".join(by_lower[match] for match in near)
            if near
            else "; `python -m core.flops --net all` lists them"
        )
        raise UnknownNet(f"no net is called {name!r}{hint}")
    if landmark:
        if not net.landmark:
            raise Problem(
                f"{net.name} has no landmark=True: the Onets without _p and the classic "
                "nets have; Lnets have their points always"
            )
        net = replace(net, **net.landmark)
    return net

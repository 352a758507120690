"""The output nets, on 48 x 48 crops: the last word on a box and, if wanted, five landmarks."""
from symbols.net import Head, Naming, Net
from symbols.rnet import BRANCH_NAMING

HEADS = (Head("cls", "conv6_1", "bn6_1"), Head("bbox", "conv6_2", "bn6_2"))
BRANCH_HEADS = (HEADS[0], Head("bbox", "conv6_2", "bn6_2", branch="_bb"))

# With a landmark head train-mtcnn's three versions share one trunk, unlike any without.
WITH_LANDMARK = dict(
    rows=(
        # kind     k  s  p  out
        ("conv",   3, 1, 1, 32),
        ("dw+sep", 3, 2, 1, 64),
        ("dw+sep", 3, 2, 1, 64),
        ("dw+sep", 3, 2, 1, 128),
        ("dw+sep", 3, 2, 1, 256),
        ("dw",     3, 1, 0, 256)),
    heads=HEADS + (Head("landmark", "conv6_3", "bn6_3"),), bn=True, bias="first", table_budget={})


def _onet(name, table_budget, rows, **more):
    return Net(name, "Onet", 48, rows, HEADS, points=5, landmark=WITH_LANDMARK,
               table_input=(48, 48), table_budget={None: table_budget}, **more)


def _branched(name, rows, branch):
    return Net(name, "Onet", 48, rows, BRANCH_HEADS, branch=branch, bn=True,
               naming=Naming(fc=("fc{n}{b}", "fc{n}_bn{b}", "fc{n}_relu{b}"), **BRANCH_NAMING),
               table_input=(48, 48), note="in no table of train-mtcnn")


NETS = (
    _onet("Onet_v1", 2.4, (
        # kind     k  s  p  out
        ("conv",   2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 1, 0, 128),
        ("dw",     3, 1, 0, 128))),
    _onet("Onet_v2", 3.6, (
        ("conv",   2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 2, 0, 128),
        ("dw+sep", 3, 1, 0, 256),
        ("dw",     3, 1, 0, 256))),
    _onet("Onet_v3", 9.3, (
        ("conv",   3, 1, 0, 32),
        ("dw+sep", 2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 2, 1, 0, 64),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 2, 1, 0, 64),
        ("dw+sep", 3, 2, 0, 128),
        ("dw+sep", 2, 1, 0, 256),
        ("dw",     3, 1, 0, 256)), bn=True, bias="none"),
    _branched("Onet_p0", (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 32)), branch=(
        ("dw+sep", 3, 1, 0, 64),
        ("dw",     3, 1, 0, 64),
        ("fc",     1, 1, 0, 128),
        ("fc",     1, 1, 0, 128))),
    _branched("Onet_p", (
        ("conv",   2, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 2, 0, 64)), branch=(
        ("dw+sep", 3, 1, 0, 128),
        ("dw",     3, 1, 0, 128),
        ("fc",     1, 1, 0, 128),
        ("fc",     1, 1, 0, 128))),
)

"""The proposal nets: fully convolutional, a score and a box for each cell of the picture."""
from symbols.net import Head, Naming, Net

HEADS = (Head("cls", "conv4_1", "bn4_1"), Head("bbox", "conv4_2", "bn4_2"))


def _pnet20(name, table_budget, rows, **more):
    return Net(name, "Pnet", 20, rows, HEADS, table_input=(320, 240),
               table_budget={None: table_budget}, **{"stride": 4, **more})


def _pnet16(name, table_budget, rows, **more):
    return Net(name, "Pnet", 16, rows, HEADS, stride=4, table_input=(256, 192),
               table_budget={None: table_budget}, **more)


NETS = (
    _pnet20("Pnet20_v00", 10.3, (
        # kind     k  s  p  out
        ("conv",   3, 2, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 2, 1, 0, 24),
        ("dw",     3, 1, 0, 24)), table_budget_with_bbox=True),
    _pnet20("Pnet20_v0", 14.1, (
        ("conv",   3, 2, 0, 8),
        ("dw+sep", 3, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw",     3, 1, 0, 24)),
        note="the released file pnet20_v1-0016.params is this net"),
    _pnet20("Pnet20_v1", 18.3, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 2, 1, 0, 24),
        ("dw",     3, 1, 0, 24))),
    _pnet20("Pnet20_v2", 22.9, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw+sep", 2, 1, 0, 24),
        ("dw",     3, 1, 0, 24))),
    _pnet20("Pnet20_v3", 32.4, (
        ("conv",   3, 1, 0, 8),
        ("pool",   3, 2, 0, 8),
        ("sep",    1, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw+sep", 2, 1, 0, 32),
        ("dw",     3, 1, 0, 32))),
    _pnet20("Pnet20_v4", 55.8, (
        ("conv",   2, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 2, 1, 0, 64),
        ("dw",     3, 1, 0, 64))),
    _pnet20("Pnet20_v5", 83.9, (
        ("conv",   3, 1, 0, 16),
        ("pool",   3, 2, 0, 16),
        ("sep",    1, 1, 0, 24),
        ("dw+sep", 3, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw",     3, 1, 0, 64))),
    _pnet20("Pnet20_v6", 92.4, (
        ("conv",   2, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 1, 0, 48),
        ("dw+sep", 3, 2, 0, 64),
        ("dw",     3, 1, 0, 64))),
    _pnet20("Pnet20_v7", 102.1, (
        ("conv",   3, 1, 0, 16),
        ("pool",   3, 2, 0, 16),
        ("sep",    1, 1, 0, 24),
        ("dw+sep", 2, 1, 0, 32),
        ("pool",   2, 2, 0, 32),
        ("sep",    1, 1, 0, 64),
        ("dw+sep", 2, 1, 0, 64),
        ("dw",     3, 1, 0, 64))),
    _pnet20("Pnet20_v8", 125.2, (
        ("conv",   2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 2, 1, 0, 128),
        ("dw",     3, 1, 0, 128))),
    _pnet20("Pnet20_s2v1", 63.2, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 1, 0, 16),
        ("dw+sep", 3, 1, 0, 24),
        ("dw+sep", 3, 1, 0, 32),
        ("dw",     3, 1, 0, 32)), stride=2),
    _pnet20("Pnet20_s2v2", 107.5, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 1, 0, 24),
        ("dw+sep", 3, 1, 0, 32),
        ("dw+sep", 3, 1, 0, 64),
        ("dw",     3, 1, 0, 64)), stride=2),
    _pnet20("Pnet20_s2v3", 169.2, (
        ("conv",   2, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw+sep", 3, 1, 0, 32),
        ("dw+sep", 3, 1, 0, 48),
        ("dw+sep", 3, 1, 0, 64),
        ("dw",     3, 1, 0, 64)), stride=2),
    Net("Pnet20_p", "Pnet", 20, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw+sep", 2, 1, 0, 32)),
        branch=(
        ("dw",     3, 1, 0, 32),
        ("fc",     1, 1, 0, 64)),
        heads=(Head("cls", "conv4_1", "bn4_1"), Head("bbox", "conv4_2", "bn4_2", branch="_bb")),
        naming=Naming(sep=("conv{n}{b}_sep", "bn{n}{b}", "prelu{n}{b}"),
                      fc=("fc{n}{b}_dw", "fc{n}{b}_bn_dw", "fc{n}{b}_relu_dw")),
        bn=True, stride=4, table_input=(320, 240), note="in no table of train-mtcnn"),
    _pnet16("Pnet16_v0", 8.6, (
        ("conv",   3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw",     3, 1, 0, 24))),
    _pnet16("Pnet16_v1", 12.5, (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 24),
        ("dw",     3, 1, 0, 24)), table_budget_with_bbox=True),
)

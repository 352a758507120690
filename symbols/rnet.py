"""The refinement nets, on 24 x 24 crops of the proposals."""
from symbols.net import Head, Naming, Net

HEADS = (Head("cls", "conv5_1", "bn5_1"), Head("bbox", "conv5_2", "bn5_2"))
BRANCH_HEADS = (HEADS[0], Head("bbox", "conv5_2", "bn5_2", branch="_bb"))

# The branched nets of Rnet and Onet say relu where the others say prelu.
BRANCH_NAMING = dict(conv=("conv{n}", "bn{n}", "relu{n}"),
                     dw=("conv{n}{b}_dw", "bn{n}{b}_dw", "relu{n}{b}_dw"),
                     sep=("conv{n}{b}_sep", "bn{n}{b}_sep", "relu{n}{b}"))


def _branched(name, rows, branch):
    return Net(name, "Rnet", 24, rows, BRANCH_HEADS, branch=branch, bn=True,
               naming=Naming(fc=("fc{n}{b}_dw", "fc{n}_bn{b}_dw", "fc{n}_relu{b}_dw"),
                             **BRANCH_NAMING),
               plain_relu=("relu3_dw",), table_input=(24, 24), note="in no table of train-mtcnn")


NETS = (
    Net("Rnet_v1", "Rnet", 24, (
        # kind     k  s  p  out
        ("conv",   2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 3, 1, 0, 128),
        ("dw",     3, 1, 0, 128)), HEADS, table_input=(24, 24), table_budget={None: 0.6}),
    Net("Rnet_v2", "Rnet", 24, (
        ("conv",   3, 1, 0, 32),
        ("dw+sep", 2, 1, 0, 32),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 2, 1, 0, 64),
        ("dw+sep", 3, 2, 0, 64),
        ("dw+sep", 2, 1, 0, 128),
        ("dw",     3, 1, 0, 128)), HEADS, table_input=(24, 24), table_budget={None: 1.6}),
    _branched("Rnet_p0", (
        ("conv",   2, 1, 0, 8),
        ("dw+sep", 3, 2, 0, 16),
        ("dw+sep", 3, 2, 0, 32)), branch=(
        ("dw+sep", 3, 1, 0, 64),
        ("dw",     3, 1, 0, 64),
        ("fc",     1, 1, 0, 128),
        ("fc",     1, 1, 0, 128))),
    _branched("Rnet_p", (
        ("conv",   2, 1, 0, 16),
        ("dw+sep", 3, 2, 0, 32),
        ("dw+sep", 3, 2, 0, 64)), branch=(
        ("dw+sep", 3, 1, 0, 128),
        ("dw",     3, 1, 0, 128),
        ("fc",     1, 1, 0, 128),
        ("fc",     1, 1, 0, 128))),
)

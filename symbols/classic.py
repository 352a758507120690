"""The nets of the MTCNN paper (Zhang et al. 2016, arXiv:1604.02878), with 12, 24 and 48 pixel
inputs, as most other implementations train them."""
from dataclasses import replace

from symbols.net import Head, Naming, Net


def _classic(net):
    """The landmark head is optional in all three and leaves the trunk as it is."""
    *heads, landmark = net.heads
    return replace(net, heads=tuple(heads), points=5,
                   landmark=dict(heads=net.heads, table_budget={}))


# The activation after fc1 has the number of the layer it would be as a convolution.
NETS = tuple(map(_classic, (
    Net("Pnet12", "Pnet", 12, (
        # kind    k  s  p  out
        ("conv",  3, 1, 0, 10),
        ("pool",  2, 2, 0, 10),
        ("conv",  3, 1, 0, 16),
        ("conv",  3, 1, 0, 32)),
        (Head("cls", "conv4_1", None), Head("bbox", "conv4_2", None),
         Head("landmark", "conv4_3", None)),
        stride=2, table_input=(192, 144), table_budget={None: 45.4},
        note="192x144 is 320x240 for a cell of 20 pixels"),
    Net("Rnet24", "Rnet", 24, (
        ("conv",  3, 1, 0, 28),
        ("pool",  3, 2, 0, 28),
        ("conv",  3, 1, 0, 48),
        ("pool",  3, 2, 0, 48),
        ("conv",  2, 1, 0, 64),
        ("dense", 1, 1, 0, 128)),
        (Head("cls", "fc2", None), Head("bbox", "fc3", None), Head("landmark", "fc4", None)),
        naming=Naming(dense=("fc{n}", None, "prelu4")),
        table_input=(24, 24), table_budget={None: 1.6}),
    Net("Onet48", "Onet", 48, (
        ("conv",  3, 1, 0, 32),
        ("pool",  3, 2, 0, 32),
        ("conv",  3, 1, 0, 64),
        ("pool",  3, 2, 0, 64),
        ("conv",  3, 1, 0, 64),
        ("pool",  2, 2, 0, 64),
        ("conv",  2, 1, 0, 128),
        ("dense", 1, 1, 0, 256)),
        (Head("cls", "fc2", None), Head("bbox", "fc3", None), Head("landmark", "fc4", None)),
        naming=Naming(dense=("fc{n}", None, "prelu5")),
        table_input=(48, 48), table_budget={None: 12.9}),
)))

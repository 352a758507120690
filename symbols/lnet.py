"""The landmark nets: any number of points (train-mtcnn has 5 and 106) on a crop of a face, and
the 14 body joints as heat maps. In the Lnet tables `out` counts in units of base."""
from symbols.net import Head, Naming, Net

HEADS = (Head("landmark", "conv6_3", "bn6_3"),)
NAMING = Naming(sep=("conv{n}_sep", "bn{n}_sep", "prelu{n}_sep"))

ROWS_48 = (
    # kind     k  s  p  out
    ("conv",   3, 1, 0, 1),
    ("dw+sep", 2, 1, 0, 1),
    ("dw+sep", 3, 2, 0, 2),
    ("dw+sep", 2, 1, 0, 2),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 2, 1, 0, 4),
    ("dw+sep", 3, 2, 0, 8),
    ("dw+sep", 2, 1, 0, 8),
    ("dw+sep", 3, 1, 0, 8))
ROWS_64_V3 = (
    ("conv",   2, 1, 0, 1),
    ("dw+sep", 3, 2, 0, 2),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 3, 2, 0, 8),
    ("dw+sep", 3, 1, 0, 8))
ROWS_96 = (
    ("conv",   3, 1, 0, 1),
    ("dw+sep", 2, 1, 0, 1),
    ("dw+sep", 3, 2, 0, 2),
    ("dw+sep", 2, 1, 0, 2),
    ("dw+sep", 3, 2, 0, 2),
    ("dw+sep", 2, 1, 0, 2),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 2, 1, 0, 4),
    ("dw+sep", 3, 2, 0, 8),
    ("dw+sep", 2, 1, 0, 8),
    ("dw+sep", 3, 1, 0, 8))
ROWS_96_V3 = (
    ("conv",   2, 1, 0, 1),
    ("dw+sep", 3, 2, 0, 2),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 3, 2, 0, 4),
    ("dw+sep", 3, 2, 0, 8),
    ("dw+sep", 3, 1, 0, 8),
    ("dw+sep", 3, 1, 0, 8))


def _lnet(name, size, points, bn, rows, table_budget):
    return Net(name, "Lnet", size, rows, HEADS, naming=NAMING, bn=bn, base=32, points=points,
               table_input=(size, size), table_budget=table_budget)


def _residual(name, size, width, blocks, fc, **more):
    return Net(name, "Lnet", size, (width, blocks, fc), HEADS, architecture="residual", bn=True,
               bias="none", points=106, table_input=(size, size),
               **{"note": "in no table of train-mtcnn", **more})


NETS = (
    #      name            size pts  bn     layers     train-mtcnn's budget by base
    _lnet("Lnet_v1",       48,  5,   False, ROWS_48,    {16: 3.8, 32: 11.5}),
    _lnet("Lnet_v2",       48,  5,   True,  ROWS_48,    {16: 3.8, 32: 11.5}),
    _lnet("Lnet_v3",       64,  5,   True,  ROWS_64_V3, {32: 7.7}),
    _lnet("Lnet106_v1",    48,  106, False, ROWS_48,    {32: 11.6, 64: 38.8}),
    _lnet("Lnet106_v2",    48,  106, True,  ROWS_48,    {32: 11.6, 64: 38.8, 128: 140.1}),
    _lnet("Lnet106_64_v3", 64,  106, True,  ROWS_64_V3, {32: 7.8}),
    _lnet("Lnet106_96_v1", 96,  106, False, ROWS_96,    {32: 42.8, 64: 140.2}),
    _lnet("Lnet106_96_v2", 96,  106, True,  ROWS_96,    {16: 14.6, 32: 42.8, 64: 140.2}),
    _lnet("Lnet106_96_v3", 96,  106, True,  ROWS_96_V3, {32: 18.7}),
    # Residual: width of the stem (doubled at each of the three reductions), residual blocks
    # at each of the four resolutions, and the channels of conv6, fc1 and fc2.
    #          name                  size width blocks         conv6 fc1  fc2
    _residual("Lnet106_64r",         64,  8,    (1, 2, 3, 2), (64,  128, 256),
              aliases=("Lnet106_64_residual",)),
    _residual("Lnet106_80r",         80,  8,    (1, 2, 3, 2), (64,  128, 256),
              aliases=("Lnet106_80_residual",)),
    _residual("Lnet106_96r",         96,  8,    (1, 2, 3, 2), (64,  128, 256),
              aliases=("Lnet106_96_residual",)),
    _residual("Lnet106_112r_small", 112,  8,    (1, 2, 3, 2), (64,  128, 256),
              aliases=("Lnet106_112r", "Lnet106_112_small"),
              note="the released file lnet106_112-4070.params is this net"),
    _residual("Lnet106_112r_s",     112,  8,    (1, 1, 1, 1), (64,  128, 256),
              aliases=("Lnet106_112_s",)),
    _residual("Lnet106_112r_big",   112,  64,   (2, 6, 10, 2), (512, 512, 512),
              aliases=("Lnet106_112_big",)),
    # Three stages, each on the picture and on the maps of the stage before: the layers up to
    # where those maps join, and after. All are k x k with "same" padding.
    Net("L14_heatmap", "Lnet", 112, (
        # layer    kind   k  s  dilate out
        (("conv1", "conv", 5, 1, 2, 8),
         ("conv2", "dw",   7, 1, 1, 8),
         ("conv2", "sep",  1, 1, 1, 16),
         ("conv3", "dw",   7, 2, 1, 16),
         ("conv3", "sep",  1, 1, 1, 16),
         ("conv4", "dw",   9, 1, 2, 16),
         ("conv4", "sep",  1, 1, 1, 32),
         ("conv5", "dw",   7, 2, 1, 32),
         ("conv5", "sep",  1, 1, 1, 32)),
        (("conv6", "dw",   7, 1, 2, 32),
         ("conv6", "sep",  1, 1, 1, 32),
         ("conv7", "dw",   7, 1, 1, 32),
         ("conv7", "sep",  1, 1, 1, 64),
         ("conv8", "dw",   7, 1, 1, 64),
         ("conv8", "sep",  1, 1, 1, 128))),
        (Head("heatmap", "flatten0", None),), architecture="heatmap", bn=True, bias="none",
        points=14, table_input=(112, 112), aliases=("L14_112_heatmap",),
        note="3 stages x (joints + background) maps of 28 x 28; in no table of train-mtcnn"),
)

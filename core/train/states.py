"""The optimiser's states, what a run needs beside the parameters to go on to the same bits, as a
plain file of arrays (core.formats.params_file): MXNet's own is a pickle, which can hold commands
that run when it is read.

Arrays, float32: "updates" (1,), the steps made so far, and "NAME:0", "NAME:1" ... in the shape of
the parameter NAME: of sgd its momentum (none with train.momentum=0), of adam the running means of
its gradient and of the gradient's square.
"""

import numpy as np

from core.formats import params_file
from facelet.console import Problem
from facelet.files import sha256
from symbols.mxnet_import import mx

PICKLE = b"\x80"  # what the files of former versions begin with
UPDATES = "updates"


def updater_of(module):
    """The object that holds a Module's states, and its keys' names."""
    if module._update_on_kvstore:  # on several GPUs; parameters go by their names there
        return module._kvstore._updater, {name: name for name in module._param_names}
    updater = module._updater
    return updater, updater.optimizer.idx2name


def parts(state):
    """NDArrays of one parameter's state as MXNet's optimisers have it."""
    return () if state is None else state if isinstance(state, (tuple, list)) else (state,)


def begin(module):
    """Give a Module's optimiser the states that it has before its first step."""
    updater, _ = updater_of(module)
    for key, state in _fresh(module).items():
        updater.states[key], updater.states_synced[key] = state, True


def _fresh(module):
    """States before the first step, by key."""
    updater, names = updater_of(module)
    weights = dict(zip(module._param_names, module._exec_group.param_arrays))
    return {
        key: updater.optimizer.create_state(key, weights[name][0]) for key, name in names.items()
    }


def save(module, updates, path):
    """Write the states of a Module's optimiser after `updates` steps, whole or not at all."""
    updater, names = updater_of(module)
    params_file.write(
        path,
        {
            UPDATES: np.float32([updates]),
            **{
                f"{names[key]}:{number}": part.asnumpy()
                for key, state in updater.states.items()
                for number, part in enumerate(parts(state))
            },
        },
    )


def load(module, updates, path, checksum):
    """Give a Module's optimiser the states in a file.

    updates -- steps that they must have been saved after; checksum -- sha256 of the file as the
        epoch's manifest has it, None where that says nothing

    Raises Problem: another file than was written, a pickle of a former version, arrays that are not
    those of this optimiser and net."""
    way_on = (
        f"train in another --out, which --start {path.with_suffix('.params')} lets begin with what "
        "was learnt"
    )
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            raise Problem(
                f"{path} is a pickle, as former versions wrote it: reading it could run any "
                f"command, so it is not read, and this run can't go on; {way_on}"
            )
    if checksum != sha256(path):
        raise Problem(
            f"{path} is damaged (its content is not what {path.with_suffix('.json').name} was "
            f"written for): {way_on}"
        )
    try:
        arrays = params_file.read(path)
    except Problem as problem:
        raise Problem(f"{path} is damaged ({problem}): {way_on}") from None
    (updater, names), fresh = updater_of(module), _fresh(module)
    shapes = {
        f"{names[key]}:{number}": part.shape
        for key, state in fresh.items()
        for number, part in enumerate(parts(state))
    }
    shapes[UPDATES] = (1,)
    if {name: array.shape for name, array in arrays.items()} != shapes:
        raise Problem(f"{path} is damaged (it is not of this net and optimiser): {way_on}")
    if arrays[UPDATES] != np.float32(updates):
        raise Problem(
            f"{path} is damaged (it was saved after {arrays[UPDATES][0]:.0f} steps, not "
            f"{updates:,}): {way_on}"
        )
    for key, state in fresh.items():
        for number, part in enumerate(parts(state)):
            part[:] = mx.nd.array(arrays[f"{names[key]}:{number}"])
        updater.states[key], updater.states_synced[key] = state, True

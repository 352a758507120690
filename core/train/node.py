"""A process of a run on several machines, that core.train.launch has started: a worker, a server or
the scheduler of MXNet's parameter server. core.train.lifeline says how the two speak."""

import json
import os
import sys
import traceback

from core.train.lifeline import Lifeline


def _work(given, lifeline):
    if given["rank"]:
        # What all say alike is said once; errors have another way.
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    from core.train import __main__, cluster

    args = __main__.parsed(given["argv"])
    cluster.join(cluster.Cluster(given["rank"], given["count"], lifeline, args.compression))
    __main__.train(args)


def main():
    # Whoever starts processes of its own in here gives them another input, but this output.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    lifeline = Lifeline()
    given = json.loads(sys.stdin.readline())
    lifeline.listen()
    os.environ.update(given["environment"])
    from facelet.console import Problem, describe_os_error

    try:
        if given["role"] == "worker":
            _work(given, lifeline)
        else:
            from symbols import mxnet_import  # noqa: F401 -- MXNet's import serves, and returns not
    except Problem as problem:
        lifeline.say(problem=str(problem))
        os._exit(2)
    except OSError as error:
        lifeline.say(problem=describe_os_error(error))
        os._exit(2)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    lifeline.say(done=True)
    sys.stdout.flush()
    # At once: what the parameter server has to say at the end may wait for ever for others.
    os._exit(0)

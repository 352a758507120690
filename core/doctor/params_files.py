"""Examination of MXNet's .params files."""

from core.doctor.net_checks import check_activations, check_values, report_net
from core.formats import checkpoint as checkpoints
from core.formats.checkpoint import describe
from facelet.console import Problem


def params(report):
    """Examine a .params file."""
    path, made = report.path, None
    arguments, auxiliary = checkpoints.read_params(path)
    report.title = (
        f"{path}: an MXNet checkpoint, {len(arguments)} arrays with "
        f"{sum(values.size for values in arguments.values()):,} parameters, "
        f"{len(auxiliary)} of moving means and variances"
    )
    manifest, fitting = path.with_suffix(".json"), checkpoints.nets_that_fit(arguments, auxiliary)
    try:
        if manifest.exists():
            made = checkpoints.load(path)
        elif fitting:
            net, options = fitting[0]
            made = checkpoints.load(path, net, **options)
    except Problem as problem:
        report.damage(problem)
    if made:
        report_net(report, made, () if "net" in made.manifest else fitting)
    else:
        report.fact(
            "net",
            f"it fits {', '.join(describe(*fit) for fit in fitting)}"
            if fitting
            else "none of the zoo",
        )
    named = checkpoints.named(path)
    if named and fitting and named not in [net for net, _ in fitting]:
        report.warn(
            f"the file's name says {named}, its content is {fitting[0][0]}: go by the content"
        )
    if not manifest.exists():
        report.fact("manifest", "none beside it")
    elif made:
        report.fact(
            "manifest",
            manifest.name
            + (", which holds its hash" if "sha256" in made.manifest else ", without a hash"),
        )
    check_values(report, {**arguments, **auxiliary})
    if made and not report.damages:
        check_activations(report, made.graph(), made.spec.size)

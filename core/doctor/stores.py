"""Examination of stores of samples and of cuts, and of what checksums say of any files."""

from facelet.files import damage, known_sums, read_json

STORES = {"store.json": "a store of samples", "cuts.json": "a store of cuts"}


def report_sums(report, sums):
    """Report whether the files beside report.path have these checksums, by their names."""
    found = damage(report.path.parent, sums)
    for line in found:
        report.damage(line)
    if sums and not found:
        report.fact("checksums", f"of {', '.join(sums)}: as they were made")


def store(report):
    """Examine a store by the JSON file in its folder."""
    facts, kind = read_json(report.path), STORES[report.path.name]
    if not isinstance(facts, dict) or "version" not in facts:
        report.damage(f"not the facts of {kind}, or damaged: make the store again")
        return
    report.title = f"{report.path.parent}: {kind}"
    counts = facts.get("counts", {"faces": facts.get("faces")})
    if isinstance(counts, dict):
        report.fact("holds", ", ".join(f"{count} {name}" for name, count in counts.items()))
    for key in ("size", "points", "scheme"):
        if key in facts:
            report.fact(key, str(facts[key]))
    sums = known_sums(facts, report.path)
    report_sums(report, sums)
    if not sums:
        report.warn(
            "it has no checksums, as former versions made it: whether its files are as they were "
            "made, nothing here can tell"
        )


def folder(report):
    """Examine a folder, which must be a store's."""
    inner = next((name for name in STORES if (report.path / name).is_file()), None)
    if inner is None:
        report.damage("a folder, and no store: give the files in it")
        return
    report.path = report.path / inner
    store(report)

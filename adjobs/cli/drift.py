"""``adjobs drift``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import EXIT_PROBLEMS, EXIT_USAGE, VerbResult, table, verb

if TYPE_CHECKING:
    from adjobs.drift.result import DriftResult


@click.command(short_help="Test whether recent images differ from those of a model.")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--alpha", default=0.01, show_default=True, help="Probability of reporting drift where there is none.")
@click.option(
    "--max-anomalous-share",
    metavar="SHARE",
    default=0.05,
    show_default=True,
    help="Share of the recent images that may be anomalous without being drift.",
)
@click.option(
    "--effect",
    default=1.0,
    show_default=True,
    help="Shift in standard deviations that must be detectable, with probability 0.8, for 'no drift shown'.",
)
@click.option(
    "--reference",
    type=click.Choice(["val", "test", "both"]),
    default="val",
    show_default=True,
    help="Split of the run whose normal images are the reference.",
)
@click.option("--limit", default=1000, show_default=True, help="Images on each side; of more a random subset is taken.")
@click.option("--seed", default=0, show_default=True, help="Seed of subsets and tests.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for drift.html and drift.json; none by default."
)
@click.option("--log", "is_logged", is_flag=True, help="Store the result with the model's run, as drift/TIME.json.")
@click.option("--follow-links", is_flag=True, help="Follow symbolic links that lead out of the folders.")
@verb
def command(
    model: str, images: tuple[str, ...], out: Path | None, is_logged: bool, follow_links: bool, **options: Any
) -> VerbResult:
    """Test whether recent images still resemble the normal images that MODEL was evaluated on.

    MODEL is a run id, models:/name/version, models:/name@alias, models:/m-…, or the folder of a run's detector. IMAGES are
    images, folders, s3:// prefixes, quoted patterns, or text files (.txt) with one of these in each line; labels are not needed.
    Scores, simple statistics such as brightness and sharpness, and features are compared with the run's normal validation images.
    Exit status 1: drift; 2: too few images to tell, or an error.
    """
    from adjobs.config.environment import load_settings
    from adjobs.drift.options import DriftOptions

    chosen = DriftOptions(**options, follow_links=follow_links)
    settings = load_settings()

    from adjobs.drift.run import log_result, measure_drift

    result = measure_drift(model, images, settings, chosen, out)
    text = _text(result)
    text += f"\ndrift.html and drift.json in {out}" if out else ""
    text += f"\n{log_result(result, settings)} in run {result.run_id}" if is_logged else ""
    if result.has_drifted is None:
        click.echo(result.sentence, err=True)
        return result, text, EXIT_USAGE
    return result, text, EXIT_PROBLEMS if result.has_drifted else 0


def _text(result: DriftResult) -> str:
    from adjobs.drift.page import p_value, share
    from adjobs.drift.result import number

    tests = [
        [test.name, p_value(test.p_value), p_value(test.level), "drift" if test.has_drifted else "none shown"]
        for test in result.verdict.tests
    ]
    lines = [result.sentence, "", table(tests, ["test", "p-value", "drift up to", "result"])]
    statistics = [
        [row.name, number(row.reference), number(row.recent), row.unit, p_value(row.p_value), "yes" if row.has_shifted else "-"]
        for row in result.verdict.statistics
    ]
    if statistics:
        lines += ["", table(statistics, ["statistic", "reference", "recent", "unit", "p-value", "shifted"])]
    lines += [
        "",
        f"alarms: {share(result.reference_alarms)} of the reference, {share(result.recent_alarms)} of the recent images",
    ]
    differing = [[image.name, f"{image.score:.4g}", image.reason] for image in result.different[:5]]
    lines += ["", table(differing, ["differ most", "score", "because"])]
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)

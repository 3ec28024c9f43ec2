"""What ``adjobs label`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adjobs.cli.output import table
from adjobs.errors import printable, shorten

if TYPE_CHECKING:
    from adjobs.labelling.handover import Handover
    from adjobs.labelling.inbox import FetchResult
    from adjobs.labelling.suggest import SuggestResult

_MAX_LINES = 10  # of images that were left out


def suggestions(result: SuggestResult, handover: Handover, out: Path) -> str:
    """The images to label, and where their tasks are."""
    rows = [[item.source.name, item.decision, f"{item.score:.4g}", item.reason] for item in result.suggestions]
    lines = [table(rows, ["image", "decision", "score", "why"]), ""]
    lines.append(f"{len(result.suggestions)} of {result.candidates} images, threshold {result.threshold:.4g}")
    if result.duplicates:
        labelled = sum(duplicate.is_labelled for duplicate in result.duplicates)
        lines.append(
            f"left out: {labelled} that repeat labelled images of the model's data set, "
            f"{len(result.duplicates) - labelled} that repeat another image"
        )
    lines += [f"not scored: {shorten(failure.error, 300)}" for failure in result.failures[:_MAX_LINES]]
    if len(result.failures) > _MAX_LINES:
        lines.append(f"not scored: {len(result.failures) - _MAX_LINES} more, see --json")
    if handover.n_unshown:
        lines.append(f"warning: {handover.n_unshown} images are of a format that browsers do not show, such as TIFF")
    lines.append(f"tasks in {out}, labelling configuration in {out.with_suffix(handover.config.suffix)}")
    return "\n".join(map(printable, [*lines[0].split("\n"), *lines[1:], *_destination(handover)]))


def fetched(result: FetchResult) -> str:
    """What was fetched, and what to do next."""
    skipped = f", {result.skipped} skipped ones left out" if result.skipped else ""
    return "\n".join(
        [
            f"{result.annotated} annotated images in {result.out}, {result.downloaded} of them new{skipped}",
            f"check them: adjobs data check {result.out}",
        ]
    )


def _destination(handover: Handover) -> list[str]:
    imported = handover.imported
    if imported is None:
        if handover.image_root is None:
            return []
        return [f"start Label Studio with LOCAL_FILES_SERVING_ENABLED=true LOCAL_FILES_DOCUMENT_ROOT={handover.image_root}"]
    verb = "added to the new project" if imported.is_new else "added to project"
    present = f", {imported.present} were there already" if imported.present else ""
    return [f"{imported.added} tasks {verb} {imported.address}{present}"]

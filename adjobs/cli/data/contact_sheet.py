"""``adjobs data look``."""

from __future__ import annotations

from pathlib import Path

import click

from adjobs.cli.data.options import DatasetAddress, ScaleOptions, dataset_options, open_address, scale_options
from adjobs.cli.output import VerbResult, verb


@click.command("look", short_help="Draw some images of each class with their labels.")
@dataset_options()
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="sheet.html",
    show_default=True,
    help="Output file, .html or .png; an existing contact sheet is replaced.",
)
@click.option(
    "--per-class", type=click.IntRange(1, 1000), default=8, show_default=True, help="Maximum number of images of each class."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the choice of images.")
@scale_options
@verb
def command(address: DatasetAddress, out: Path, per_class: int, seed: int, scale: ScaleOptions) -> VerbResult:
    """Draw a contact sheet of URI: some images of each class, chosen at random, with their masks, blocks and boxes.

    Images and labels are drawn as training reads them, so that masks of other images, inverted masks, shifted boxes and rotated
    images are seen at once. Each image has its file name and its problems. The page is one file that loads nothing.
    """
    from adjobs.reporting.contact_sheet import draw_contact_sheet
    from adjobs.reporting.contact_sheet_files import file_kind, write_sheet
    from adjobs.storage.outputs import output_file, refuse_images_in

    target = output_file(out, "a contact sheet", file_kind(out).is_sheet)
    pixel_scale = scale.to_scale()
    dataset = open_address(address)
    if out.suffix.lower() == ".png":
        refuse_images_in(dataset.root, out)
    sheet = draw_contact_sheet(dataset, address.uri, per_class=per_class, seed=seed, scale=pixel_scale, progress=True)
    size = write_sheet(sheet, target)
    entries = sheet.entries.values()
    with_problems = sum(bool(entry.problems) for entry in entries)
    classes = "1 class" if len(sheet.groups) == 1 else f"{len(sheet.groups)} classes"
    text = f"{len(entries)} of {sheet.images} images of {classes} in {out} ({size / 1e6:.1f} MB), {with_problems} with problems"
    return {"out": str(out), "bytes": size, **sheet.to_dict()}, text

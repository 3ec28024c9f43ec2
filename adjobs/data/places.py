"""Whether places of an image are best compared with the same place of normal images, or with any place of them.

Where every part lies alike, each place has a normal look of its own. Where parts lie in any pose, or in a texture that is the
same everywhere, the most similar place may be anywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MARGIN = 1.1
"""Factor by which neighbours must be ahead before places are compared with any place.

Neighbours have 0.57 to 0.73 of the average precision of places on 90 images of magnetic tiles or solar cells, 1.34 to 1.79 on the
same images in any pose, and with 40 images 0.59 to 0.88 and 1.40 to 2.15 (benchmarks/places.py).
"""

MIN_IMAGES, MAX_IMAGES = 20, 90
"""Normal images that are compared. With twenty, two draws in ten of workpieces that lie alike speak for any place, and two in ten
of those in any pose for the same; more than 90 do not change the answer and take as much longer."""


class Places(NamedTuple):
    """How well simulated defects stand out from held-out normal images: average precisions, means over kinds of defects.

    Attributes:
        by_place: of the distance to the same place of other images.
        by_neighbour: of the distance to the most similar place, wherever it is.
        images: number of normal images that were compared.
    """

    by_place: float
    by_neighbour: float
    images: int

    @property
    def keep_place(self) -> bool:
        """Whether a place is best compared with the same place: neighbours are not clearly ahead."""
        return self.by_neighbour <= MARGIN * self.by_place

    @property
    def best(self) -> str:
        """What a place is best compared with: ``the same place`` or ``any place``."""
        return "the same place" if self.keep_place else "any place"

    def describe(self) -> str:
        """What follows a noun such as "places".

        >>> Places(0.14, 0.23, 90).describe()
        'best compared with any place of normal images (average precision for simulated defects: same place 0.14, any place 0.23)'
        >>> Places(0.14, 0.15, 90).describe().partition(", which")[2]
        ' is not a tenth better)'
        """
        within = ", which is not a tenth better" if self.keep_place and self.by_neighbour > self.by_place else ""
        figures = f"same place {self.by_place:.2f}, any place {self.by_neighbour:.2f}{within}"
        return f"best compared with {self.best} of normal images (average precision for simulated defects: {figures})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "best": self.best}

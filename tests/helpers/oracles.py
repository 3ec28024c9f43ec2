"""Slow and simple implementations of the definitions, one threshold after another."""

from itertools import pairwise


def flood_fill(mask):
    """Lists of the pixels of each 8-connected region."""
    left = {(y, x) for y, row in enumerate(mask.tolist()) for x, defect in enumerate(row) if defect}
    regions = []
    while left:
        region, frontier = [], [left.pop()]
        while frontier:
            y, x = frontier.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            frontier.extend(near)
        regions.append(region)
    return regions


def slow_pro_curve(maps, masks, keep=lambda area: True):
    """Mean share of each region (of an area to keep) that alarms, and share of all defect-free pixels that do."""
    regions = [(i, region) for i, mask in enumerate(masks) for region in flood_fill(mask) if keep(len(region))]
    n_free = sum(1 for defect in masks.ravel() if not defect)
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        alarms = maps >= threshold
        overlaps = [sum(bool(alarms[i][pixel]) for pixel in region) / len(region) for i, region in regions]
        points.append((int((alarms & ~masks).sum()) / n_free, sum(overlaps) / len(overlaps)))
    return points


def slow_spro_curve(maps, defects):
    """Mean of min(marked pixels of a defect / saturation, 1); marked is strictly above the threshold, as in the official code."""
    every = sorted({float(score) for map_ in maps for score in map_.ravel()}, reverse=True)
    points = []
    for threshold in [*every, every[-1] - 1]:
        shares, alarms, free = [], 0, 0
        for map_, found in zip(maps, defects, strict=True):
            marked = {(y, x) for y, row in enumerate(map_.tolist()) for x, score in enumerate(row) if score > threshold}
            channels = [{(int(y), int(x)) for y, x in zip(*defect.pixels.nonzero(), strict=True)} for defect in found]
            taken = set().union(*channels)
            shares += [min(len(marked & one) / defect.saturation, 1) for one, defect in zip(channels, found, strict=True)]
            alarms += len(marked - taken)
            free += map_.size - len(taken)
        points.append((alarms / free, sum(shares) / len(shares)))
    return points


def slow_area(points, limit):
    """Normalised area under straight lines between the points, from 0 to the limit."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + at_limit) / 2
    return area / limit

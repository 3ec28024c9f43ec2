"""The resize of :func:`adjobs.data.images.stretch` as an ONNX graph, so that an exported model takes images of any size.

Runtimes differ in what they do with ONNX's ``Resize`` and its antialias: OpenVINO 2026.4 leaves it out, and ONNX Runtime 1.32 is
up to nine grey levels off Pillow at the edges. Two matrix products are the same everywhere. Their weights are Pillow's, computed
in whole numbers and rounded to 22 binary digits, first along the rows, then along the columns, each rounded to a grey level. What
is left is the rounding of the sums, by which one level in a thousand, or fewer, comes out one higher or lower.
"""

from __future__ import annotations

import onnx

OPSET = 20
IMAGE, PIXELS = "image", "pixels"

_WEIGHTS = """
    {axis}_in = Range (zero, {axis}_length, one)
    {axis}_in_2 = Mul (two, {axis}_in)
    {axis}_in_odd = Add ({axis}_in_2, one)
    {axis}_in_centre = Mul ({axis}_in_odd, size)
    {axis}_out = Range (zero, size, one)
    {axis}_out_2 = Mul (two, {axis}_out)
    {axis}_out_odd = Add ({axis}_out_2, one)
    {axis}_out_centre = Mul ({axis}_out_odd, {axis}_length)
    {axis}_column = Unsqueeze ({axis}_out_centre, last)
    {axis}_signed = Sub ({axis}_in_centre, {axis}_column)
    {axis}_distance = Abs ({axis}_signed)
    {axis}_larger = Max ({axis}_length, size)
    {axis}_reach = Mul (two, {axis}_larger)
    {axis}_rest = Sub ({axis}_reach, {axis}_distance)
    {axis}_inside = Max ({axis}_rest, zero)
    {axis}_triangle = Cast <to = 1> ({axis}_inside)
    {axis}_sum = ReduceSum <keepdims = 1> ({axis}_triangle, last)
    {axis}_share = Div ({axis}_triangle, {axis}_sum)
    {axis}_scaled = Mul ({axis}_share, precision)
    {axis}_nearest = Add ({axis}_scaled, half)
    {axis}_whole = Floor ({axis}_nearest)
    {axis}_weights = Div ({axis}_whole, precision)
"""

_RESIZE = """
<ir_version: 10, opset_import: ["" : {opset}]>
resize (uint8[1, height, width, 3] {image}) => (uint8[1, {size}, {size}, 3] {pixels})
<int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 size = {{{size}}}, int64[1] last = {{-1}},
 int64[1] first = {{0}}, int64[4] fixed = {{1, {size}, {size}, 3}}, float half = {{0.5}}, float precision = {{4194304.0}}>
{{
    shape = Shape ({image})
    vertical_length = Gather <axis = 0> (shape, one)
    horizontal_length = Gather <axis = 0> (shape, two)
    {horizontal}
    {vertical}
    floats = Cast <to = 1> ({image})
    planes_1 = Transpose <perm = [0, 3, 1, 2]> (floats)
    planes = Squeeze (planes_1, first)
    horizontal_columns = Transpose <perm = [1, 0]> (horizontal_weights)
    narrow_sum = MatMul (planes, horizontal_columns)
    narrow_half = Add (narrow_sum, half)
    narrow = Floor (narrow_half)
    small_sum = MatMul (vertical_weights, narrow)
    small_half = Add (small_sum, half)
    small = Floor (small_half)
    upright = Transpose <perm = [1, 2, 0]> (small)
    levels = Cast <to = 2> (upright)
    {pixels} = Reshape (levels, fixed)
}}
"""


def resize_model(image_size: int) -> onnx.ModelProto:
    """A model that stretches ``image``, ``(1, H, W, 3)`` uint8 RGB, to ``pixels``, ``(1, S, S, 3)`` uint8.

    Args:
        image_size: S.
    """
    text = _RESIZE.format(
        opset=OPSET,
        image=IMAGE,
        pixels=PIXELS,
        size=image_size,
        horizontal=_WEIGHTS.format(axis="horizontal"),
        vertical=_WEIGHTS.format(axis="vertical"),
    )
    return onnx.parser.parse_model(text)

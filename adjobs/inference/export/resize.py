"""The resize of :func:`adjobs.data.images.stretch` as an ONNX graph, so that an exported model takes images of any size.

Runtimes differ in what they do with ONNX's ``Resize`` and its antialias: OpenVINO 2026.4 leaves it out, and ONNX Runtime 1.32 is
up to nine grey levels off Pillow at the edges. Matrix products are the same everywhere. Their weights are Pillow's, whole numbers
of which 2²² are 1, first along the rows, then along the columns, each pass rounded to a grey level. They are found by long
division in steps of 7 or 8 binary digits, since OpenVINO computes int64 in 32 bits, and a weight enters the products as a
multiple of 2⁷ and the rest, so that all sums stay below 2²⁴, where float32 is exact: the grey levels are Pillow's for images of
up to 30,000 pixels a side that are shrunk at most 250 times.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from adjobs.inference.engine_exported import IMAGE

OPSET = 20
PIXELS = "pixels"

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
    {axis}_sum = ReduceSum <keepdims = 1> ({axis}_inside, last)
    {axis}_dividend_1 = Mul ({axis}_inside, two_8)
    {axis}_digit_1 = Div ({axis}_dividend_1, {axis}_sum)
    {axis}_taken_1 = Mul ({axis}_digit_1, {axis}_sum)
    {axis}_rest_1 = Sub ({axis}_dividend_1, {axis}_taken_1)
    {axis}_dividend_2 = Mul ({axis}_rest_1, two_7)
    {axis}_digit_2 = Div ({axis}_dividend_2, {axis}_sum)
    {axis}_taken_2 = Mul ({axis}_digit_2, {axis}_sum)
    {axis}_rest_2 = Sub ({axis}_dividend_2, {axis}_taken_2)
    {axis}_dividend_3 = Mul ({axis}_rest_2, two_7)
    {axis}_digit_3 = Div ({axis}_dividend_3, {axis}_sum)
    {axis}_taken_3 = Mul ({axis}_digit_3, {axis}_sum)
    {axis}_rest_3 = Sub ({axis}_dividend_3, {axis}_taken_3)
    {axis}_doubled = Mul ({axis}_rest_3, two)
    {axis}_up = GreaterOrEqual ({axis}_doubled, {axis}_sum)
    {axis}_rounded_up = Cast <to = 7> ({axis}_up)
    {axis}_high_14 = Mul ({axis}_digit_1, two_7)
    {axis}_high_15 = Add ({axis}_high_14, {axis}_digit_2)
    {axis}_low_7 = Add ({axis}_digit_3, {axis}_rounded_up)
    {axis}_high = Cast <to = 1> ({axis}_high_15)
    {axis}_low = Cast <to = 1> ({axis}_low_7)
"""

# floor(sum / 2²² + ½) of a sum that is 2⁷ · high + low.
_ROUND = """
    {name}_low_exact = Div ({name}_low_sum, split)
    {name}_carry = Floor ({name}_low_exact)
    {name}_sum = Add ({name}_high_sum, {name}_carry)
    {name}_shifted = Add ({name}_sum, high_half)
    {name}_quotient = Div ({name}_shifted, high_one)
    {name} = Floor ({name}_quotient)
"""

_RESIZE = """
<ir_version: 10, opset_import: ["" : {opset}]>
resize (uint8[1, height, width, 3] {image}) => (uint8[1, {size}, {size}, 3] {pixels})
<int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 size = {{{size}}}, int64[1] last = {{-1}},
 int64[1] first = {{0}}, int64[4] fixed = {{1, {size}, {size}, 3}}, int64 two_7 = {{128}}, int64 two_8 = {{256}},
 float split = {{128.0}}, float high_half = {{16384.0}}, float high_one = {{32768.0}}>
{{
    shape = Shape ({image})
    vertical_length = Gather <axis = 0> (shape, one)
    horizontal_length = Gather <axis = 0> (shape, two)
    {horizontal}
    {vertical}
    floats = Cast <to = 1> ({image})
    planes_1 = Transpose <perm = [0, 3, 1, 2]> (floats)
    planes = Squeeze (planes_1, first)
    horizontal_high_columns = Transpose <perm = [1, 0]> (horizontal_high)
    horizontal_low_columns = Transpose <perm = [1, 0]> (horizontal_low)
    rows_high_sum = MatMul (planes, horizontal_high_columns)
    rows_low_sum = MatMul (planes, horizontal_low_columns)
    {rows}
    columns_high_sum = MatMul (vertical_high, rows)
    columns_low_sum = MatMul (vertical_low, rows)
    {columns}
    upright = Transpose <perm = [1, 2, 0]> (columns)
    levels = Cast <to = 2> (upright)
    {pixels} = Reshape (levels, fixed)
}}
"""


_CHOICE = """
<ir_version: 10, opset_import: ["" : {opset}]>
choice (uint8[1, height, width, 3] {image}) => (uint8[1, {size}, {size}, 3] {pixels})
<int64[4] same = {{1, {size}, {size}, 3}}>
{{
    actual = Shape ({image})
    equal = Equal (actual, same)
    equal_whole = Cast <to = 7> (equal)
    all_equal = ReduceMin <keepdims = 0> (equal_whole)
    is_same = Cast <to = 9> (all_equal)
}}
"""


def resize_model(image_size: int) -> onnx.ModelProto:
    """A model that stretches ``image``, ``(1, H, W, 3)`` uint8 RGB, to ``pixels``, ``(1, S, S, 3)`` uint8.

    Images of that size are passed on, which costs nothing where a runtime knows the size before.

    Args:
        image_size: S.
    """
    names = {"opset": OPSET, "image": IMAGE, "pixels": PIXELS, "size": image_size}
    weights = {axis: _WEIGHTS.format(axis=axis) for axis in ("horizontal", "vertical")}
    rounded = {name: _ROUND.format(name=name) for name in ("rows", "columns")}
    resize = onnx.parser.parse_model(_RESIZE.format(**names, **weights, **rounded)).graph
    model = onnx.parser.parse_model(_CHOICE.format(**names))
    (output,) = model.graph.output
    resized = helper.make_tensor_value_info("resized", TensorProto.UINT8, [1, image_size, image_size, 3])
    resize.node[-1].output[0] = resized.name
    passed = helper.make_tensor_value_info("passed", TensorProto.UINT8, [1, image_size, image_size, 3])
    branches = {
        "then_branch": helper.make_graph([helper.make_node("Reshape", [IMAGE, "same"], [passed.name])], "pass", [], [passed]),
        "else_branch": helper.make_graph(resize.node, "resize", [], [resized], resize.initializer),
    }
    model.graph.node.append(helper.make_node("If", ["is_same"], [output.name], **branches))
    return model

# OpenVINO computes int64 in 32 bits on processors, without a word: Identity of 5,000,000,000 is 705,032,704, and 70,000 · 70,000 is 605,032,704.
#
# Expected: int64 in an ONNX model is int64: ONNX's reference and ONNX Runtime compute 4,900,000,000; or the model is refused.
# Happens:  the CPU plugin computes 32 bits and gives an int64 tensor back, of which the upper half is lost. Values below 2³¹ are right.
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2. That the plugin has no int64 stands in its documentation of types;
#           that values are cut does not.
# Hurts:    whole-number arithmetic in a model, as for exact resizes and fixed-point weights; identifiers, times in milliseconds and
#           hashes that are passed through a model beside the image.
# adjobs:   the resize inside exported models divides in steps, so that no number reaches 2³¹.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'openvino==2026.4.1' 'onnxruntime==1.32.0' 'onnx==1.23.2'
cd "$work"
HOME=$work venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx.reference import ReferenceEvaluator

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
whole (int64[n] a, int64[n] b) => (int64[n] product, int64[n] same)
{
    product = Mul (a, b)
    same = Identity (a)
}
"""


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(*(f"{name} {version(name)}" for name in ("openvino", "onnxruntime", "onnx")), sep=", ")
model = onnx.parser.parse_model(TEXT)
onnx.checker.check_model(model, full_check=True)
content = model.SerializeToString()
inputs = np.array([3, 70_000, 5_000_000_000]), np.array([4, 70_000, 2])
named = dict(zip(("a", "b"), inputs, strict=True))
right = [[12, 4_900_000_000, 10_000_000_000], [3, 70_000, 5_000_000_000]]
check("ONNX's reference", [values.tolist() for values in ReferenceEvaluator(model).run(None, named)], right)
check("ONNX Runtime", [values.tolist() for values in onnxruntime.InferenceSession(content).run(None, named)], right)
core = openvino.Core()
results = core.compile_model(core.read_model(content), "CPU")(named)
cut = [[12, 605_032_704, 1_410_065_408], [3, 70_000, 705_032_704]]
check("OpenVINO", [results[index].tolist() for index in range(2)], cut)
check("OpenVINO's type", [str(results[index].dtype) for index in range(2)], ["int64", "int64"])
PYTHON

# safetensors 0.8.0 saves a transposed or strided numpy array as its raw memory: what is loaded has the right shape and wrong numbers.
#
# Expected: save_file and load_file of safetensors.numpy return the array, as 0.7.0 does, or refuse it, as safetensors.torch does.
# Happens:  with 0.8.0 arrays in Fortran order (a transposed matrix) and strided ones (every other column) are written from where
#           their memory begins, in the order in which it lies there, under the shape of the view. No error, no warning.
# Versions: safetensors 0.8.0 (wrong) and 0.7.0 (right), numpy 2.4.6. Reported in August 2026, open when this was written:
#           https://github.com/safetensors/safetensors/issues/825
# Hurts:    whitening matrices, PCA axes, covariances and memory banks come out of scipy and scikit-learn in Fortran order; the
#           detector is well in the process that trained it and poor, with plausible scores, wherever its file is read.
# adjobs:   saves with safetensors.torch, which refuses such tensors, and makes them contiguous first. With numpy, pass
#           np.ascontiguousarray(array); after an upgrade, compare what was loaded with what was saved.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for release in 0.7.0 0.8.0; do
    python3 -m venv "venv-$release"
    "venv-$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        "safetensors==$release" 'numpy==2.4.6'
    "venv-$release/bin/python" - <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


release = safetensors.__version__
print(f"safetensors {release}, numpy {np.__version__}")
whole = np.arange(12, dtype=np.float32).reshape(3, 4)
arrays = {
    "as it is": whole,
    "transposed": whole.T,
    "in Fortran order": np.asfortranarray(whole),
    "every other column": whole[:, ::2],
    "transposed, made contiguous": np.ascontiguousarray(whole.T),
}
safe = ("as it is", "transposed, made contiguous")
for name, array in arrays.items():
    save_file({"axes": array}, "model.safetensors")
    loaded = load_file("model.safetensors")["axes"]
    assert loaded.shape == array.shape
    check(f"{name}: loaded equals saved", np.array_equal(loaded, array), release == "0.7.0" or name in safe)
    if not np.array_equal(loaded, array):
        print(f"  saved {array.tolist()}\n  loaded {loaded.tolist()}")
PYTHON
done

# MLstatkit's DeLong test of a model against itself has p = 0: where no image is ranked differently, it reports certainty, not equality.
#
# Expected: p = 1 (or undefined) for equal scores, and for scores that rank the images alike: their AUROCs are equal, not by
#           chance.
# Happens:  the variance of the difference is 0, the function falls back to a bootstrap, and as none of the differences lies
#           strictly on either side of 0, p is 0.0, with z = 0.0 beside it. Scores that do differ get an ordinary p.
# Versions: MLstatkit 0.1.91.
# Hurts:    a gate that promotes a challenger "if p < 0.05" promotes one that is the champion again: retrained on unchanged
#           images, recalibrated (a monotone change of scores), exported. Two perfect detectors, common on easy categories, differ
#           with p = 0, too.
# adjobs:   its own DeLong test gives p = 1 where two models rank all images alike. With MLstatkit, compare the two AUROCs first,
#           and look at the method that the last element of its answer names.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'MLstatkit==0.1.91'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from MLstatkit import Delong_test


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(f"MLstatkit {version('MLstatkit')}, numpy {np.__version__}")
draw = np.random.default_rng(0)
truth = np.repeat([0, 1], [50, 20])
champion = draw.normal(size=70) + truth
cases = {
    "the champion itself": (champion, champion.copy()),
    "the champion recalibrated": (champion, 3 * champion + 1),
    "two perfect detectors": (truth + 0.0, 2.0 * truth + draw.random(70) / 4),
}
for name, (first, second) in cases.items():
    z, p, _, _, auc_first, auc_second, info = Delong_test(truth, first, second, random_state=0)
    check(f"{name}: AUROCs equal, z, p, method", (auc_first == auc_second, z, p, info["method"]), (True, 0.0, 0.0, "bootstrap"))
z, p, _, _, auc_first, auc_second, info = Delong_test(truth, champion, draw.normal(size=70) + truth, random_state=0)
print(f"another model: AUROC {auc_first:.3f} and {auc_second:.3f}, z = {z:.3f}, p = {p:.3f}")
check("another model: p is ordinary, method", (0.05 < p < 1, info["method"]), (True, "delong"))
PYTHON

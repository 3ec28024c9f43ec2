# cronsim, asked in the second of the two equal hours of autumn, answers with a time of the first: the "next" time is in the past.
#
# Expected: CronSim(expression, start) gives times after the start, one after another.
# Happens:  started at 02:10 CET on 2026-10-25 in Europe/Berlin (fold=1), "30 2 * * *" gives 02:30 CEST first, 40 minutes before
#           the start. A job at a fixed time belongs to the first hour, which is right; the iterator forgets that this hour is
#           over. Jobs of every hour ("20 * * * *", "*/15 * * * *") are right. So is the first hour, and the second one after 02:30.
# Versions: cronsim 2.8
# Hurts:    a scheduler that is restarted in that hour and asks what comes next gets a time that is due already, and runs the
#           night's job, or a retraining, a second time; one that waits for the difference sleeps a negative number of seconds.
# adjobs:   skips what does not lie after the time that it asks for (adjobs/queue/cron.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'cronsim==2.8' 'tzdata==2026.6'
"$work/venv/bin/python" - <<'PYTHON'
from datetime import datetime, timedelta
from importlib.metadata import version
from zoneinfo import ZoneInfo

from cronsim import CronSim

print("cronsim", version("cronsim"))
BERLIN = ZoneInfo("Europe/Berlin")


def minutes_to_next(expression, hour, minute, fold):
    """Real minutes from the start to the first answer."""
    start = datetime(2026, 10, 25, hour, minute, tzinfo=BERLIN, fold=fold)
    answer = next(CronSim(expression, start))
    minutes = (answer.timestamp() - start.timestamp()) / timedelta(minutes=1).total_seconds()
    print(f"{expression!r} after {start.isoformat()}: {answer.isoformat()}, in {minutes:.0f} minutes")
    return minutes


known = [
    (("30 2 * * *", 2, 10, 0), 20),  # first hour: right
    (("30 2 * * *", 2, 10, 1), -40),  # second hour: in the past; right is the next day, in 1460 minutes
    (("30 2 * * *", 2, 40, 1), 1430),  # after it: right
    (("20 * * * *", 2, 10, 1), 10),
    (("*/15 * * * *", 2, 10, 1), 5),
]
for arguments, minutes in known:
    seen = minutes_to_next(*arguments)
    if seen != minutes:
        raise SystemExit(f"changed: it was {minutes} minutes")
PYTHON

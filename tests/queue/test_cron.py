"""When schedules are due. The clocks of Berlin go from 02:00 to 03:00 on 2026-03-29, and from 03:00 to 02:00 on 2026-10-25."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.errors import ScheduleError
from adjobs.queue.cron import check_cron, check_time_zone, local_time_zone, newest, next_after

BERLIN = "Europe/Berlin"


def seconds(text: str, zone: str = BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def following(cron: str, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next times after one, with their offset from UTC."""
    moment, times = seconds(start, zone), []
    for _ in range(count):
        moment = next_after(cron, zone, moment)
        times.append(f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%m-%d %H:%M%z}")
    return times


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("0,30 2 * * *", "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("30 * * * *", "2026-03-29T00:45", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("0 3 * * *", "2026-10-24T12:00", ["10-25 03:00+0100", "10-26 03:00+0100"]),
        ("30 * * * *", "2026-10-25T01:45", ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"]),
    ],
    ids=["skipped", "skipped twice", "hourly without the skipped", "doubled", "after the doubled", "hourly with both"],
)
def test_next_after_when_clocks_change_a_fixed_time_comes_once(cron, start, expected):
    assert following(cron, start, len(expected)) == expected


def test_next_after_within_the_second_of_two_equal_hours_is_not_in_the_first():
    start = seconds("2026-10-25T02:40") + 1800  # 02:10, for the second time
    assert next_after("30 2 * * *", BERLIN, start) == seconds("2026-10-26T02:30")
    assert newest("30 2 * * *", BERLIN, seconds("2026-10-25T00:00"), start) == seconds("2026-10-25T02:30")


@given(
    st.sampled_from(["*", "*/7", "0", "30", "15,45"]),
    st.sampled_from(["*", "*/3", "2", "0,2"]),
    st.sampled_from(["* * *", "* * 1-5", "L * *", "15 * MON"]),
    st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York"]),
    st.sampled_from(["2026-03-27T00:00", "2026-10-23T00:00", "2026-04-03T00:00"]),
    st.integers(0, 4 * 86400),
    st.sampled_from([0, 59, 3600, 86400]),
)
def test_newest_is_the_last_of_all_times_between(minute, hour, days, zone, start, offset, length):
    cron, first = f"{minute} {hour} {days}", seconds(start) + offset
    moment: int | None = first
    times = []
    while (moment := next_after(cron, zone, moment)) is not None and moment <= first + length:
        times.append(moment)
    assert times == sorted(set(times))
    assert newest(cron, zone, first, first + length) == (times[-1] if times else None)


def test_newest_after_fifty_years_of_every_minute_is_quick():
    now = seconds("2076-11-28T12:00") + 0.5
    assert newest("* * 1-30 1-10 *", BERLIN, seconds("2026-11-28T12:00"), now) == seconds("2076-10-30T23:59")


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 2 * *", r"got 4 fields; must be five \(minute, hour, day of month, month, day of week\), such as '0 2 \* \* \*'"),
        ("@daily", "got 1 fields; must be five"),
        ("0 0 0 2 * *", "got 6 fields; must be five"),
        ("0 25 * * *", "got '25' as hour; allowed are 0-23, with"),
        ("0 2 * * FOO", "got 'FOO' as day of week; allowed are 0-7 or SUN-SAT"),
        ("*/0 2 * * *", r"got '\*/0' as minute"),
        ("0 0 31 2 *", "no month has such a day"),
        ("1 " * 1000, "got 1000 fields"),
        ("0 0 1 1 " + "1," * 100 + "1", "got 209 characters; must be at most 200"),
    ],
)
def test_check_cron_what_is_wrong_is_one_line(cron, message):
    with pytest.raises(ScheduleError, match=message) as error:
        check_cron(cron)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/5 8-17 * * mon-fri", "0 0 29 2 *", "0 0 L * *", "0 0 31 2 MON"])
def test_check_cron_accepts_what_comes(cron):
    check_cron(cron)


def test_check_time_zone_unknown_suggests_another():
    check_time_zone(BERLIN)
    with pytest.raises(ScheduleError, match=r"^unknown time zone 'Europe/Berln'; did you mean 'Europe/Berlin'\?$"):
        check_time_zone("Europe/Berln")
    for name in ("", "../../etc/passwd", "Europe", "x" * 10_000):
        with pytest.raises(ScheduleError, match=r"use a name of the IANA database|did you mean"):
            check_time_zone(name)


def test_next_after_time_zone_that_this_machine_does_not_know_is_one_line():
    with pytest.raises(ScheduleError, match="this machine does not know the time zone"):
        next_after("0 2 * * *", "Mars/Olympus", 0)


def test_local_time_zone_is_that_of_the_machine_or_utc(tmp_path: Path):
    assert local_time_zone({}, tmp_path) == "UTC"
    assert local_time_zone({"TZ": "CET-1CEST"}, tmp_path) == "UTC"
    (tmp_path / "timezone").write_text("Asia/Tokyo\n")
    assert local_time_zone({}, tmp_path) == "Asia/Tokyo"
    zone = tmp_path / "zoneinfo" / "Europe" / "Berlin"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(b"")
    (tmp_path / "localtime").symlink_to(zone)
    assert local_time_zone({}, tmp_path) == BERLIN
    assert local_time_zone({"TZ": ":America/New_York"}, tmp_path) == "America/New_York"

"""One reading for all images of a data set: bit depths, ranges, and what does not fit them."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.data.image_reading import DEFAULT_READING, ImageReading, PixelRange, PixelScale, decide_reading


def integers(high: float, low: float = 0, bits: int = 16) -> PixelRange:
    return PixelRange(bits, False, low, high)


@pytest.mark.parametrize(
    ("highs", "white"),
    [([200], 255), ([256], 1023), ([900, 1024], 4095), ([4080, 90], 4095), ([5000], 16383), ([16384], 65535), ([65520], 65535)],
)
def test_decide_reading_white_is_that_of_the_smallest_bit_depth_that_holds_all_values(highs, white):
    assert decide_reading([integers(high) for high in highs]) == ImageReading(white=white, depths="more than 8 bits")


def test_decide_reading_images_of_8_bits_need_no_decision():
    assert decide_reading([None, None]) == decide_reading([]) == DEFAULT_READING
    assert decide_reading([None], PixelScale(12)) == DEFAULT_READING
    assert decide_reading([None, integers(4000)]) == ImageReading(white=4095, depths="both")


def test_decide_reading_bits_of_packed_files_hold():
    assert decide_reading([integers(300, bits=12)]).white == 4095


def test_decide_reading_job_decides():
    assert decide_reading([integers(4000)], PixelScale(14)).white == 16383
    expected = ImageReading(-20, 80.5, has_range=True, depths="more than 8 bits")
    assert decide_reading([PixelRange(32, True, -3, 70)], PixelScale(None, (-20, 80.5))) == expected


def test_decide_reading_values_that_cannot_be_read_do_not_count():
    ranges = [integers(900), integers(70_000, bits=32), integers(50, low=-1), PixelRange(32, True, 0, 1)]
    assert decide_reading(ranges).white == 1023
    assert decide_reading(ranges[1:]).white == 65535


def test_to_8_bits_scales_linearly_clips_and_keeps_the_extremes():
    reading = ImageReading(white=4095)
    values = np.array([0, 8, 9, 2048, 4095, 60_000], np.uint16)
    np.testing.assert_array_equal(reading.to_8_bits(values, 16), [0, 0, 1, 128, 255, 255])
    signed = ImageReading(-100, 100, has_range=True)
    np.testing.assert_array_equal(signed.to_8_bits(np.array([-200, -100, 0, 100, 101], np.int32), 32), [0, 0, 128, 255, 255])
    np.testing.assert_array_equal(signed.to_8_bits(np.array([-100, -99.5, 99.7], np.float32), 32), [0, 1, 255])
    every = np.arange(2**16, dtype=np.uint16)
    np.testing.assert_array_equal(DEFAULT_READING.to_8_bits(every, 16), (every.astype(int) + 128) // 257)
    np.testing.assert_array_equal(DEFAULT_READING.to_8_bits(np.array([4095], np.uint16), 12), [255])


def test_fault_values_without_known_black_and_white_are_refused():
    floats = PixelRange(32, True, 0, 1)
    assert "set data.value_range to" in DEFAULT_READING.fault(floats)
    assert DEFAULT_READING.fault(integers(300, low=-5)).startswith("has values from -5 to 300; allowed are 0 to 65535")
    assert "from 0 to 65536;" in DEFAULT_READING.fault(integers(65536, bits=32))
    assert DEFAULT_READING.fault(integers(65535)) is None
    assert ImageReading(0, 1, has_range=True).fault(floats) is None
    assert "NaN or infinite" in ImageReading(0, 1, has_range=True).fault(PixelRange(32, True, np.nan, np.nan))


def test_warning_images_unlike_the_training_images():
    reading = ImageReading(white=4095, depths="more than 8 bits")
    assert reading.warning(integers(4095)) is None
    assert "outside 0 to 4095" in reading.warning(integers(4096))
    assert "has 8 bits" in reading.warning(None)
    assert ImageReading(white=4095, depths="both").warning(None) is None
    assert "has 16 bits" in DEFAULT_READING.warning(integers(9))
    assert DEFAULT_READING.warning(None) is None
    assert "data.bit_depth of the training" in reading.warning(integers(4096))
    given = ImageReading(0, 4095, has_range=True, depths="more than 8 bits")
    assert "data.value_range of the training" in given.warning(integers(900, low=-5))


def test_warning_values_that_are_no_longer_shifted_up():
    shifted = decide_reading([integers(16 * high, low=9000) for high in range(2900, 4096)])
    assert shifted == ImageReading(white=65535, depths="more than 8 bits")
    assert shifted.darkest_peak == 16 * 2911
    assert shifted.warning(integers(3216, low=592)).startswith("has values up to 3216, which 12 bits hold; the darkest training")
    assert shifted.warning(integers(46_000)) is shifted.warning(integers(16_400)) is None
    of_14_bits = decide_reading([integers(4 * high) for high in range(14_000, 16_000, 10)])
    assert "14 bits" in of_14_bits.warning(integers(15_000))


def test_warning_dark_images_of_a_data_set_with_dark_images_are_ordinary():
    varied = decide_reading([integers(high) for high in range(2000, 65_000, 100)])
    assert varied.darkest_peak == 2600
    assert all(varied.warning(integers(high)) is None for high in (867, 1024, 2000, 65_000))
    assert "10 bits" in varied.warning(integers(800))
    one_black = decide_reading([integers(0), *(integers(high) for high in range(50_000, 50_200))])
    assert one_black.darkest_peak > 50_000
    assert all(
        ImageReading(white=65535, depths="more than 8 bits").warning(integers(high)) is None for high in (0, 900)
    )  # of a detector that does not know


def test_decide_reading_darkest_peak_is_of_images_that_can_be_read():
    ranges = [integers(900), integers(70_000, bits=32), integers(50, low=-1), PixelRange(32, True, 0, 1)]
    assert decide_reading(ranges).darkest_peak == 900
    assert decide_reading(ranges[1:]).darkest_peak is None
    assert decide_reading(ranges[:3], PixelScale(None, (-10, 80_000))).darkest_peak == 50
    floats = decide_reading([PixelRange(32, True, 0, 900.5)], PixelScale(None, (0, 1000)))
    assert floats.warning(PixelRange(32, True, 0, 0.5)) is None


@pytest.mark.parametrize(
    "fields", [{"white": 0}, {"black": 5, "white": 5}, {"white": np.nan}, {"white": np.inf}, {"black": -np.inf}, {"black": 1}]
)
def test_image_reading_impossible_range_is_refused(fields):
    with pytest.raises(ValueError, match="white must be above black, both finite"):
        ImageReading(**fields)


def test_key_differs_between_readings_only():
    keys = [ImageReading(white=white).key for white in (255, 1023, 65535)] + [ImageReading(0.5, 1).key, ImageReading(0.25, 1).key]
    keys += [ImageReading(0, 1234567).key, ImageReading(0, 1234567.5).key]
    assert len(set(keys)) == 7
    assert DEFAULT_READING.key == ""
    assert ImageReading(white=255, depths="both").key == ImageReading(white=255).key

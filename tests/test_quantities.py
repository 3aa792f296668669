"""Quantities as people read them."""

from dlkit.quantities import bytes_text


def test_bytes_as_people_read_them():
    assert [bytes_text(size) for size in (12, 2048, 47_000_000, 3 * 2**30)] == [
        "12 B",
        "2.0 KiB",
        "44.8 MiB",
        "3.0 GiB",
    ]

"""A small piece of tests/benchmarks/day_of_traffic.py: memory and open files stay where they are."""

from __future__ import annotations

from pathlib import Path

from day_of_traffic import TOLERANCE_MIB, Sample, growth, traffic


def test_traffic_leaks_no_memory_and_no_file_handle(run_folder_with_store: Path) -> None:
    found = list(traffic(run_folder_with_store, trials=5, points=200, samples=4))
    assert found[-1].points == 1000
    mib, handles = growth(found)
    assert mib < TOLERANCE_MIB, found
    assert handles <= 0, found


def test_a_leak_would_be_seen() -> None:
    leaking = [Sample(points=k, rss_mib=100.0 + 10 * k, handles=20 + k) for k in range(10)]
    mib, handles = growth(leaking)
    assert mib > TOLERANCE_MIB
    assert handles > 0

"""Named ladders, and the published one to the last digit."""

from __future__ import annotations

from itertools import pairwise

import pytest

from search_spaces.errors import InputError
from search_spaces.ladders import LADDERS, ladder
from search_spaces.scale import Architecture, ModelScale

# Depth, width, then parameters with the head, without it, and with attention: Porian et al. 2024, from the
# published records of their runs.
PUBLISHED = [
    (3, 96, 5_173_248, 331_776, 5_763_072),
    (4, 128, 7_503_872, 1_048_576, 8_552_448),
    (5, 160, 9_809_920, 1_740_800, 11_448_320),
    (6, 224, 15_597_568, 4_300_800, 18_350_080),
    (8, 288, 22_487_040, 7_962_624, 27_205_632),
    (9, 320, 28_672_000, 12_533_760, 34_570_240),
    (10, 384, 37_060_608, 17_694_720, 44_924_928),
    (12, 480, 57_384_960, 33_177_600, 69_181_440),
    (14, 576, 84_787_200, 55_738_368, 101_302_272),
    (15, 640, 108_462_080, 76_185_600, 128_122_880),
    (18, 704, 149_045_248, 113_541_120, 174_997_504),
    (21, 832, 220_872_704, 178_913_280, 256_655_360),
    (23, 1024, 347_078_656, 295_436_288, 395_313_152),
    (26, 1120, 455_311_360, 398_827_520, 514_949_120),
    (26, 1312, 611_958_784, 545_792_000, 681_820_160),
    (30, 1504, 901_726_208, 825_876_480, 994_131_968),
]
# Matrices and norms of the smallest and the largest: the exact counts of the paper's tables.
PUBLISHED_WITH_NORMS = {0: 5_175_744, 15: 902_090_176}


def test_porian_has_the_published_sizes() -> None:
    counted = [
        (scale.depth, scale.width, scale.params, scale.non_embedding_params, scale.attention_params)
        for scale in ladder("porian")
    ]
    assert counted == PUBLISHED


def test_porian_is_an_untied_llama_on_its_context_and_vocabulary() -> None:
    shapes = {(s.architecture, s.tied, s.sequence_length, s.vocab_size) for s in ladder("porian")}
    assert shapes == {(Architecture.LLAMA, False, 2048, 50_432)}


def test_porian_heads_suit_fused_attention() -> None:
    widths = [scale.head_width for scale in ladder("porian")]
    assert min(widths) == 48
    assert max(widths) == 94
    assert [width for width in widths if width % 8] == [82, 94]


@pytest.mark.parametrize(("name", "sizes"), [("laptop", 4), ("evening", 6), ("porian", 16)])
def test_each_ladder_has_its_sizes(name: str, sizes: int) -> None:
    assert len(ladder(name)) == sizes


@pytest.mark.parametrize("name", LADDERS)
def test_scales_rise_and_have_names_of_their_own(name: str) -> None:
    scales = ladder(name)
    assert all(small.params < large.params for small, large in pairwise(scales))
    assert [scale.name for scale in scales] == [f"s{number}" for number in range(1, len(scales) + 1)]


@pytest.mark.parametrize("name", ["laptop", "evening"])
def test_small_ladders_keep_their_proportions(name: str) -> None:
    def proportions(scale: ModelScale) -> tuple[float, float]:
        return scale.width / scale.depth, scale.ffn_width / scale.width

    for aspect, expansion in map(proportions, ladder(name)):
        assert 8 <= aspect <= 24
        assert 2.5 <= expansion <= 3.0


def test_small_ladders_read_bytes() -> None:
    assert {(s.vocab_size, s.sequence_length) for s in (*ladder("laptop"), *ladder("evening"))} == {(256, 128)}


def test_an_unknown_ladder_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no ladder named 'portian'; did you mean 'porian'\? Known: laptop, evening"):
        ladder("portian")


def test_a_far_off_name_gets_the_whole_list() -> None:
    with pytest.raises(InputError, match="Known: laptop, evening, porian"):
        ladder("xyz")

"""The colours of the status page can be told apart by everybody, by day and by night (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re
from pathlib import Path

import pytest

import kveil.proxy.admin.site

SHEET = (Path(kveil.proxy.admin.site.__file__).parent / "assets" / "style.css").read_text()
TEXT, SHAPES = 4.5, 3.0
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)
)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        *((front, back, TEXT) for front in ("text", "soft") for back in ("page", "card")),
        *((front, f"{front}-back", TEXT) for front in ("good", "bad", "warn")),
        ("text", "tag", TEXT),
        ("bad", "card", TEXT),
        ("sealed", "page", TEXT),
        ("sealed", "card", SHAPES),
        ("opened", "card", SHAPES),
    ],
)
def test_contrast(colours, front, back, least):
    assert contrast(colours[front], colours[back]) >= least


def test_both_have_all_colours():
    assert LIGHT.keys() == DARK.keys()
    assert set(re.findall(r"var\(--([\w-]+)\)", SHEET)) == LIGHT.keys()


def test_nothing_is_fetched():
    assert "url(" not in SHEET
    assert "@import" not in SHEET

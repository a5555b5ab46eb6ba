"""The pictures of book/your_brains.md, from the example's report, each of at most 150 kB:

make report && .venv/bin/python book/_ext/pictures.py
"""

from itertools import product
from pathlib import Path

from PIL import Image

BOOK = Path(__file__).parents[1]
REPORT = BOOK.parent / "_build/reports/example"
OUT = BOOK / "_static/your_brains"
MOST = 150_000  # bytes
LOOK = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}  # thin lines stay


def main() -> None:
    """Write every picture of the report as large and with as many colours as it has room for."""
    pictures = sorted(REPORT.glob("*.png"))
    if not pictures:
        raise SystemExit(f"error: no pictures in {REPORT}; make report leaves them there")
    OUT.mkdir(exist_ok=True)
    for path in pictures:
        kept, picture = OUT / path.name, Image.open(path).convert("RGB")
        for width, colours in product((picture.width, 720, 480), (256, 128, 64)):
            smaller = picture.resize((width, round(picture.height * width / picture.width)))
            smaller.quantize(colours, **LOOK).save(kept, optimize=True)
            if kept.stat().st_size <= MOST:
                break
        size = f"{width} pixels wide, {colours} colours, {kept.stat().st_size / 1000:.0f} kB"
        print(f"{kept.relative_to(BOOK)}: {size}")


if __name__ == "__main__":
    main()

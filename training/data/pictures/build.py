"""Rebuild the vendored sprite sheets from the published packages.

A development step, never run by the recipe; it alone needs an SVG renderer (resvg-py).

    npm pack emoji-datasource-google@16.0.0 ...   # the packages of SOURCES, into one folder
    python -m training.data.pictures.build FOLDER

Each sheet is one PNG of 64x64 RGBA cells in the order of OBJECTS, six to a row; a thing that a
vendor never drew, or drew as something else, is an empty cell and is named in manifest.json.
"""

import argparse
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from training.data.objects import OBJECTS

HERE = Path(__file__).parent
CELL_PX, COLUMNS = 64, 6


@dataclass(frozen=True)
class Source:
    vendor: str
    package: str
    version: str
    licence: str
    author: str
    member: str  # a path with {code} in it, or the icon collection the names below point into
    names: str = ""  # which column of NAMES, for collections

    @property
    def tarball(self) -> str:
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


SOURCES = (
    Source("noto", "emoji-datasource-google", "16.0.0", "Apache-2.0", "Google, Noto Emoji",
           "package/img/google/64/{code}.png"),
    Source("twemoji", "emoji-datasource-twitter", "16.0.0", "CC-BY-4.0", "Twitter and contributors",
           "package/img/twitter/64/{code}.png"),
    Source("emojione", "emojione", "2.2.7", "CC-BY-4.0", "EmojiOne",
           "package/assets/png_128x128/{code}.png"),
    Source("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla, Firefox OS Emoji",
           "package/icons.json", names="fxemoji"),
    Source("noto_v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google, Noto Emoji v1",
           "package/icons.json", names="noto_v1"),
    Source("streamline", "@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0", "Streamline",
           "package/icons.json", names="streamline"),
    Source("fluent", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "Microsoft, Fluent Emoji",
           "package/assets/{code}.webp"),
)  # fmt: skip

# word, code point, name in fxemoji, noto-v1 and streamline; "-" where no drawing fits the word
NAMES = {row.split()[0]: row.split()[1:] for row in """
apple 1f34e redapple red-apple red-apple
banana 1f34c banana banana -
cherry 1f352 cherries cherries cherries
grapes 1f347 grapes grapes grapes
watermelon 1f349 watermelon watermelon watermelon-1
lemon 1f34b lemon lemon lemon
pear 1f350 pear pear pear
pineapple 1f34d pineapple pineapple -
eggplant 1f346 aubergine eggplant -
mushroom 1f344 mushroom mushroom mushroom
pizza 1f355 sliceofpizza pizza pizza-1
burger 1f354 hamburger hamburger hamburger-1
fries 1f35f frenchfries french-fries french-fries
frog 1f438 frog frog frog-face
pig 1f437 pig pig-face pig-face
panda 1f43c pandaface panda panda-face
fox 1f98a - fox -
penguin 1f427 penguin penguin penguin-1
chick 1f424 - baby-chick -
whale 1f433 spurtingwhale spouting-whale spouting-whale
ladybug 1f41e ladybeetle lady-beetle lady-beetle
cactus 1f335 cactus cactus cactus-1
sunflower 1f33b sunflower sunflower sunflower-1
palm 1f334 palmtree palm-tree palm-tree
ball 26bd soccerball soccer-ball -
star 2b50 - star -
moon 1f319 crescentmoon crescent-moon crescent-moon
heart 2764 redheart red-heart -
drop 1f4a7 droplet droplet droplet
umbrella 2602 umbrellawithraindrops umbrella umbrella
scissors 2702 blackscissors scissors -
bulb 1f4a1 lightbulb light-bulb -
anchor 2693 anchor anchor anchor
hat 1f3a9 tophat top-hat -
jeans 1f456 jeans jeans jeans
car 1f697 - automobile automobile
""".strip().splitlines()}  # fmt: skip
COLUMN = {"fxemoji": 1, "noto_v1": 2, "streamline": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="folder with the npm tarballs")
    folder: Path = parser.parse_args().packages
    manifest = {source.vendor: build_sheet(source, folder / source.tarball) for source in SOURCES}
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def build_sheet(source: Source, tarball: Path) -> dict[str, Any]:
    rows = -(-len(OBJECTS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL_PX, rows * CELL_PX))
    missing = set(OBJECTS)
    for word, picture in read_pictures(source, tarball):
        index = OBJECTS.index(word)
        sheet.paste(fit(picture), (index % COLUMNS * CELL_PX, index // COLUMNS * CELL_PX))
        missing.remove(word)
    path = HERE / f"{source.vendor}.png"
    sheet.save(path, optimize=True)
    return {
        "package": source.package,
        "version": source.version,
        "package_sha256": hashlib.sha256(tarball.read_bytes()).hexdigest(),
        "licence": source.licence,
        "author": source.author,
        "sheet_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "missing": sorted(missing),
    }


def fit(picture: Image.Image) -> Image.Image:
    """What is drawn, filling a cell, so that a size means the same for every vendor."""
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = CELL_PX / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL_PX, CELL_PX))
    cell.paste(picture, ((CELL_PX - picture.width) // 2, (CELL_PX - picture.height) // 2))
    return cell


def read_pictures(source: Source, tarball: Path) -> Iterator[tuple[str, Image.Image]]:
    with tarfile.open(tarball) as package:
        members = {member.name: member for member in package.getmembers()}

        def read(name: str) -> bytes:
            stream = package.extractfile(members[name])
            assert stream, name
            return stream.read()

        collection = json.loads(read(source.member)) if source.names else {}
        for word in OBJECTS:
            code = NAMES[word][0]
            if source.names:
                if (name := NAMES[word][COLUMN[source.names]]) != "-":
                    yield word, rasterise(collection, name)
                continue
            paths = [source.member.format(code=c) for c in (code, f"{code}-fe0f")]
            path = next(path for path in paths if path in members)
            yield word, Image.open(io.BytesIO(read(path))).convert("RGBA")


def rasterise(collection: dict[str, Any], name: str) -> Image.Image:
    import resvg_py  # type: ignore[import-not-found]

    icon = collection["icons"][name]
    left, top, width, height = (
        icon.get(key, collection.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="256" height="256">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return Image.open(io.BytesIO(png)).convert("RGBA")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# datasets 5.2.0, webdataset 1.0.2 (seen 2026-11-28).
#
# A camera that was held upright writes the picture lying on its side, with a note in EXIF of how to turn
# it. `datasets.Image` turns it while it decodes, in every format that it hands out (PIL, NumPy, torch);
# Pillow, `webdataset`'s `decode("pil")` and the loaders of torchvision (ImageFolder, `decode_image`) do
# not. So one JPEG has 20 x 40 pixels through Hugging Face and 40 x 20 through a tar shard or a folder,
# and a network that was trained on the one sees the other lying on its side, without a word.
#
# Output seen: Pillow (40, 20), WebDataset (40, 20), datasets (20, 40).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 webdataset==1.0.2 pillow==12.3.0 numpy==2.2.6
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import tarfile

import datasets
import webdataset
from PIL import Image

exif = Image.Exif()
exif[0x0112] = 6  # turn by 90 degrees
Image.new("RGB", (40, 20)).save("photo.jpg", exif=exif)
with tarfile.open("photos.tar", "w") as tar:
    tar.add("photo.jpg")

pillow = Image.open("photo.jpg").size
shard = next(iter(webdataset.WebDataset(["photos.tar"], shardshuffle=False).decode("pil")))["jpg"].size
rows = datasets.Dataset.from_dict({"image": ["photo.jpg"]})
hub = rows.cast_column("image", datasets.Image())[0]["image"].size
print(f"Pillow {pillow}, WebDataset {shard}, datasets {hub}")
assert pillow == shard == (40, 20)
assert hub == (20, 40), "the behaviour has changed"
PYTHON
echo "as described"

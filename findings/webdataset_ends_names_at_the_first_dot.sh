#!/usr/bin/env bash
# webdataset 1.0.2 (seen 2026-11-28).
#
# Members of a shard belong to one sample if their names are the same up to the *first* dot; what follows
# is the field. So three labelled pictures called scan_0.5mm.png, scan_1.5mm.png and scan_2.5mm.png are
# three samples for scan_0, scan_1 and scan_2, each with fields `5mm.png` and `5mm.cls`, and no `png`; and
# pictures of one day, 2026.11.28_1.png to 2026.11.28_3.png, are one single sample. Nothing is said, and
# the number of samples is not that of the pictures; `decode("pil")` still decodes them, by their ending.
#
# Output seen: 3 pictures by date are 1 sample with the fields 11.28_1.cls, 11.28_1.png, 11.28_2.cls,
# 11.28_2.png, 11.28_3.cls, 11.28_3.png.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 pillow==12.3.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import tarfile

import webdataset
from PIL import Image

names = [f"2026.11.28_{i}" for i in (1, 2, 3)]
with tarfile.open("photos.tar", "w") as tar:
    for name in names:
        Image.new("RGB", (8, 8)).save(f"{name}.png")
        with open(f"{name}.cls", "w") as file:
            file.write("1")
        tar.add(f"{name}.cls")
        tar.add(f"{name}.png")

samples = list(webdataset.WebDataset(["photos.tar"], shardshuffle=False))
fields = sorted(field for field in samples[0] if not field.startswith("__"))
print(f"{len(names)} pictures by date are {len(samples)} sample with the fields {', '.join(fields)}")
assert len(samples) == 1 and len(fields) == 6, "the behaviour has changed"
PYTHON
echo "as described"

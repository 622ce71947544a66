"""The 1,000 ImageNet class names as a JSON array in class order. Usage: labels.py LABEL_TO_NAMES.json OUT.json

The source maps "0".."999" to synonyms separated by commas; the first one names the class.
"""

import json
import sys
from pathlib import Path


def main(source, out):
    names = json.loads(Path(source).read_text())
    labels = [names[str(i)].split(",")[0].strip() for i in range(1000)]
    Path(out).write_text(json.dumps(labels, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])

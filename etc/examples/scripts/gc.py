"""GC content of a genome, overall and per window, as JSON."""

import json
import sys
from pathlib import Path

import fasta

WINDOW = 10_000


def share(text):
    return (text.count("G") + text.count("C")) / len(text)


name, bases = fasta.read(sys.argv[1])
windows = [share(bases[at : at + WINDOW]) for at in range(0, len(bases) - WINDOW + 1, WINDOW)]
found = {"name": name, "length": len(bases), "gc": share(bases), "windows": windows}
Path(sys.argv[2], "gc.json").write_text(json.dumps(found))
print(f"{name}: GC {100 * found['gc']:.2f} % (windows {min(windows):.3f} to {max(windows):.3f})")

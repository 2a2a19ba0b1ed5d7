"""Put GC contents and k-mer counts together: one table to read, one to compute with."""

import json
import sys
from pathlib import Path

inputs, output = Path(sys.argv[1]), Path(sys.argv[2])
rows = []
for path in sorted(inputs.glob("*.gc.json")):
    gc = json.loads(path.read_text())
    kmers = json.loads((inputs / f"{gc['name']}.kmers.json").read_text())
    (word, times), *_ = kmers["top"]
    rows.append((gc["name"], gc["length"], f"{gc['gc']:.4f}", kmers["distinct"], word, times))

heading = ("genome", "bases", "gc", "distinct_kmers", "most_frequent", "times")
with (output / "report.tsv").open("w") as file:
    for row in (heading, *rows):
        print(*row, sep="\t", file=file)
width = [max(len(str(row[n])) for row in (heading, *rows)) for n in range(len(heading))]
for row in (heading, *rows):
    print("  ".join(str(cell).ljust(width[n]) for n, cell in enumerate(row)).rstrip())

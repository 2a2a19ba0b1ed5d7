"""Read the one sequence of a FASTA file."""

from pathlib import Path


def read(path):
    lines = Path(path).read_text().splitlines()
    return lines[0][1:].split()[0], "".join(line for line in lines if not line.startswith(">"))

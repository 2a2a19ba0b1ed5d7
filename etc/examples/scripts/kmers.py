"""Count all k-mers of a genome with as many processes as cores were asked for, as JSON."""

import collections
import json
import multiprocessing
import sys
from pathlib import Path

import fasta

K = 7


def count(bases):
    return collections.Counter(bases[at : at + K] for at in range(len(bases) - K + 1))


if __name__ == "__main__":
    name, bases = fasta.read(sys.argv[1])
    cores = int(sys.argv[3])
    step = -(-len(bases) // cores)
    # Neighbouring parts overlap by K - 1 bases, so that no k-mer is lost or counted twice.
    parts = [bases[at : at + step + K - 1] for at in range(0, len(bases), step)]
    with multiprocessing.Pool(cores) as pool:
        total = sum(pool.map(count, parts), collections.Counter())
    top = total.most_common(5)
    found = {"name": name, "k": K, "kmers": sum(total.values()), "distinct": len(total), "top": top}
    Path(sys.argv[2], "kmers.json").write_text(json.dumps(found))
    print(f"{name}: {found['kmers']} {K}-mers, {found['distinct']} distinct, most often {top[0]}")

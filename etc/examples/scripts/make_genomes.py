"""Make small artificial genomes, the same ones each time: FASTA files in the directory given.

Each is a Markov chain over A, C, G and T with its own GC content, and carries a repeat that the k-mer
counts of the next step find again.
"""

import random
import sys
from pathlib import Path

GENOMES = {"alpha": (0.38, "GATTACA"), "beta": (0.50, "ACGTACG"), "gamma": (0.63, "CCGCGGC")}
LENGTH = 3_000_000
REPEATS = 10_000


def sequence(gc, repeat, seed):
    chance = random.Random(seed)
    bases = chance.choices("ACGT", weights=(1 - gc, gc, gc, 1 - gc), k=LENGTH)
    for _ in range(REPEATS):
        at = chance.randrange(LENGTH - len(repeat))
        bases[at : at + len(repeat)] = repeat
    return "".join(bases)


def main(directory):
    for seed, (name, (gc, repeat)) in enumerate(GENOMES.items()):
        text = sequence(gc, repeat, seed)
        with (Path(directory) / f"{name}.fa").open("w") as file:
            file.write(f">{name} length={LENGTH}\n")
            for start in range(0, LENGTH, 70):
                file.write(text[start : start + 70] + "\n")
        print(f"{name}: {LENGTH} bases")


main(sys.argv[1])

"""From what waits and where there is room to which nodes to order: at least cost, the most urgent first.

    pack       the whole of it
    kinds      what waits, by shape                 offers     the sizes, and what may be ordered for whom
    pricing    what a core or a byte is worth       allowance  the limits
    patterns   how to fill nodes well               firstfit   rooms in a fixed order
    ordering   new nodes at least cost              merging    the worst of them, put together
    rationing  who comes first when not all can     draft      the answer, while it is being written

Rooms are filled first, stage by stage; what is left gets new nodes. As long as everything finds a place, it does
not matter who is more urgent. Only when the new nodes would exceed a limit, all is done again strictly in the
order of urgency.

Pure: no clock, no I/O, and the same answer whatever the order of rooms and sizes.
"""

from nodemanager.nodes.packing.pack import pack

__all__ = ["pack"]

"""After the link: did every call of a trampoline really get its save and its restore?

Linkers leave some calls alone without a word, so that the objects do not tell. This looks at the
image: every branch that comes to a trampoline, directly or by way of stubs, is found by decoding
the code, since an image need not have relocations. It shares nothing with what rewrites images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scpatch.verifier.linked.image import Linked, read_image
from scpatch.verifier.linked.judge import judge
from scpatch.verifier.linked.pair import prove_images
from scpatch.verifier.objects import record
from scpatch.verifier.objects.calls import find_calls
from scpatch.verifier.objects.forms import read_object
from scpatch.verifier.objects.read import UnreadableError
from scpatch.verifier.proof import loads
from scpatch.verifier.reasons import not_in_images
from scpatch.verifier.types import Proof, SiteProof

__all__ = ["prove_images", "prove_link"]


def prove_link(
    objects: Iterable[Path], image: Path, trampolines: Sequence[str], paca_toc: int | None = None
) -> Proof:
    """The proof for all call sites of an image; with the objects that it was linked from, also
    that it has as many calls as they. `paca_toc` is as for `prove`.

    A file that cannot be read is an error of the proof. Raises OSError for one that cannot be
    opened.
    """
    try:
        linked = read_image(image, trampolines)
        if fault := not_in_images(record.strategies(linked.image)):
            return Proof((), (fault,))
        sites = tuple(judge(linked))
        errors = [*_lost(_count(objects, trampolines), linked, sites)]
        errors += loads.one_offset(loads.loads_of(linked.image, sites), paca_toc)
        if not linked.entries:
            errors.append("no symbol names a trampoline's code: nothing can be said.")
        return Proof(sites, tuple(errors))
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",))


def _count(objects: Iterable[Path], trampolines: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many calls the objects have, by trampoline and function."""
    found: Counter[tuple[str, str]] = Counter()
    for path in objects:
        calls = find_calls(read_object(path), trampolines)
        for place, site in calls.sites.items():
            function = calls.image.function_at(place)
            found[site.trampoline.symbol.name, function.name if function else ""] += 1
    return found


def _lost(
    wanted: Counter[tuple[str, str]], linked: Linked, sites: Sequence[SiteProof]
) -> Iterator[str]:
    """One sentence for each trampoline that fewer calls come to than the objects have.

    Counted by trampoline: a thunk makes its call from a function of its own.
    """
    before: Counter[str] = Counter()
    for (trampoline, _), number in wanted.items():
        before[trampoline] += number
    after = Counter(name for site in sites for name in linked.names(site.trampoline))
    here = Counter((site.trampoline, site.function) for site in sites)
    for name, number in sorted(before.items()):
        if after[name] >= number:
            continue
        missing = wanted - here
        functions = sorted({function for one, function in missing if one == name and function})
        where = f" (look at {', '.join(functions[:5])})" if functions else ""
        yield f"{name}: {number} calls in the objects, {after[name]} in the image{where}."

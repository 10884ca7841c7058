"""After the link: did every call of a trampoline get its save and its restore?

Linkers leave some calls alone without a message, so the objects do not tell. This looks at the
image. An image need not have relocations, so every branch that comes to a trampoline, directly or
through stubs, is found in the decoded code. Nothing is shared with what rewrites images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scpatch.verifier.linked.image import Linked, find_trampolines, read_image
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
        linked = find_trampolines(read_image(image), trampolines)
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
    counts: Counter[tuple[str, str]] = Counter()
    for path in objects:
        calls = find_calls(read_object(path), trampolines)
        for place, site in calls.sites.items():
            function = calls.image.function_at(place)
            counts[site.trampoline.symbol.name, function.name if function else ""] += 1
    return counts


def _lost(
    wanted: Counter[tuple[str, str]], linked: Linked, sites: Sequence[SiteProof]
) -> Iterator[str]:
    """One sentence for each trampoline that has fewer calls in the image than in the objects.

    Counted by trampoline: a thunk makes its call from a function of its own.
    """
    before: Counter[str] = Counter()
    for (trampoline, _), number in wanted.items():
        before[trampoline] += number
    after = Counter(name for site in sites for name in linked.aliases(site.trampoline))
    missing = wanted - Counter((site.trampoline, site.function) for site in sites)
    for name, number in sorted(before.items()):
        if after[name] < number:
            functions = sorted({function for callee, function in missing if callee == name} - {""})
            where = f" (look at {', '.join(functions[:5])})" if functions else ""
            yield f"{name}: {number} calls in the objects, {after[name]} in the image{where}."

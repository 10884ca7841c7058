"""What a strategy is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile
from scpatch.linux.offsets import Offsets
from scpatch.sites.actions import Action, Common
from scpatch.sites.choices import Choices
from scpatch.sites.model import Scan, Site, Traces
from scpatch.strategies.plans import Plan


class Cost(NamedTuple):
    """Instructions that a call executes in addition to a call that nothing preserves r2 for."""

    same: int
    """If the target has the caller's TOC."""
    other: int
    """If it has another."""


class Strategy(ABC):
    """Facts in, decisions out. What a strategy does not need, it leaves as it is here."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for lists."""
    text: ClassVar[str]
    """What `scpatch explain` prints."""
    modules: ClassVar[bool] = True
    """Whether it can be applied to kernel modules."""
    images: ClassVar[bool] = False
    """Whether it can be applied to linked images."""
    hoists: ClassVar[bool] = False
    """Whether it turns nops before a call into saves of r2."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """The options that it takes beside those that all strategies take: `offsets`, `unmark`."""

    actions: ClassVar[type[Action]] = Common
    """What it does with call sites beside what `Common` has."""

    def find_traces(self, elf: ElfFile, patterns: Sequence[str]) -> Traces:
        """The code that it has added to a file earlier, for trampolines that match `patterns`.
        Asked only if some symbol has the name of added code."""
        return Traces()

    def recognise(self, elf: ElfFile, scan: Scan, sites: Sequence[Site]) -> Sequence[Site]:
        """The `sites` that the default strategy has decided in a file that records this one, with
        those that this one has put right elsewhere than at the call site."""
        return sites

    @abstractmethod
    def decide(self, elf: ElfFile, scan: Scan) -> tuple[Site, ...]:
        """The sites of `scan` with what becomes of them. It asks for nothing of the kernel."""

    @abstractmethod
    def plan(self, elf: ElfFile, scan: Scan, additions: Additions, offsets: Offsets) -> Plan:
        """What is to happen to the object that `scan` was found in, for a kernel with `offsets`.
        The changes themselves go into `additions`.

        Raises ScpatchError if the strategy cannot be applied to the object at all.
        """

    @abstractmethod
    def cost(self, offsets: Offsets) -> Mapping[Action, Cost]:
        """What a call costs, by what becomes of its site. What the linker adds is counted. The
        trampolines are taken to compute r2 in a prologue that calls skip."""

    def suits_images(self, choices: Choices, offsets: Offsets) -> bool:
        """Whether it is to be taken for the image of a kernel with `offsets`, unless the user names
        another strategy: nothing is cheaper, and nothing in the kernel or in `choices` speaks
        against it."""
        return False

    def is_undone(self, choices: Choices) -> bool:
        """Whether `choices` undo it in a file that it was applied to."""
        return False

    def undone(self, scan: Scan) -> frozenset[str]:
        """The other strategies of a file that this one undoes."""
        return frozenset()

    def means(self, plans: Sequence[Plan]) -> Mapping[str, int]:
        """How the changed call sites of some objects are rewritten, in a few words, and how many
        of them: `by 4 stubs` 9, `saved already` 3."""
        return {}

    def share(self, plans: Sequence[Plan]) -> str:
        """What `--stats` says under its table; empty for nothing."""
        return ""

"""Every diagnostic: its code, what it means, why it is so, and what to do about it.

Imported only where a hint or an explanation is printed. The page docs/reference/diagnostics.md is
made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Diagnostic(NamedTuple):
    title: str
    text: str
    """The paragraph behind it."""
    hint: str
    """What to do, in one line; printed under the message."""


DIAGNOSTICS: Mapping[str, Diagnostic] = {
    "SCP101": Diagnostic(
        "not an ELF file",
        "The file does not start with the ELF magic number, or is empty. scpatch works on "
        "relocatable objects (.o, .ko) and archives of them (.a).",
        "give it the object that the compiler or `ld -r` wrote",
    ),
    "SCP102": Diagnostic(
        "an object for another machine",
        "Only ELF64 little-endian objects for 64-bit PowerPC (EM_PPC64) hold call sites of the "
        "kind that scpatch rewrites. Big-endian kernels and 32-bit PowerPC use other conventions "
        "for the TOC, or none.",
        "check CROSS_COMPILE and ARCH: the object must be built for powerpc64le",
    ),
    "SCP103": Diagnostic(
        "an ELFv1 object",
        "e_flags or a section .opd says that the object follows the older ABI with function "
        "descriptors. There a call goes through a descriptor that carries the callee's TOC, and "
        "trampolines work differently.",
        "build for the ELFv2 ABI (-mabi=elfv2), the default of powerpc64le compilers",
    ),
    "SCP104": Diagnostic(
        "a linked image",
        "Executables and shared objects have no relocations that say where the call sites are, and "
        "no room for stubs in their code. Only the strategy paca works on a linked vmlinux, since "
        "it changes nothing but the nops.",
        "rewrite the objects that the image is linked from; a vmlinux can take `--strategy paca`",
    ),
    "SCP105": Diagnostic(
        "a signed module",
        "The file ends with a module signature. A signature covers every byte in front of it, so "
        "that any change makes the kernel reject the module.",
        "rewrite the module before it is signed, or strip the signature and sign it again",
    ),
    "SCP106": Diagnostic(
        "a compressed file",
        "The file is compressed as a whole, as distributions install modules (.ko.xz, .ko.zst).",
        "decompress it first, rewrite it, then compress it again",
    ),
    "SCP107": Diagnostic(
        "a damaged ELF file",
        "Tables reach past the end of the file, overlap, or contradict each other: the file is "
        "truncated, or another tool wrote it wrongly. Nothing was written.",
        "build the object again; `readelf -aW FILE` shows what is wrong with it",
    ),
    "SCP108": Diagnostic(
        "a damaged archive",
        "The archive's headers contradict its size or each other, or a thin archive does not agree "
        "with the files that it names.",
        "make the archive again with `ar`",
    ),
    "SCP109": Diagnostic(
        "the input cannot be read",
        "The file does not exist, is no regular file, or the system refused to read it.",
        "check the name and the permissions",
    ),
    "SCP110": Diagnostic(
        "the output cannot be written",
        "The new file is written in its target's directory and renamed over it, which needs room "
        "and permission in that directory. The old file is as it was.",
        "check the directory's permissions and its free space",
    ),
    "SCP111": Diagnostic(
        "no machine code yet",
        "With link-time optimisation (-flto) the compiler writes LLVM bitcode or GCC's "
        "intermediate code; machine code and its relocations exist only after the link. An object "
        "that GCC wrote with -ffat-lto-objects holds both and is rewritten, but a link with LTO "
        "uses the intermediate code and throws the machine code away.",
        "rewrite the object that `ld -r` makes from it (vmlinux.o), or compile without -flto",
    ),
    "SCP112": Diagnostic(
        "the input changed while it was worked on",
        "While scpatch read the file, planned or copied, something else replaced or changed it. "
        "Nothing was written.",
        "run it again when nothing else writes the file",
    ),
    "SCP113": Diagnostic(
        "two archives with different members",
        "Archives are compared member by member; a member of one that the other does not have has "
        "nothing to be compared with.",
        "compare two versions of the same archive",
    ),
    "SCP114": Diagnostic(
        "rewritten by another strategy",
        "The file says, by a string in .comment, that another strategy was applied to it or to a "
        "part of it. Two strategies on one file do not add up: the linker refuses a stub's branch "
        "to a trampoline that another strategy has marked, and a trampoline that saves r2 itself "
        "needs no saving callers.",
        "start from the object that the compiler or `ld -r` wrote, or go on with the same strategy",
    ),
    "SCP115": Diagnostic(
        "an offset of the kernel is not known",
        "Some strategies use what the kernel keeps for each CPU or thread: the PACA and the "
        "livepatch stack. Where the fields lie depends on the kernel's configuration. Kbuild "
        "writes their offsets to include/generated/asm-offsets.h of the object tree.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
    "SCP116": Diagnostic(
        "relocations that are not read",
        "scpatch reads relocations from SHT_RELA sections, which is what the ELFv2 ABI prescribes. "
        "This object has some in another form for code or for data in memory: SHT_CREL (clang's "
        "--crel), SHT_REL, a type that scpatch does not know, a compressed table, or a table that "
        "does not name its section. Calls in them would go unseen, and stay wrong.",
        "assemble with SHT_RELA relocations (clang: -Wa,--no-crel)",
    ),
    "SCP117": Diagnostic(
        "an object with program headers",
        "Program headers say where parts of the file lie. A rewritten object grows, so they would "
        "be wrong. No linker or module loader looks at those of a relocatable object, and no "
        "compiler or linker writes any.",
        "rewrite the object as the compiler or `ld -r` wrote it",
    ),
    "SCP118": Diagnostic(
        "an object without its code",
        "The code sections have relocations but no bytes (SHT_NOBITS): `objcopy "
        "--only-keep-debug` has left only what a debugger needs. The code is in another file.",
        "give it the file that holds the code",
    ),
    "SCP119": Diagnostic(
        "an archive inside an archive",
        "A member of the archive is an archive itself. No linker takes its members: GNU ld and "
        "lld refuse such a file, or pass it over. `llvm-ar rcT` makes one of a regular archive, "
        "where GNU ar names the members of that archive one by one.",
        "make the archive with GNU ar, or add the members (llvm-ar's L)",
    ),
    "SCP120": Diagnostic(
        "a big-endian host",
        "scpatch reads the tables of little-endian objects in place, in the byte order of the "
        "machine that it runs on. On a big-endian machine it would read other numbers, so it "
        "reads nothing.",
        "run scpatch on a little-endian machine (x86-64, arm64, ppc64le)",
    ),
    "SCP121": Diagnostic(
        "a call outside of executable sections",
        "A section that is loaded but not executable has a branch to a trampoline. Something may "
        "copy that code to where it runs, as the kernel does with alternatives (__ftr_alt_*), and "
        "a stub at the end of such a section would not be copied.",
        'mark the section as executable (flags "ax"), or keep static calls out of it',
    ),
    "SCP135": Diagnostic(
        "call sites were refused",
        "A file with refused call sites is written only if somebody says so: its other call sites "
        "would keep r2, and the refused ones would lose it. The messages above name them. In the "
        "library, `write` and `staged` take `allow_refused`.",
        "deal with the refused call sites, or rewrite with `--keep-going`",
    ),
    "SCP136": Diagnostic(
        "the report cannot be written",
        "The disk is full that stdout goes to, or the system refused to write there. What was said "
        "to be rewritten before that is rewritten.",
        "make room where stdout goes to, and run it again",
    ),
    "SCP137": Diagnostic(
        "a Python package is missing",
        "scpatch uses capstone, keystone-engine, lief, pyelftools, rich and typer, each for some "
        "of its commands only. One of them is not installed for the Python that runs scpatch, or "
        "its library does not load there. From a checkout, scpatch-ld runs python3, or the Python "
        "that SCPATCH_PYTHON names.",
        "install it with pip",
    ),
    "SCP138": Diagnostic(
        "the system refused memory, a file or a process",
        "Memory or a limit of the process is used up, no folder for temporary files can be "
        "written, or a program cannot be started. No output file is half written.",
        "look at `ulimit -a`, at TMPDIR, and at the free space there",
    ),
    "SCP139": Diagnostic(
        "a fault in scpatch",
        "The traceback says where scpatch met something that it was not written for. No output "
        "file is half written.",
        "please report it, with the traceback and, if you can, the file",
    ),
    "SCP201": Diagnostic(
        "no nop behind the call",
        "r2 is restored in the word behind the call, which the ABI reserves as a nop for it. Here "
        "an instruction follows, as in hand-written code, so there is no room for the restore.",
        "add a `nop` behind the call, or rewrite with `--no-nop thunk`",
    ),
    "SCP202": Diagnostic(
        "the nop is a branch target",
        "Control can reach the nop behind the call from elsewhere. As `ld r2,24(r1)` it would then "
        "load a doubleword that nobody stored on that path.",
        "move the label behind the nop, or rewrite with `--no-nop thunk`",
    ),
    "SCP203": Diagnostic(
        "a sibling call",
        "`b` to a trampoline does not come back here, so nothing could restore r2, and a save "
        "would land in the frame of the caller's caller. Compilers emit `bl; nop` for static "
        "calls; such code is hand-written.",
        "make it a call: `bl` with a nop behind it, and a frame of its own",
    ),
    "SCP204": Diagnostic(
        "the stub is out of reach",
        "Stubs lie at the end of the caller's section, and a branch reaches 32 MiB. In one merged "
        "section larger than that the first sites cannot reach the end.",
        "rewrite the objects before `ld -r` merges them, or build with -ffunction-sections",
    ),
    "SCP205": Diagnostic(
        "the call has an addend",
        "The relocation does not name the trampoline's entry but a place behind it. Where that "
        "leads once the kernel has patched the trampoline, nobody can say.",
        "call the trampoline's symbol itself",
    ),
    "SCP206": Diagnostic(
        "a relocation on the nop",
        "The linker would change the word behind the call, so that it cannot hold the restore.",
        "drop that relocation, or rewrite with `--no-nop thunk`",
    ),
    "SCP207": Diagnostic(
        "the call runs past its section",
        "The branch is not a whole, aligned word of the section, or the section ends behind it, so "
        "that there is no word to restore r2 in.",
        "add a `nop` behind the call",
    ),
    "SCP208": Diagnostic(
        "a module's trampoline without a local entry point",
        "st_other = 1 asks the linker to save and restore r2 around each call. A .ko is not linked "
        "again, and the module loader ignores the mark (Linux 6.1), so that r2 is lost.",
        "define the trampoline with a local entry point in modules",
    ),
    "SCP209": Diagnostic(
        "not a plain branch",
        "The trampoline is reached by a conditional or an absolute branch, or the relocation lies "
        "on a word that is no branch. Only `bl` can be followed by a restore.",
        "branch around a plain `bl` with a nop behind it",
    ),
    "SCP210": Diagnostic(
        "a stub without a restore",
        "The call goes through a stub that scpatch made earlier, but `ld r2,24(r1)` is not behind "
        "it any more: another tool changed the code.",
        "start again from the object that the compiler wrote",
    ),
    "SCP211": Diagnostic(
        "an inline PLT call",
        "Code built with -fno-plt or -mlongcall calls through CTR. The linker turns that into a "
        "plain `bl` where the callee is in the same unit, and its save and restore of r2 into "
        "nops: what is in the object is not what will run.",
        "compile without -fno-plt and -mlongcall",
    ),
    "SCP212": Diagnostic(
        "a call without a relocation",
        "Caller and trampoline are in one section and the trampoline is a local symbol, so the "
        "assembler has written the distance into the branch. scpatch can lead such a call to a "
        "stub, which lies in the same section, but only a `bl` to the local entry point, and if "
        "the section has relocations. No linker can change it, so localentry does not serve it.",
        "make the trampoline a global symbol (`.globl`), or put it into a section of its own",
    ),
    "SCP213": Diagnostic(
        "a module's call that the loader will refuse",
        "The module loader makes a stub for each call of an undefined symbol, and wants a nop "
        "behind it to put the restore in. Here the restore is there already, so that the module "
        'would not load ("Expected nop after call").',
        "rewrite the .ko instead of its objects, or those with `--undefined skip`",
    ),
    "SCP216": Diagnostic(
        "another table of call sites",
        "The object has a section .static_call_sites already, and it does not list just the call "
        "sites that there are: another tool made it, or objects with and without a table were put "
        "together. The kernel would patch what the table says, and only that.",
        "start from objects without the table, or rewrite all of them with --emit-sites",
    ),
    "SCP217": Diagnostic(
        "a call site without a key",
        "An entry of .static_call_sites names the static call's key: for __SCT__x the symbol "
        "__SCK__x. In a kernel with HAVE_STATIC_CALL_INLINE each caller's object has it, since "
        "static_call() refers to it. A module's call of a trampoline whose key is not exported "
        "can name the trampoline, but an object that is not linked yet does not say that it "
        "belongs to a module.",
        "enable HAVE_STATIC_CALL_INLINE; emit the table of a module in its .ko",
    ),
    "SCP218": Diagnostic(
        "no symbol to name a call site by",
        "An entry of .static_call_sites names a place by a symbol of its section and a distance. "
        "The section has no symbol of its own, and all in it are weak: another object's may take "
        "their place.",
        "keep the section symbols (do not strip the object)",
    ),
    "SCP220": Diagnostic(
        "the PACA's TOC in a module",
        "`ld r2,PACATOC(r13)` loads the TOC pointer of the kernel image, and a module has one of "
        "its own: after the call its code would read the kernel's data for its own. So the "
        "strategy paca takes no .ko and no object that a module starts with. Where a module holds "
        "such a word already, an object of it was rewritten for the image.",
        "rewrite modules with `--strategy callsite`, from objects that paca was not applied to",
    ),
    "SCP221": Diagnostic(
        "an offset that `ld` cannot have",
        "`ld` is an instruction of the DS-form: its offset has 16 bits with a sign, the last two "
        "of which are zero. PACATOC is a small multiple of 8 in every kernel.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
    "SCP222": Diagnostic(
        "an image without symbols",
        "In a linked image the trampolines are known by their symbols alone, and this one has been "
        "stripped of its symbol table.",
        "take the vmlinux as it was linked, and strip it afterwards",
    ),
    "SCP223": Diagnostic(
        "restored from another offset of the PACA",
        "A call site loads r2 from the PACA already, but not from where it is now said to be. One "
        "of the two offsets is that of another kernel.",
        "compare PACATOC in include/generated/asm-offsets.h; start from the unpatched file",
    ),
    "SCP224": Diagnostic(
        "no place for the note in an image",
        "The strategy is noted at the end of .comment. In this image something that is loaded lies "
        "behind that section and would move.",
        "link it with .comment behind all loaded sections, as the kernel's linker script does",
    ),
    "SCP225": Diagnostic(
        "no linker follows for a module",
        "`localentry` leaves saving and restoring r2 to the linker. A .ko is linked already, and "
        "the module loader ignores st_other = 1 (Linux 6.1), so that marking its trampolines would "
        "change nothing. The image may be marked all the same: the loader makes stubs for a "
        "module's calls of the image's trampolines.",
        "rewrite the module with --strategy callsite, only the image with localentry",
    ),
    "SCP226": Diagnostic(
        "a marked trampoline named by another symbol",
        "The trampoline is marked (st_other bits 5-7 = 1), but the call's relocation names the "
        "section and an offset, or another symbol. Linkers look at the st_other of the symbol that "
        "is named, so that none of them makes a stub, and r2 is lost silently.",
        "rewrite it with --strategy localentry, which names the symbol, or --unmark it",
    ),
    "SCP227": Diagnostic(
        "a trampoline whose prologue is not known",
        "Control comes to a marked trampoline with anything in r12. Two words at its start may "
        "compute r2 from r12: `addis r2,r12; addi r2,r2` with R_PPC64_REL16_HA and REL16_LO of "
        ".TOC., or `ld r2,d(r12); add r2,r2,r12`. They are replaced. `lis r2; addi r2,r2` and "
        "trampolines that do not use r2 stay as they are. Here it is something else.",
        "write the trampoline with one of these prologues, or use another strategy",
    ),
    "SCP228": Diagnostic(
        "r2 cannot be set in place of the prologue",
        "A marked trampoline loads r2 from the PACA (the offset must be a multiple of 4 below "
        "32768), or branches to code at the end of its section that computes r2 from its own "
        "address and the symbol .TOC.; a branch reaches 32 MiB.",
        "for a kernel image give --asm-offsets or --paca-toc-offset, else keep sections smaller",
    ),
    "SCP229": Diagnostic(
        "a call of a trampoline that stays unmarked",
        "Another call of the same trampoline cannot be made right by a linker, so the trampoline "
        "is not marked: for that call the linker would end the link, or save r2 in the frame of a "
        "function that does not expect it. Calls from other objects lose r2 as well.",
        "look at the other refused call first",
    ),
    "SCP230": Diagnostic(
        "a trampoline without a way to another TOC",
        "livepatch-stack changes how a trampoline goes to a target that it cannot branch to: the "
        "`bctr` behind `mtctr r12`, with the target's global entry in r12. This trampoline has "
        "none, or its symbol has no size, so that nobody can say where it ends. What it becomes "
        "when the kernel patches it would lose r2 as before.",
        "use --strategy callsite, which asks nothing of the trampolines",
    ),
    "SCP231": Diagnostic(
        "a trampoline that leaves in an unknown way",
        "livepatch-stack replaces a `bctr` that follows `mtctr r12`, and saves the r2 and the LR "
        "that the trampoline was entered with. In this one another branch leaves through CTR, or "
        "an instruction before it may write r1, r2 or LR.",
        "use --strategy callsite, or give the trampoline the form that the strategies page shows",
    ),
    "SCP232": Diagnostic(
        "rewritten for another kernel",
        "The code that saves r2 on the livepatch stack is there, with other offsets than those of "
        "the kernel's asm-offsets.h. It would write to wherever those lead.",
        "start from the object that the compiler or `ld -r` wrote",
    ),
    "SCP233": Diagnostic(
        "an offset that is none",
        "A doubleword of the PACA lies at a multiple of 8 below 32 KiB, one of the thread_info at "
        "a multiple of 8 below 1024. Another value does not come from the asm-offsets.h of a "
        "kernel for this machine.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
    "SCP240": Diagnostic(
        "the kernel patches the nop",
        "A table of the kernel names the nop behind the call, or a feature section starts or ends "
        "between the two. When the kernel patches one of them, a call would run without its "
        "restore, or a restore without its call.",
        "move the label or the end of the section, or rewrite with `--no-nop thunk`",
    ),
    "SCP245": Diagnostic(
        "a stub for a weak undefined trampoline",
        "The trampoline is undefined here, and weak. If no other object defines it, GNU ld makes "
        "a nop of each branch to it, also the `b` that ends a stub, so that control runs on into "
        "the next stub and calls something else; lld makes the `b` a branch to itself. Calls that "
        "need no stub are right.",
        "first link the object (`ld -r`) with the one that defines the trampoline, or declare it "
        "without `weak`",
    ),
    "SCP246": Diagnostic(
        "a trampoline that is data",
        "The call names a symbol whose type is STT_OBJECT, STT_COMMON or STT_TLS, or that lies in "
        "no code. A trampoline is code that the kernel patches.",
        "give it the type of a function (`.type NAME,@function`), or another name",
    ),
    "SCP247": Diagnostic(
        "an indirect function as trampoline",
        "A call of an STT_GNU_IFUNC goes to what its resolver returns. Linkers send it through a "
        "stub of the PLT that saves r2, and restore r2 in the nop, but only if the call names the "
        "symbol itself. The module loader knows nothing of the type and calls the resolver.",
        "make the trampoline a plain function",
    ),
    "SCP248": Diagnostic(
        "a stub whose branch no linker keeps",
        "The call goes through a stub that scpatch made earlier. The stub's trampoline is weak and "
        "undefined (see SCP245), or STT_GNU_IFUNC: then lld writes a restore over the word after "
        "the stub.",
        "start again from the object that the compiler wrote",
    ),
    "SCP249": Diagnostic(
        "a trampoline in no section",
        "The trampoline's symbol has a reserved section number, such as SHN_ABS: it is an address, "
        "and no object has its code. The strategies localentry and livepatch-stack change "
        "trampolines, and nobody would change this one.",
        "rewrite with --strategy callsite",
    ),
    "SCP301": Diagnostic(
        "a program is missing",
        "`verify` links both objects with GNU ld and runs them under QEMU.",
        "apt-get install binutils-powerpc64le-linux-gnu qemu-user, or verify with --no-run",
    ),
    "SCP302": Diagnostic(
        "the program to run could not be made or run",
        "The assembler, the linker or QEMU failed on the object. Its own message is shown.",
        "look at the tool's message; `verify --no-run` proves without executing",
    ),
    "SCP401": Diagnostic(
        "the build step cannot link",
        "`scpatch-ld` stands in front of a linker in the LD variable of a kernel build. Its own "
        "options come first, then the linker, then what Kbuild adds.",
        'make LD="scpatch-ld powerpc64le-linux-gnu-ld"; `scpatch kbuild --help` tells the rest',
    ),
    "SCP402": Diagnostic(
        "the kernel tree is not as expected",
        "`scpatch kbuild edit` puts its lines next to lines that it knows. Where one of those is "
        "gone, or was changed, it writes nothing at all.",
        'take the way without changes to the tree: make LD="scpatch-ld LINKER"',
    ),
}


def hint(code: str) -> str:
    """What to do about a diagnostic, in one line; empty for an unknown code."""
    found = DIAGNOSTICS.get(code)
    return found.hint if found else ""


def as_markdown() -> str:
    """The page: `python -m scpatch.diagnostics > docs/reference/diagnostics.md`."""
    import textwrap

    lines = [
        "# Diagnostics",
        "",
        "Every message ends with its code, and `scpatch explain CODE` prints the same text.",
        "SCP1xx: input or output as a whole; SCP2xx: a refused call site; SCP3xx: verification;",
        "SCP4xx: kernel builds.",
    ]
    for code, diagnostic in DIAGNOSTICS.items():
        lines += ["", f"## {code}: {diagnostic.title}", ""]
        lines += textwrap.wrap(diagnostic.text, 96)
        lines += ["", *textwrap.wrap(f"What to do: {diagnostic.hint}.", 96)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")

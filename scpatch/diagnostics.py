"""The diagnostics: code, what it means, why, and what to do about it.

Those that only one strategy has are in the strategy's folder; `strategies.diagnostics` has all.
Imported only to print a hint or an explanation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Diagnostic(NamedTuple):
    title: str
    text: str
    """The paragraph that explains it."""
    hint: str
    """What to do, in one line; printed under the message."""


DIAGNOSTICS: Mapping[str, Diagnostic] = {
    "SCP101": Diagnostic(
        "not an ELF file",
        "The file is empty, or does not start with the ELF magic number. scpatch works on "
        "relocatable objects (.o, .ko) and archives of them (.a).",
        "pass the object that the compiler or `ld -r` wrote",
    ),
    "SCP102": Diagnostic(
        "an object for another machine",
        "scpatch rewrites ELF64 objects for 64-bit PowerPC (EM_PPC64), little-endian or "
        "big-endian. 32-bit PowerPC has no TOC pointer.",
        "check CROSS_COMPILE and ARCH: the object must be built for powerpc64le or powerpc64",
    ),
    "SCP103": Diagnostic(
        "an ELFv1 object",
        "e_flags or a section .opd says that the object uses the older ABI with function "
        "descriptors. An ELFv1 call goes through a descriptor that carries the callee's "
        "TOC pointer, and trampolines work differently.",
        "build for the ELFv2 ABI (-mabi=elfv2), the default of powerpc64le compilers; for a "
        "big-endian kernel set CONFIG_PPC64_BIG_ENDIAN_ELF_ABI_V2=y",
    ),
    "SCP104": Diagnostic(
        "a linked image",
        "Executables and shared objects have no relocations that name the call sites, and "
        "no room for stubs. Only a strategy that changes the nops and adds no code works on "
        "a linked vmlinux.",
        "rewrite the objects that the image is linked from, or take a strategy for images "
        "(`scpatch explain`)",
    ),
    "SCP105": Diagnostic(
        "a signed module",
        "The file ends with a module signature. The signature covers every byte before it, "
        "so the kernel rejects the module after any change. scpatch reads signed modules, and "
        "leaves one as it is if no call has to be rewritten.",
        "add --strip-signature, then sign the module again (scripts/sign-file HASH KEY CERT FILE); "
        "better rewrite modules before they are signed",
    ),
    "SCP106": Diagnostic(
        "a compressed file that cannot be unpacked",
        "The whole file is compressed. scpatch unpacks gzip, xz, zstd and bzip2, and compresses "
        "what it writes in the same way. This file is damaged, or its content is too long, or "
        "there is no library for it.",
        "see whether `zstd -t`, `xz -t` or `gzip -t` accepts it; for zstd: pip install "
        "backports.zstd",
    ),
    "SCP107": Diagnostic(
        "a damaged ELF file",
        "Tables reach past the end of the file, overlap, or contradict each other. The "
        "file is truncated, or another tool wrote it wrongly. Nothing was written.",
        "build the object again; `readelf -aW FILE` shows what is wrong with it",
    ),
    "SCP108": Diagnostic(
        "a damaged archive",
        "The archive's headers contradict its size or each other, or a thin archive does "
        "not match the files that it names.",
        "make the archive again with `ar`",
    ),
    "SCP109": Diagnostic(
        "cannot read the input",
        "The file does not exist, is not a regular file, or the system refused to read it.",
        "check the name and the permissions",
    ),
    "SCP110": Diagnostic(
        "cannot write the output",
        "scpatch writes the new file in the target's directory and renames it over the "
        "target. That needs space and permission in that directory. The old file is "
        "unchanged.",
        "check the directory's permissions and its free space",
    ),
    "SCP111": Diagnostic(
        "no machine code yet",
        "With link-time optimisation (-flto) the compiler writes LLVM bitcode or GCC's "
        "intermediate code. Machine code and its relocations exist only after the link. An "
        "object from `gcc -flto -ffat-lto-objects` holds both and is rewritten, but a link "
        "with LTO discards its machine code.",
        "rewrite the object that `ld -r` makes from it (vmlinux.o), or compile without -flto",
    ),
    "SCP112": Diagnostic(
        "the input changed while scpatch used it",
        "Another program replaced or changed the file after scpatch opened it. Nothing was "
        "written.",
        "run it again when no other program writes the file",
    ),
    "SCP113": Diagnostic(
        "two archives with different members",
        "scpatch compares archives member by member. One archive has a member that the "
        "other does not have.",
        "compare two versions of the same archive",
    ),
    "SCP114": Diagnostic(
        "already rewritten with another strategy",
        "A string in .comment says that the file, or a part of it, was rewritten with "
        "another strategy. Two strategies in one file do not work together: the linker "
        "refuses a stub's branch to a marked trampoline, and a trampoline that saves r2 "
        "itself needs no callers that save it.",
        "start from the object that the compiler or `ld -r` wrote, or use the same strategy again",
    ),
    "SCP115": Diagnostic(
        "an unknown kernel offset",
        "Some strategies use data that the kernel keeps for each CPU or thread: the PACA "
        "and the livepatch stack. The kernel's configuration decides where the fields are. "
        "Kbuild writes their offsets to include/generated/asm-offsets.h of the object "
        "tree.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
    "SCP116": Diagnostic(
        "relocations in an unsupported form",
        "scpatch reads relocations from SHT_RELA sections, as the ELFv2 ABI prescribes. "
        "This object has relocations of code or loaded data in another form: SHT_CREL "
        "(clang's --crel), SHT_REL, an unknown type, a compressed table, or a table that "
        "does not name its section. scpatch would miss the calls in them, so it refuses "
        "the object.",
        "assemble with SHT_RELA relocations (clang: -Wa,--no-crel)",
    ),
    "SCP117": Diagnostic(
        "an object with program headers",
        "Program headers say where parts of the file are. A rewritten object is larger, so "
        "they would be wrong. No compiler or linker writes program headers into a "
        "relocatable object, and no linker or module loader reads them.",
        "rewrite the object as the compiler or `ld -r` wrote it",
    ),
    "SCP118": Diagnostic(
        "an object without its code",
        "The code sections have relocations but no bytes (SHT_NOBITS). `objcopy "
        "--only-keep-debug` writes such files for debuggers; the code is in another file.",
        "pass the file that holds the code",
    ),
    "SCP119": Diagnostic(
        "an archive inside an archive",
        "A member of the archive is itself an archive. Linkers do not use its members: GNU "
        "ld and lld refuse such a file, or skip it. `llvm-ar rcT` nests a regular archive "
        "in this way; GNU ar names the members of that archive one by one.",
        "make the archive with GNU ar, or add the members (llvm-ar's L)",
    ),
    "SCP121": Diagnostic(
        "a call outside of executable sections",
        "A section that is loaded but not executable has a branch to a trampoline. The "
        "kernel may copy such code to another place before it runs, as it does with "
        "alternatives (__ftr_alt_*). It would not copy a stub at the end of the section.",
        'mark the section as executable (flags "ax"), or keep static calls out of it',
    ),
    "SCP122": Diagnostic(
        "a worker process ended",
        "With --jobs, other processes do the work. One of them was killed before it was done, "
        "perhaps by the kernel for want of memory. With --dask, other workers do the work of one "
        "that is lost, but the same work has ended several, or none is left. Nothing was written.",
        "try again with fewer --jobs; `dmesg` says if the kernel killed it",
    ),
    "SCP123": Diagnostic(
        "the workers of --dask cannot do the work",
        "With --dask, the workers of a scheduler do the work. They need the same version of "
        "scpatch, and the files at the same paths: each worker compares inode, size and time. "
        "Nothing was written.",
        "start the workers with the same environment and the same file systems as this machine",
    ),
    "SCP135": Diagnostic(
        "call sites were refused",
        "scpatch writes a file with refused call sites only if you allow it: the refused "
        "calls still lose r2. The messages above name them. In the library, `rewrite` "
        "takes `allow_refused`.",
        "fix the refused call sites, or rewrite with `--keep-going`",
    ),
    "SCP136": Diagnostic(
        "cannot write the report",
        "The disk that stdout goes to is full, or the system refused to write there. Files "
        "that the report lists as rewritten are rewritten.",
        "free space where stdout goes, and run it again",
    ),
    "SCP137": Diagnostic(
        "a Python package is missing",
        "scpatch uses capstone, keystone-engine, lief, pyelftools, rich and typer, each "
        "for some of its commands only. One of them is not installed for the Python that "
        "runs scpatch, or its library does not load. From a checkout, scpatch-ld runs "
        "python3, or the Python that SCPATCH_PYTHON names.",
        "install it with pip",
    ),
    "SCP138": Diagnostic(
        "the system refused memory, a file or a process",
        "The process is out of memory or at one of its limits, cannot write a temporary "
        "folder, or cannot start a program. No output file is half written.",
        "check `ulimit -a`, TMPDIR, and the free space there",
    ),
    "SCP139": Diagnostic(
        "a bug in scpatch",
        "The traceback shows where scpatch met something that it does not handle. No "
        "output file is half written.",
        "please report it, with the traceback and, if you can, the file",
    ),
    "SCP201": Diagnostic(
        "no nop after the call",
        "scpatch puts the restore into the word after the call, which the ABI reserves as "
        "a nop for this purpose. Here another instruction follows, as in hand-written "
        "code, so there is no room for the restore.",
        "add a `nop` after the call, or rewrite with `--no-nop thunk`",
    ),
    "SCP202": Diagnostic(
        "the nop is a branch target",
        "Control can reach the nop after the call from another place. If it became `ld "
        "r2,24(r1)`, that path would load a doubleword that nobody stored.",
        "move the label past the nop, or rewrite with `--no-nop thunk`",
    ),
    "SCP203": Diagnostic(
        "a sibling call",
        "`b` to a trampoline does not return here, so nothing can restore r2 after it. A "
        "save would overwrite a slot in the frame of the caller's caller. Compilers emit "
        "`bl; nop` for static calls, so this is hand-written code.",
        "make it a call: `bl` followed by a nop, in a function with its own stack frame",
    ),
    "SCP204": Diagnostic(
        "the stub is out of reach",
        "Stubs are at the end of the caller's section, and a branch reaches 32 MiB. In a "
        "larger section the first call sites cannot reach the end.",
        "rewrite the objects before `ld -r` merges them, or build with -ffunction-sections",
    ),
    "SCP205": Diagnostic(
        "the call has an addend",
        "The relocation names a place after the trampoline's entry, not the entry. After "
        "the kernel has patched the trampoline, nothing is known about the code at that "
        "place.",
        "call the trampoline's symbol without an addend",
    ),
    "SCP206": Diagnostic(
        "a relocation on the nop",
        "The word after the call has a relocation, so the linker changes it. It cannot "
        "hold the restore.",
        "remove that relocation, or rewrite with `--no-nop thunk`",
    ),
    "SCP207": Diagnostic(
        "the call runs past its section",
        "The branch is not a whole, aligned word of the section, or the section ends right "
        "after it. There is no word for the restore.",
        "add a `nop` after the call",
    ),
    "SCP208": Diagnostic(
        "a module's trampoline without a local entry point",
        "st_other = 1 asks the linker to save and restore r2 around each call. A .ko is "
        "not linked again, and the module loader ignores the mark (Linux 6.1), so calls of "
        "this trampoline lose r2.",
        "define the trampoline with a local entry point in modules",
    ),
    "SCP209": Diagnostic(
        "not a plain branch",
        "A conditional or absolute branch leads to the trampoline, or the relocation is on "
        "a word that is not a branch. Only `bl` can be followed by a restore.",
        "branch around a plain `bl` that is followed by a nop",
    ),
    "SCP210": Diagnostic(
        "a stub without a restore",
        "The call goes through a stub from an earlier run of scpatch, but `ld r2,24(r1)` "
        "no longer follows it. Another tool changed the code.",
        "start again from the object that the compiler wrote",
    ),
    "SCP211": Diagnostic(
        "an inline PLT call",
        "Code built with -fno-plt or -mlongcall calls through CTR. If the callee is in the "
        "same module, the linker turns the call into a plain `bl`, and its save and "
        "restore of r2 into nops. The code in the object is then not the code that runs.",
        "compile without -fno-plt and -mlongcall",
    ),
    "SCP212": Diagnostic(
        "a call without a relocation",
        "The trampoline is a local symbol in the caller's section, so the assembler has "
        "already written the distance into the branch. scpatch can send such a call to a "
        "stub if it is a `bl` to the local entry point and the section has relocations. "
        "The linker cannot change it, so a strategy that marks trampolines does not work for "
        "it.",
        "make the trampoline a global symbol (`.globl`), or move it to its own section",
    ),
    "SCP213": Diagnostic(
        "a module's call that the loader will refuse",
        "The module loader makes a stub for each call of an undefined symbol and needs a "
        "nop after the call for the restore. Here the restore is already there, so the "
        'module would not load ("Expected nop after call").',
        "rewrite the .ko instead of its objects, or rewrite those with `--undefined skip`",
    ),
    "SCP216": Diagnostic(
        "another table of call sites",
        "The object already has a section .static_call_sites that does not list exactly "
        "the object's call sites. Another tool made it, or `ld -r` merged objects with and "
        "without a table. The kernel would patch only what the table lists. "
        "Kernels since 6.2 run objtool for powerpc, with `--static-call` if "
        "HAVE_STATIC_CALL_INLINE is on. For ppc64 it writes 64-bit relocations on the 32-bit "
        "words of the table, so the linker overwrites each next entry.",
        "start from objects without the table, or rewrite all of them with --emit-sites; "
        "to stop objtool, remove `objtool-args-$(CONFIG_HAVE_STATIC_CALL_INLINE) += "
        "--static-call` from scripts/Makefile.lib and build all objects again",
    ),
    "SCP217": Diagnostic(
        "a call site without a key",
        "An entry of .static_call_sites names the static call's key: for __SCT__x the "
        "symbol __SCK__x. In a kernel with HAVE_STATIC_CALL_INLINE every caller's object "
        "has that symbol, because static_call() refers to it. A module may name the "
        "trampoline instead if the key is not exported, but an object that is not linked "
        "yet does not say that it belongs to a module.",
        "enable HAVE_STATIC_CALL_INLINE; emit the table of a module in its .ko",
    ),
    "SCP218": Diagnostic(
        "no symbol to name a call site by",
        "An entry of .static_call_sites names a place by a symbol of its section and a "
        "distance. The section has no section symbol, and all its other symbols are weak: "
        "another object's symbols may replace them.",
        "keep the section symbols (do not strip the object)",
    ),
    "SCP220": Diagnostic(
        "a load from the PACA in a module",
        "`ld r2,PACATOC(r13)` loads the TOC pointer of the kernel image, but a module has "
        "its own TOC: after the call it would read the kernel's data instead of its own. "
        "So a strategy that loads r2 this way refuses a .ko and any object that defines a "
        "module's init or exit function. If a module already holds such a load, one of its "
        "objects was rewritten for the image.",
        "rewrite modules with the default strategy, from objects that were not rewritten for "
        "the image",
    ),
    "SCP222": Diagnostic(
        "an image without symbols",
        "In a linked image, only symbols say where the trampolines are. This image is "
        "stripped of its symbol table.",
        "rewrite the vmlinux as it was linked, and strip it afterwards",
    ),
    "SCP224": Diagnostic(
        "no room to record the strategy in an image",
        "scpatch records the strategy at the end of .comment. In this image a loaded "
        "section follows .comment and would move.",
        "link it with .comment after all loaded sections, as the kernel's linker script does",
    ),
    "SCP226": Diagnostic(
        "a marked trampoline named by another symbol",
        "The trampoline is marked (st_other bits 5-7 = 1), but the call's relocation names "
        "the section and an offset, or another symbol. Linkers look at the st_other of the "
        "symbol that the relocation names. They make no stub here, and r2 is lost "
        "silently.",
        "rewrite it with the strategy that marks trampolines, which names the symbol, or with "
        "--unmark",
    ),
    "SCP240": Diagnostic(
        "the kernel patches the nop",
        "A kernel table names the nop after the call, or a feature section starts or ends "
        "between the call and the nop. When the kernel patches one of them, a call would "
        "run without its restore, or a restore without its call.",
        "move the label or the end of the section, or rewrite with `--no-nop thunk`",
    ),
    "SCP241": Diagnostic(
        "several relocations at the call",
        "More than one relocation applies to the call. The psABI combines such relocations, "
        "and linkers apply each by itself, so the branch may lead anywhere.",
        "compile or assemble the object again; no compiler makes this",
    ),
    "SCP243": Diagnostic(
        "a branch or a name past the end of a section",
        "A symbol, a branch or an address in data leads past the end of a section of code. scpatch "
        "adds code there, and control would run into that code.",
        "end the section after the label that is meant",
    ),
    "SCP246": Diagnostic(
        "a trampoline that is data",
        "The call names a symbol of type STT_OBJECT, STT_COMMON or STT_TLS, or a symbol "
        "outside of code. A trampoline is code that the kernel patches.",
        "give it the type of a function (`.type NAME,@function`), or another name",
    ),
    "SCP247": Diagnostic(
        "an indirect function as trampoline",
        "A call of an STT_GNU_IFUNC goes to the function that its resolver returns. "
        "Linkers send it through a PLT stub that saves r2, and put the restore into the "
        "nop, but only if the call names the symbol itself. The module loader does not "
        "know this type and calls the resolver.",
        "make the trampoline a plain function",
    ),
    "SCP248": Diagnostic(
        "a stub whose branch the linker replaces",
        "The call goes through a stub from an earlier run of scpatch. The stub's "
        "trampoline is weak and undefined (see SCP245), or it is an STT_GNU_IFUNC and lld "
        "overwrites the word after the stub with a restore.",
        "start again from the object that the compiler wrote",
    ),
    "SCP249": Diagnostic(
        "a trampoline in no section",
        "The trampoline's symbol has a reserved section number, such as SHN_ABS: it is an "
        "address, and no object holds its code. A strategy that changes trampolines cannot "
        "change this one.",
        "rewrite it with the default strategy",
    ),
    "SCP301": Diagnostic(
        "a program is missing",
        "`verify` links both objects with GNU ld and runs them under QEMU (qemu-ppc64le, "
        "qemu-ppc64 for big-endian objects), or directly on a machine of their byte order. It "
        "opens archives with `ar`. Without the Python package capstone, it and the differences "
        "of two objects need objdump. The binutils are those of --cross-compile or, if that is "
        "not given, of CROSS_COMPILE in the environment; else those with a usual prefix, such "
        "as powerpc64le-linux-gnu- or powerpc64-linux-gnu-. Either handles both byte orders.",
        "install GNU binutils for ppc64 and QEMU's user-space emulators (Debian: "
        "binutils-powerpc64le-linux-gnu qemu-user), or verify with --no-run",
    ),
    "SCP302": Diagnostic(
        "the test program could not be built or run",
        "The assembler, the linker or QEMU failed on the object. The message shows what it "
        "printed.",
        "read the tool's message; `verify --no-run` checks without running anything",
    ),
    "SCP303": Diagnostic(
        "not a linker for ppc64",
        "`verify` makes a program of each object with GNU ld, whose `-V` must list the emulation "
        "elf64lppc, or elf64ppc for a big-endian object. No other linker takes a kernel module or "
        "a vmlinux.o for a program.",
        "name GNU ld with --ld, or its prefix with --cross-compile or CROSS_COMPILE",
    ),
    "SCP304": Diagnostic(
        "what was to be written is not proven",
        "With --verify, `rewrite` and `scpatch-ld` prove and execute each new file before it has "
        "its name. The message says what speaks against the first call that is not proven. A "
        "refused call that --keep-going or --warn-only leaves as it is loses r2, so it is not "
        "proven either.",
        "write the file elsewhere without --verify; `scpatch verify BEFORE AFTER` shows all calls",
    ),
    "SCP401": Diagnostic(
        "the build step cannot link",
        "`scpatch-ld` runs before the linker in the LD variable of a kernel build. Its "
        "options come first, then the linker, then the arguments from Kbuild.",
        "make LD='scpatch-ld $(CROSS_COMPILE)ld'; see `scpatch kbuild --help`",
    ),
    "SCP402": Diagnostic(
        "the kernel tree is not as expected",
        "`scpatch kbuild edit` adds its lines next to lines that it knows. If one of those "
        "is missing or changed, it writes nothing.",
        'build without changes to the tree: make LD="scpatch-ld LINKER"',
    ),
    "SCP403": Diagnostic(
        "the head of the kernel moved",
        "The first instructions of a powerpc kernel are at fixed addresses, and they know where "
        "`.text` starts. Here the linker put stubs of its own in front, so the kernel would not "
        "boot. That happens to stubs for the first section of `.text`, usually with `--prelink` "
        "and a strategy that marks trampolines. The image was removed.",
        "link without `--prelink`, or enable CONFIG_LD_HEAD_STUB_CATCH",
    ),
}

# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# The harness that runs call sites, one after another (powerpc64 of either byte order, ELFv2, Linux
# user space).
#
# GNU ld links this file and the object under test into one program. There is no libc, and no stack:
# main keeps everything in registers and in the tables below. Start with "How one site runs".
#
# What a static call does at run time
# -----------------------------------
# The caller executes `bl trampoline`, or calls a stub that saves r2 and goes on to the trampoline. The
# kernel has patched the trampoline to branch to the current target. If the target is in another
# module, it may return with that module's r2, and with any value in every other volatile register.
# The harness finds out whether the call site copes with that.
#
# How one site runs
# -----------------
#   1. Read a record from stdin: where the site is, and what to plant where.
#   2. Plant words in the object's code:
#        at the trampoline's local entry    ba hostile    (what the kernel's patching does)
#        where the caller goes on           ba back
#      If the module loader resolves the call, plant what it writes:
#        the call                           bla loader_stub
#        the nop after it                   ld r2,24(r1)
#      If the trampoline itself preserves r2 on the path to a target that it loads into CTR:
#        at the trampoline's local entry    b to that path, as the kernel's patching has it
#        its `mtctr r12`                    ba load_target
#        each instruction that preserves r2 trap: an interrupt comes before it
#   3. Load every register and a stack frame with known values, and jump to the site.
#   4. hostile: record what has arrived. Make another static call if the record asks for one. Then
#      wreck all that a callee may wreck, and return.
#   5. back: record what is left.
#   6. Take out the planted words, write the result to stdout, and start again.
# A signal, or the timer, leads to 6 too; its number is then in the result. A trap that was planted is
# an interrupt: it overwrites what is above the top of the livepatch stack, and returns.
#
# The harness judges nothing. Registers and memory are written raw, and the Python side compares them
# (judge.py). So this file stays short, and cannot pass a site by mistake.
#
# While a site runs, the whole image of the object is read-only, and so is the PACA that r13 points to
# (state.py says what is in it). Unmapped pages surround the frame and the thread's block: a store
# anywhere else is a SIGSEGV.
#
# Why absolute branches: `ba` reaches the lowest 32 MiB from everywhere, and this file is linked there
# (program.py). A relative branch would not reach across a large object.

        .abiversion 2
        .machine power8

# Sizes and offsets in bytes. state.py has the same numbers.

        .set    REG_GPR, 0              # r0-r31
        .set    REG_CR, 256
        .set    REG_LR, 264
        .set    REG_CTR, 272
        .set    REG_XER, 280
        .set    REG_FPR, 288            # f0-f31
        .set    REG_VR, 544             # v0-v31
        .set    REG_SIZE, 1056

        .set    FRAME_SIZE, 4096
        .set    FRAME_R1, 1024          # r1 points here; below it is the callee's
        .set    BELOW_R1, 512           # so much below r1 the callee wrecks
        .set    TOC_SAVE, 24            # the TOC save doubleword, 24(r1)
        .set    RANGES, 16
        .set    PLANT_SIZE, 32
        .set    PACA_SIZE, 32776        # as far as an offset of 16 bits reaches from r13
        .set    THREAD_SIZE, 4096       # the thread_info and the livepatch stack

        .set    SYS_READ, 3
        .set    SYS_WRITE, 4
        .set    SYS_SETITIMER, 104
        .set    SYS_MPROTECT, 125
        .set    SYS_RT_SIGACTION, 173
        .set    SYS_SIGALTSTACK, 185
        .set    SYS_EXIT_GROUP, 234

        .set    PROT_READ, 1
        .set    PROT_WRITE, 2
        .set    PROT_EXEC, 4
        .set    ITIMER_VIRTUAL, 1       # counts processor time, so that a busy machine does no harm
        .set    SIGTRAP, 5
        .set    SIGVTALRM, 26
        .set    AT_PAGESZ, 6
        .set    SA_FLAGS, 0x48000004    # SA_NODEFER | SA_ONSTACK | SA_SIGINFO
        .set    SI_ADDR, 16             # in siginfo: the address that could not be accessed
        .set    UC_NIP, 488             # in ucontext: uc_mcontext.gp_regs[32]

        .set    TRAP, 0x7fe00008        # tw 31,0,0
        .set    CODE_WORDS, 64          # at most so many instructions that an interrupt precedes
        .set    LP_ENTRY, 24            # an entry of the livepatch stack
        .set    LP_JUNK, 16             # doublewords that an interrupt writes there

        .set    EXIT_INPUT, 70          # the configuration is cut short
        .set    EXIT_PROTECT, 71        # the image could not be made read-only
        .set    EXIT_OUTPUT, 72         # stdout is gone
        .set    STATUS_PLANT, 0x1000    # + errno: a branch could not be planted

# Put an address of this file into a register. All are below 2 GiB, so r2 is not needed.

        .macro  address register, symbol
        lis     \register, \symbol@ha
        addi    \register, \register, \symbol@l
        .endm

# Store all registers into the block at r12. Clobbers r0 and r11 after they are stored; the stored
# r12 is the block's address. cr, ctr, lr and xer are read, not changed.

        .macro  save_registers
        .set    n, 0
        .rept   32
        std     n, REG_GPR + 8 * n(12)
        .set    n, n + 1
        .endr
        mfcr    0
        std     0, REG_CR(12)
        mflr    0
        std     0, REG_LR(12)
        mfctr   0
        std     0, REG_CTR(12)
        mfxer   0
        std     0, REG_XER(12)
        .set    n, 0
        .rept   32
        stfd    n, REG_FPR + 8 * n(12)
        li      11, REG_VR + 16 * n
        stvx    n, 12, 11
        .set    n, n + 1
        .endr
        .endm

# Load f0.. and v0.. from the block at r12. Clobbers r11.

        .macro  load_floats fprs, vrs
        .set    n, 0
        .rept   \fprs
        lfd     n, REG_FPR + 8 * n(12)
        .set    n, n + 1
        .endr
        .set    n, 0
        .rept   \vrs
        li      11, REG_VR + 16 * n
        lvx     n, 12, 11
        .set    n, n + 1
        .endr
        .endm

# Load general registers first..last from the block at r12.

        .macro  load_general first, last
        .set    n, \first
        .rept   \last - \first + 1
        ld      n, REG_GPR + 8 * n(12)
        .set    n, n + 1
        .endr
        .endm

# Copy \count doublewords from r3 to r4. Clobbers r0, r3, r4 and ctr.

        .macro  copy count
        li      0, \count
        mtctr   0
        addi    3, 3, -8
        addi    4, 4, -8
1:      ldu     0, 8(3)
        stdu    0, 8(4)
        bdnz    1b
        .endm

# --------------------------------------------------------------------------------------------------
        .section .scpatch_code, "ax", @progbits

# The Python side reads this table out of the linked program.

        .balign 8
        .ascii  "SCPHARN1"
        .quad   .TOC.@tocbase           # the program's TOC pointer: r2 of the callers
        .quad   hostile
        .quad   back
        .quad   either
        .quad   loader_stub
        .quad   load_target
        .quad   frame
        .quad   fake_paca
        .quad   thread

        .globl  scpatch_harness_start
        .type   scpatch_harness_start, @function
scpatch_harness_start:
        # At entry r1 points at argc, argv[], NULL, envp[], NULL, then pairs of the auxiliary vector.
        ld      3, 0(1)
        sldi    3, 3, 3
        add     3, 3, 1
        addi    3, 3, 8                 # now at argv's NULL; envp follows
1:      ldu     4, 8(3)
        cmpdi   4, 0
        bne     1b
        addi    3, 3, -8
2:      ldu     4, 16(3)                # a_type; zero ends the vector
        cmpdi   4, AT_PAGESZ
        beq     3f
        cmpdi   4, 0
        bne     2b
        li      5, 4096
        b       4f
3:      ld      5, 8(3)
4:      address 4, page_size
        std     5, 0(4)

        address 3, config
        li      4, config_end - config
        bl      read_all
        cmpdi   3, config_end - config
        li      3, EXIT_INPUT
        bne     exit
        address 3, fake_paca
        lis     4, PACA_SIZE@ha
        addi    4, 4, PACA_SIZE@l
        bl      read_all
        lis     4, PACA_SIZE@ha
        addi    4, 4, PACA_SIZE@l
        cmpd    3, 4
        li      3, EXIT_INPUT
        bne     exit

# Make the image and the PACA read-only, so that a stray store is caught.

        address 14, ranges
        li      15, RANGES
protect_next:
        ld      3, 0(14)                # start
        ld      4, 8(14)                # length; zero: unused
        cmpdi   4, 0
        beq     protect_done
        add     4, 4, 3
        address 5, page_size
        ld      5, 0(5)
        neg     5, 5
        and     3, 3, 5
        subf    4, 3, 4
        li      5, PROT_READ | PROT_EXEC
        li      0, SYS_MPROTECT
        sc
        li      3, EXIT_PROTECT
        bso     exit
        addi    14, 14, 16
        addi    15, 15, -1
        cmpdi   15, 0
        bne     protect_next
protect_done:

# Signals end a run. The handlers have a separate stack, since r1 may be anything.

        address 3, signal_stack
        li      4, 0
        li      0, SYS_SIGALTSTACK
        sc
        address 14, signals
signal_next:
        lwz     3, 0(14)
        cmpdi   3, 0
        beq     ready
        address 4, signal_action
        li      5, 0
        li      6, 8                    # size of the kernel's sigset_t
        li      0, SYS_RT_SIGACTION
        sc
        addi    14, 14, 4
        b       signal_next

ready:  li      3, 1
        address 4, ready_word
        li      5, 8
        li      0, SYS_WRITE
        sc

# --------------------------------------------------------------------------------------------------
# 1. The next record. The program ends with its input.

next_site:
        address 3, record
        li      4, record_end - record
        bl      read_all
        cmpdi   3, record_end - record
        li      3, 0
        bne     exit

        address 3, result
        li      0, (result_end - result) / 8
        mtctr   0
        li      0, 0
        addi    3, 3, -8
1:      stdu    0, 8(3)
        bdnz    1b

        address 3, frame_preset
        address 4, frame
        copy    FRAME_SIZE / 8
        address 3, thread_preset
        address 4, thread
        copy    THREAD_SIZE / 8
        address 3, toc_save
        ld      3, 0(3)
        address 4, frame
        std     3, FRAME_R1 + TOC_SAVE(4)

# 2. The words to plant.

        address 14, plants
2:      bl      plant
        addi    14, 14, PLANT_SIZE
        address 15, plants_end
        cmpd    14, 15
        bne     2b
        bl      arm

        li      3, ITIMER_VIRTUAL
        address 4, timer
        li      5, 0
        li      0, SYS_SETITIMER
        sc

# 3. Load everything, r12 last, and go. CTR holds the site's address; it is volatile, so any value
#    will do.

        address 12, initial
        ld      0, REG_CR(12)
        mtcrf   0xff, 0
        address 11, return
        ld      0, 0(11)
        mtlr    0
        ld      0, REG_XER(12)
        mtxer   0
        address 11, site
        ld      0, 0(11)
        mtctr   0
        load_floats 32, 32
        load_general 0, 11
        load_general 13, 31
        ld      12, REG_GPR + 8 * 12(12)
        bctr

# --------------------------------------------------------------------------------------------------
# 4. The target of the static call.

        .balign 8
hostile:
        mr      11, 12                  # for the record; r11 is volatile
        address 12, inside
        ld      12, 0(12)
        cmpdi   12, 0
        bne     inner
        address 12, arrival
        save_registers
        address 3, hits
        ld      4, 0(3)
        addi    4, 4, 1
        std     4, 0(3)
        address 3, frame
        address 4, arrival_frame
        copy    FRAME_SIZE / 8
        address 3, thread
        address 4, arrival_thread
        copy    THREAD_SIZE / 8

        # A static call in the target, made as by a caller in the trampoline's module.
        address 3, nested
        ld      3, 0(3)
        cmpdi   3, 0
        beq     3f
        address 3, inside
        std     3, 0(3)
        bl      arm
        address 3, nested
        ld      3, 0(3)
        mtctr   3
        address 3, initial
        ld      2, REG_GPR + 8 * 2(3)
        bctrl
        address 3, inner_toc
        std     2, 0(3)
        li      0, 0
        address 3, inside
        std     0, 0(3)
        bl      arm
        address 12, arrival             # the caller's registers, which arm has used
        load_general 14, 31
        ld      0, REG_LR(12)
        mtlr    0
3:
        # What a callee may write to memory: all below r1, and in the caller's frame the CR save word
        # at 8(r1), the LR save doubleword at 16(r1) and the parameter save area from 32(r1). A stub
        # that saves r2 in one of those instead of 24(r1) loses it here.
        address 12, wreck
        ld      5, REG_GPR(12)
        li      0, BELOW_R1 / 8
        mtctr   0
        mr      3, 1
1:      stdu    5, -8(3)
        bdnz    1b
        std     5, 8(1)
        std     5, 16(1)
        li      0, 8
        mtctr   0
        addi    3, 1, 32 - 8
2:      stdu    5, 8(3)
        bdnz    2b

wreck_registers:
        # The volatile registers: r0, r2-r12, ctr, xer, cr0, cr1, cr5-cr7, f0-f13, v0-v19. Not lr,
        # which is needed to return.
        address 12, wreck
        ld      0, REG_CR(12)
        mtcrf   0xc7, 0
        ld      0, REG_CTR(12)
        mtctr   0
        ld      0, REG_XER(12)
        mtxer   0
        load_floats 14, 20
        ld      0, REG_GPR(12)
        load_general 2, 11
        ld      12, REG_GPR + 8 * 12(12)
        blr

# The target of the call in the target.

inner:  address 12, inner_hits
        ld      11, 0(12)
        addi    11, 11, 1
        std     11, 0(12)
        b       wreck_registers

# Planted in place of a trampoline's `mtctr r12`: loads what the trampoline would have loaded from its
# slot. Continues after it through TAR, the only register that no code of the object uses.

        .balign 8
load_target:
        address 12, path
        ld      12, 0(12)
        mtspr   815, 12                 # TAR
        address 12, hostile
        mtctr   12
        bctar   20, 0

# Planted if the caller goes on at the trampoline itself, because that is the next function in the
# section. The first arrival is the call, the second is the return. r12 and cr0 are volatile.

        .balign 8
either: address 12, hits
        ld      12, 0(12)
        cmpdi   12, 0
        bne     back
        address 12, path
        ld      12, 0(12)
        cmpdi   12, 0
        beq     hostile
        b       load_target

# The stub of the kernel's module loader (arch/powerpc/kernel/module_64.c, ppc64_stub_insns). It saves
# r2 and goes through ctr, since the kernel is out of a branch's reach; r12 holds the target's
# address. The first planted word is at the trampoline.

        .balign 8
loader_stub:
        std     2, TOC_SAVE(1)
        address 12, plants
        ld      12, 0(12)
        mtctr   12
        bctr

# 5. Where the caller goes on. r0, r11 and r12 are wrecked by now, so r12 is free to use.

        .balign 8
back:
        address 12, final
        save_registers
        address 3, frame
        address 4, final_frame
        copy    FRAME_SIZE / 8
        address 3, thread
        address 4, final_thread
        copy    THREAD_SIZE / 8
        b       finish

# A signal came instead. r3: its number, r4: siginfo, r5: ucontext. Only an interrupt returns from
# here: the trap at an instruction of the record's code.

        .balign 8
on_signal:
        cmpdi   3, SIGTRAP
        bne     1f
        ld      15, UC_NIP(5)
        address 12, code
        ld      0, 0(12)
        cmpld   15, 0
        blt     1f
        ld      0, 8(12)
        cmpld   15, 0
        bge     1f
        lwz     6, 0(15)
        lis     7, TRAP@h
        ori     7, 7, TRAP@l
        cmplw   6, 7
        beq     interrupt
1:
        address 12, result
        std     3, status - result(12)
        ld      0, SI_ADDR(4)
        std     0, fault - result(12)
        ld      0, UC_NIP(5)
        std     0, pc - result(12)
        b       finish

# An interrupt before the instruction at r15. It uses the livepatch stack as other code does: moves its
# top up, writes there, moves it down again. What was above the top is lost. Then the instruction is
# put back, and the return from the signal executes it.

interrupt:
        mflr    22
        address 3, stack_pointer
        ld      3, 0(3)
        ld      4, 0(3)
        addi    5, 4, LP_ENTRY
        std     5, 0(3)
        nor     6, 15, 15               # no address of anything
        addi    5, 4, -8
        li      0, LP_JUNK
        mtctr   0
1:      stdu    6, 8(5)
        bdnz    1b
        std     4, 0(3)
        address 3, interrupts
        ld      4, 0(3)
        addi    4, 4, 1
        std     4, 0(3)
        li      16, PROT_READ | PROT_WRITE
        bl      protect_page
        address 3, code
        ld      3, 0(3)
        subf    3, 3, 15
        address 4, code_words
        lwzx    3, 3, 4
        bl      write_word
        mtlr    22
        blr

# 6. Timer off, planted words out, result to stdout.

finish:
        li      3, ITIMER_VIRTUAL
        address 4, timer_off
        li      5, 0
        li      0, SYS_SETITIMER
        sc
        bl      disarm
        address 14, plants
1:      bl      unplant
        addi    14, 14, PLANT_SIZE
        address 15, plants_end
        cmpd    14, 15
        bne     1b

        address 14, result
        li      15, result_end - result
1:      li      3, 1
        mr      4, 14
        mr      5, 15
        li      0, SYS_WRITE
        sc
        li      0, EXIT_OUTPUT
        bso     2f
        add     14, 14, 3
        subf    15, 3, 15
        cmpdi   15, 0
        bne     1b
        b       next_site
2:      mr      3, 0

# Ends the program with the exit status in r3.

exit:
        li      0, SYS_EXIT_GROUP
        sc

# --------------------------------------------------------------------------------------------------
# read_all: r3 = address, r4 = length. Reads stdin until the length or the end is reached. r3 = bytes
# read. A system call preserves lr and r14-r31, so nothing has to be saved.

read_all:
        mr      15, 3
        mr      16, 4
        mr      17, 4
1:      li      3, 0
        mr      4, 15
        mr      5, 16
        li      0, SYS_READ
        sc
        bso     2f
        cmpdi   3, 0
        beq     2f
        add     15, 15, 3
        subf    16, 3, 16
        cmpdi   16, 0
        bne     1b
2:      subf    3, 16, 17
        blr

# plant: r14 = {address, word, old word, planted}. Writes the word and stores the old one; does
# nothing if the address is 0. If the page cannot be written, the run ends with STATUS_PLANT + errno.

plant:
        mflr    20
        ld      15, 0(14)
        cmpdi   15, 0
        beq     2f
        li      16, PROT_READ | PROT_WRITE
        bl      protect_page
        bso     1f
        lwz     3, 0(15)
        std     3, 16(14)
        ld      3, 8(14)
        bl      write_word
        li      3, 1
        std     3, 24(14)
        mtlr    20
        blr
1:      addi    3, 3, STATUS_PLANT
        address 12, result
        std     3, status - result(12)
        std     15, fault - result(12)
        b       finish

# unplant: r14 as for plant. Puts the old word back.

unplant:
        mflr    20
        ld      3, 24(14)
        cmpdi   3, 0
        beq     2f
        ld      15, 0(14)
        li      16, PROT_READ | PROT_WRITE
        bl      protect_page
        ld      3, 16(14)
        bl      write_word
2:      mtlr    20
        blr

# write_word: *r15 = r3 in a writable page, visible to instruction fetch; the page is read-only after.

write_word:
        mflr    21
        stw     3, 0(15)
        dcbst   0, 15
        sync
        icbi    0, 15
        sync
        isync
        li      16, PROT_READ | PROT_EXEC
        bl      protect_page
        mtlr    21
        blr

# arm: plants a trap at each instruction of the record's code, and stores what was there. Doing it twice
# changes nothing. disarm: puts back the instructions that are still traps. Both clobber what a system
# call may, and r14-r24.

arm:    lis     17, TRAP@h
        ori     17, 17, TRAP@l
        li      18, 1
        b       1f
disarm: lis     17, TRAP@h
        ori     17, 17, TRAP@l
        li      18, 0
1:      mflr    23
        address 24, code
        ld      15, 0(24)
        ld      24, 8(24)
        address 19, code_words
2:      cmpld   15, 24
        bge     4f
        lwz     3, 0(15)
        cmplw   3, 17
        li      0, 0
        beq     5f
        li      0, 1
5:      cmpd    0, 18                   # arm wants no trap there, disarm wants one
        bne     3f
        li      16, PROT_READ | PROT_WRITE
        bl      protect_page
        cmpdi   18, 0
        lwz     3, 0(19)
        beq     6f
        lwz     3, 0(15)
        stw     3, 0(19)
        mr      3, 17
6:      bl      write_word
3:      addi    15, 15, 4
        addi    19, 19, 4
        b       2b
4:      mtlr    23
        blr

# protect_page: mprotect of the page that holds r15, with r16. cr0.so set: r3 is the errno.

protect_page:
        address 4, page_size
        ld      4, 0(4)
        neg     3, 4
        and     3, 3, 15
        mr      5, 16
        li      0, SYS_MPROTECT
        sc
        blr

# --------------------------------------------------------------------------------------------------
# Constants.

        .balign 8
signals:
        .long   4, 5, 7, 8, 11, SIGVTALRM, 0    # ILL, TRAP, BUS, FPE, SEGV, the timer
        .balign 8
signal_action:                          # the kernel's struct sigaction
        .quad   on_signal, SA_FLAGS, 0, 0
signal_stack:                           # stack_t
        .quad   signal_memory, 0, signal_memory_end - signal_memory
ready_word:
        .ascii  "SCPREADY"
timer_off:                              # struct itimerval
        .quad   0, 0, 0, 0

# --------------------------------------------------------------------------------------------------
# State. In the file, not in .bss: some loaders cannot load a .bss in the first segments.

        .section .scpatch_state, "aw", @progbits
        .balign 16

# Read once, at the start. `timer` is a struct itimerval: the time limit of a site.

config:
initial:        .skip   REG_SIZE        # registers at the site
wreck:          .skip   REG_SIZE        # registers as the target leaves them (the volatile ones)
frame_preset:   .skip   FRAME_SIZE
thread_preset:  .skip   THREAD_SIZE
ranges:         .skip   16 * RANGES     # start, length
timer:          .skip   32
config_end:

# Read for each site.

record:
site:           .quad   0               # address of the bl
toc_save:       .quad   0               # what is in 24(r1) at the site
return:         .quad   0               # LR at the site: where a sibling call returns to
path:           .quad   0               # after the trampoline's `mtctr r12`; 0: not used
nested:         .quad   0               # where the target's static call goes; 0: it makes none
stack_pointer:  .quad   0               # address of the thread_info's livepatch_sp
code:           .quad   0, 0            # start and end of the instructions that are interrupted
plants:         .skip   4 * PLANT_SIZE  # address, word; room for the old word; 0 (not planted yet)
plants_end:
record_end:

# Written for each site.

        .balign 16
result:
status:         .quad   0               # 0: back; else a signal, or STATUS_PLANT + errno
fault:          .quad   0               # the address that could not be accessed
pc:             .quad   0               # where that happened
hits:           .quad   0               # how often hostile was reached
inner_hits:     .quad   0               # how often by the target's static call
inner_toc:      .quad   0               # r2 after that
interrupts:     .quad   0
inside:         .quad   0               # not 0 while that call is made
arrival:        .skip   REG_SIZE
arrival_frame:  .skip   FRAME_SIZE
arrival_thread: .skip   THREAD_SIZE
final:          .skip   REG_SIZE
final_frame:    .skip   FRAME_SIZE
final_thread:   .skip   THREAD_SIZE
result_end:

page_size:      .quad   0
code_words:     .skip   4 * CODE_WORDS
        .balign 16
signal_memory:  .skip   32768
signal_memory_end:

        .section .scpatch_frame, "aw", @progbits
        .balign 16
frame:          .skip   FRAME_SIZE

# What r13 points to if a kernel's offsets are known. Read once, after the configuration.

        .section .scpatch_paca, "aw", @progbits
        .balign 16
fake_paca:      .skip   PACA_SIZE

# The thread_info, and after it the livepatch stack.

        .section .scpatch_thread, "aw", @progbits
        .balign 16
thread:         .skip   THREAD_SIZE

        .section .note.GNU-stack, "", @progbits

# SPDX-License-Identifier: MIT
#
# Entry point, system calls, setjmp and _mcount of a random program (ppc64 ELFv2, no C library).
# r13 points to a PACA: the TOC pointer, the thread_info with a livepatch stack, and, where the
# thread pointer would have it, the value that guards the stack.

	.abiversion 2
	.set PACATOC, 16
	.set PACA_THREAD_INFO, 64
	.set TI_LIVEPATCH_SP, 80
	.set POISONED, 1500		# doublewords

	.macro FUNC name
	.balign 16
	.globl \name
	.type \name, @function
\name:
	.endm
	.macro END name
	.size \name, .-\name
	.endm
	.macro ADDRESS register, symbol
	lis \register, \symbol@ha
	addi \register, \register, \symbol@l
	.endm

	.text
	FUNC _start
	bcl 20, 31, 1f
1:	mflr 12
	addis 2, 12, .TOC.-1b@ha
	addi 2, 2, .TOC.-1b@l
	ADDRESS 13, paca
	std 2, PACATOC(13)
	ADDRESS 11, thread_info
	std 11, PACA_THREAD_INFO(13)
	ADDRESS 12, livepatch_stack
	std 12, TI_LIVEPATCH_SP(11)
	# A program that has lost its r2 may never end: 4 seconds of processor time.
	li 0, 104			# setitimer
	li 3, 2				# ITIMER_PROF
	ADDRESS 4, timer
	li 5, 0
	sc
	clrrdi 1, 1, 4
	li 0, 0
	stdu 0, -64(1)
	bl main_loop
	nop
	bl system_exit
	END _start

	FUNC system_exit
	li 0, 1
	sc
	END system_exit

	FUNC system_write
	li 0, 4
	sc
	blr
	END system_write

	# Garbage below the caller's frame, as any callee may leave it there: the frames of functions that
	# are called next are made of it, and so are their TOC save doublewords.
	FUNC poison
	lis 0, 0x5ca1
	ori 0, 0, 0xab1e
	rldimi 0, 0, 32, 0
	li 11, POISONED
	mtctr 11
	addi 11, 1, -8
2:	std 0, 0(11)
	addi 11, 11, -8
	bdnz 2b
	blr
	END poison

	# As in a kernel without tracing: the profiled function's return address is in r0.
	FUNC _mcount
	mflr 12
	mtctr 12
	mtlr 0
	bctr
	END _mcount

	# The stacks of those who keep something for calls that longjmp leaves: the livepatch stack, and
	# that of hostile.S. Their tops go into the buffer with the registers.
	FUNC sj_set
	mflr 0
	mfcr 12
	std 1, 0(3)
	std 2, 8(3)
	std 0, 16(3)
	std 12, 24(3)
	.irp n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	std \n, 32 + (\n - 14) * 8(3)
	stfd \n, 176 + (\n - 14) * 8(3)
	.endr
	.irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	li 0, 320 + (\n - 20) * 16
	stvx \n, 3, 0
	.endr
	ld 11, PACA_THREAD_INFO(13)
	ld 12, TI_LIVEPATCH_SP(11)
	std 12, 512(3)
	lis 11, shadow_top@ha
	ld 12, shadow_top@l(11)
	std 12, 520(3)
	li 3, 0
	blr
	END sj_set

	FUNC sj_jump
	ld 1, 0(3)
	ld 2, 8(3)
	ld 0, 16(3)
	ld 12, 24(3)
	mtlr 0
	mtcr 12
	.irp n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	ld \n, 32 + (\n - 14) * 8(3)
	lfd \n, 176 + (\n - 14) * 8(3)
	.endr
	.irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	li 0, 320 + (\n - 20) * 16
	lvx \n, 3, 0
	.endr
	ld 11, PACA_THREAD_INFO(13)
	ld 12, 512(3)
	std 12, TI_LIVEPATCH_SP(11)
	lis 11, shadow_top@ha
	ld 12, 520(3)
	std 12, shadow_top@l(11)
	mr 3, 4
	blr
	END sj_jump

	.data
	.balign 16
	.globl shadow_top
shadow_top:
	.8byte shadow
timer:	.8byte 0, 0, 4, 0
	.space 0x8000
paca:	.space 0x8000			# 0x7010 below it: the stack guard of the thread
thread_info:
	.space 256
	.8byte 0x57ac6e9d		# STACK_END_MAGIC
livepatch_stack:
	.space 0x10000
	.bss
	.balign 16
shadow:	.space 0x10000
	.globl reached
reached: .space 0x10000
	.section .note.GNU-stack, "", @progbits

# SPDX-License-Identifier: MIT
#
# What stands behind the trampolines. -DHARMLESS: the targets themselves. Otherwise each call reaches
# its target, and comes back with every register and every byte wrecked that the ELFv2 ABI lets a
# callee of another unit wreck: r2 (but for -DNEAR_KEEPS_R2, where near targets have the caller's TOC,
# as the kernel sees to), r0, r3-r12 and f0-f13 but for results, v0-v19, the low halves of
# vs14-vs31, CR0, CR1, CR5-CR7, XER, CTR, the CR and LR save words of the caller's frame, the
# parameters in it, and the stack below it. The TOC save doubleword stays as it is.
# r1 does not move, so that arguments on the stack are where the target expects them.

	.abiversion 2

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

#ifdef HARMLESS
	.macro TARGET kind, gprs, fprs, parameters
	FUNC near_\kind
	b target_\kind
	END near_\kind
	FUNC far_\kind
	b target_\kind
	END far_\kind
	.endm
#else
	.set BELOW, 500			# doublewords below r1
	.set JUNK, 0x5ca1ab1e		# in both halves

	# gprs, fprs: registers that the result is in. parameters: doublewords of the caller's frame that
	# the callee owns.
	.macro WRAP name, kind, gprs, fprs, parameters, keep
	FUNC \name
	lis 11, shadow_top@ha
	ld 12, shadow_top@l(11)
	mflr 0
	std 0, 0(12)
	std 2, 8(12)
	addi 12, 12, 16
	std 12, shadow_top@l(11)
	# Note where the call came from: a byte for each instruction.
	ADDRESS 11, reached
	rldicl 12, 0, 62, 48
	li 0, 1
	stbx 0, 11, 12
	ADDRESS 12, target_\kind
	mtctr 12
	bctrl

	lis 11, shadow_top@ha
	ld 12, shadow_top@l(11)
	addi 12, 12, -16
	std 12, shadow_top@l(11)
	ld 0, 0(12)
	mtlr 0
	.if \keep
	ld 2, 8(12)
	.else
	# By turns a TOC of wrong contents, and no memory at all.
	lis 11, turn@ha
	lwz 12, turn@l(11)
	xori 12, 12, 1
	stw 12, turn@l(11)
	cmpwi 12, 0
	ADDRESS 2, foreign_toc
	bne 2f
	lis 2, 0x0bad
	sldi 2, 2, 32
2:
	.endif

	lis 0, JUNK@h
	ori 0, 0, JUNK@l
	rldimi 0, 0, 32, 0
	li 12, BELOW
	mtctr 12
	addi 11, 1, -8
3:	std 0, 0(11)
	addi 11, 11, -8
	bdnz 3b
	stw 0, 8(1)
	std 0, 16(1)
	.if \parameters
	li 12, \parameters
	mtctr 12
	addi 11, 1, 32
4:	std 0, 0(11)
	addi 11, 11, 8
	bdnz 4b
	.endif

	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	.if \n == 0 || \n > \fprs
	mtfprd \n, 0
	.endif
	.endr
	.irp n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	xxpermdi \n, \n, 0, 0
	.endr
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19
	vspltisb \n, -3
	.endr
	.irp n, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
	.if \n >= 3 + \gprs
	mr \n, 0
	.endif
	.endr
	mtctr 0
	mtxer 0
	mtcrf 0xc7, 0
	blr
	END \name
	.endm

	.macro TARGET kind, gprs, fprs, parameters
#ifdef NEAR_KEEPS_R2
	WRAP near_\kind, \kind, \gprs, \fprs, \parameters, 1
#else
	WRAP near_\kind, \kind, \gprs, \fprs, \parameters, 0
#endif
	WRAP far_\kind, \kind, \gprs, \fprs, \parameters, 0
	.endm

	.data
	.balign 16
turn:	.4byte 0
	.balign 16
	.rept 0x4000			# 64 KiB on both sides: what a wrong TOC pointer leads to
	.4byte 0xdeadbee1, 0x00c0ffee
	.endr
	.set foreign_toc, . - 0x10000
#endif

	.text
	TARGET one, 1, 0, 0
	TARGET two, 1, 0, 0
	TARGET ten, 1, 0, 10
	TARGET real, 0, 1, 0
	TARGET many, 0, 1, 15
	TARGET pair, 2, 0, 0
	TARGET big, 1, 0, 12
	TARGET reals, 0, 3, 0
	TARGET sum, 1, 0, 8
	TARGET touch, 0, 0, 0
	TARGET back, 1, 0, 0
	TARGET jump, 1, 0, 0
	TARGET wide, 2, 0, 0
	.section .note.GNU-stack, "", @progbits

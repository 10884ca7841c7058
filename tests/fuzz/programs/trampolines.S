# SPDX-License-Identifier: MIT
#
# A trampoline for each kind of target.  -DINSIDE: those that are linked into the object under test,
# in_KIND by a branch to a near target, far_KIND by way of a loaded address, as the kernel patches
# them. Otherwise out_KIND, which the object does not define, in both forms.

	.abiversion 2

	.macro BEGIN name
	.balign 16
	.globl __SCT__\name
	.type __SCT__\name, @function
__SCT__\name:
	addis 2, 12, .TOC.-__SCT__\name@ha
	addi 2, 2, .TOC.-__SCT__\name@l
	.localentry __SCT__\name, .-__SCT__\name
	.endm

	.macro REST name, target
	addis 12, 2, slot_\name@toc@ha
	ld 12, slot_\name@toc@l(12)
	mtctr 12
	bctr
	.size __SCT__\name, .-__SCT__\name
	.pushsection .data
	.balign 8
	.globl __SCK__\name		# what a table of call sites names
__SCK__\name:
slot_\name:
	.8byte \target
	.popsection
	.endm

	.macro NEAR name, kind
	BEGIN \name
	b near_\kind
	REST \name, far_\kind
	.endm

	.macro FAR name, kind
	BEGIN \name
	nop
	REST \name, far_\kind
	.endm

	.text
#ifdef INSIDE
	.irp kind, one, two, ten, real, many, pair, big, reals, sum, touch, back, jump, wide
	NEAR in_\kind, \kind
	FAR far_\kind, \kind
	.endr
	.pushsection .data
	.irp kind, one, two, ten, real, many, pair, big, reals, sum, touch, back, jump, wide
	.8byte __SCK__out_\kind
	.endr
	.popsection
#else
	.irp kind, one, ten, many, big, sum, back, wide
	NEAR out_\kind, \kind
	.endr
	.irp kind, two, real, pair, reals, touch, jump
	FAR out_\kind, \kind
	.endr
#endif
	.section .note.GNU-stack, "", @progbits

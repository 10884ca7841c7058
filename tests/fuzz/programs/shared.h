/* SPDX-License-Identifier: MIT */
/* What the units of a random program, and the targets of their static calls, have in common. */
#ifndef SHARED_H
#define SHARED_H

typedef unsigned long u;

struct pair { u x, y; };			/* returned in r3 and r4 */
struct big { u word[10]; };			/* passed in registers and on the stack, returned in memory */
struct reals { double x, y, z; };		/* passed and returned in floating-point registers */

typedef u (*function)(u);

#if defined(__clang__) || defined(NO_LONGCALL)
#define LONGCALL
#else
#define LONGCALL __attribute__((longcall))
#endif
#ifdef __clang__
#define SHORTCALL
#else
#define SHORTCALL __attribute__((shortcall))	/* a trampoline is called by `bl` with -mlongcall, too */
#endif

/* The kinds of targets: name, result, arguments. */
#define KINDS(F)							\
	F(one, u, (u))							\
	F(two, u, (u, u))						\
	F(ten, u, (u *, u, u, u, u, u, u, u, u, u))			\
	F(real, double, (double, u))					\
	F(many, double, (double, double, double, double, double, double, double, double, double, \
			 double, double, double, double, u, u))		\
	F(pair, struct pair, (u))					\
	F(big, struct big, (struct big, u))				\
	F(reals, struct reals, (struct reals))				\
	F(sum, u, (u, ...))						\
	F(touch, void, (u *))						\
	F(back, u, (function, u))					\
	F(jump, u, (u *, u))						\
	F(wide, unsigned __int128, (unsigned __int128))

/* PLAIN: a unit without static calls, for options under which a trampoline has no `bl`. */
#ifdef PLAIN
#define CALL(place, kind) target_##kind
#else
#define CALL(place, kind) __SCT__##place##_##kind
#endif

#define DECLARE(kind, result, arguments)				\
	extern result target_##kind arguments;				\
	extern result __SCT__in_##kind arguments SHORTCALL;		\
	extern result __SCT__far_##kind arguments SHORTCALL;		\
	extern result __SCT__out_##kind arguments SHORTCALL;		\
	extern result __SCT__own_##kind arguments SHORTCALL;		\
	extern result __SCT__local_##kind arguments SHORTCALL;
KINDS(DECLARE)

#define JUMP_BUFFER 80				/* doublewords */
extern u sj_set(u *buffer) __attribute__((returns_twice)) SHORTCALL;
extern void sj_jump(u *buffer, u value) __attribute__((noreturn));

extern long fuel;				/* calls that may still be made */
extern u plain(u), distant(u) LONGCALL;		/* functions of the harness */

static inline int may_go(void)
{
	return fuel-- > 0;
}

static inline u bits(double x)
{
	union { double x; u bits; } both = { x };

	return both.bits;
}

#endif

// SPDX-License-Identifier: MIT
/* The targets of the static calls, the main loop, and what a compiler asks of a C library. */
#include <stdarg.h>

#include "shared.h"

#define ROUNDS 16
#define FUEL 150

extern function entries[];
extern u entry_count;
extern char reached[];				/* by instruction: a target was called from here */
extern u sum_a(void), sum_b(void);

long fuel;
static u hash = 1, calls;

static u mix(u x)
{
	hash = (hash ^ x) * 0x100000001b3 + ++calls;
	return hash >> 7;
}

void poison(void);

u plain(u x)
{
	poison();
	return mix(x) ^ 3;
}

u distant(u x)
{
	poison();
	return mix(x + 5);
}

u target_one(u x) { return mix(x) + x; }
u target_two(u x, u y) { return mix(x * 3 + y); }

u target_ten(u *p, u a, u b, u c, u d, u e, u f, u g, u h, u i)
{
	u x = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i;

	*p ^= mix(x);
	return x;
}

double target_real(double x, u y) { return x * 0.5 + (double)(mix(bits(x) + y) & 0xff); }

double target_many(double a, double b, double c, double d, double e, double f, double g, double h,
		   double i, double j, double k, double l, double m, u x, u y)
{
	double sum = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j +
		     11 * k + 12 * l + 13 * m;

	return sum / 64 + (double)(mix(bits(sum) ^ x * 3 ^ y) & 0xf);
}

struct pair target_pair(u x) { return (struct pair){ mix(x), x * 5 }; }

struct big target_big(struct big a, u x)
{
	for (int n = 0; n < 10; n++)
		a.word[n] = mix(a.word[n] * x + (u)n);
	return a;
}

struct reals target_reals(struct reals a)
{
	return (struct reals){ a.z / 2 + (double)(mix(bits(a.x)) & 7), a.x / 2, a.y + 1 };
}

u target_sum(u count, ...)
{
	u x = 0;
	va_list list;

	va_start(list, count);
	while (count--)
		x = x * 3 + va_arg(list, u);
	va_end(list);
	return mix(x);
}

void target_touch(u *p) { *p += mix(*p); }

u target_back(function f, u x)
{
	u y = mix(x);

	return may_go() ? f(y) + 3 : y;
}

u target_jump(u *buffer, u x)
{
	u y = mix(x);

	if (y % 3 == 0)
		sj_jump(buffer, y | 1);
	return y;
}

unsigned __int128 target_wide(unsigned __int128 x)
{
	return x * 5 + ((unsigned __int128)mix((u)x) << 60) + (u)(x >> 64);
}

void *memcpy(void *to, const void *from, u size)
{
	for (u n = 0; n < size; n++)
		((volatile char *)to)[n] = ((const char *)from)[n];
	return to;
}

void *memmove(void *to, const void *from, u size)
{
	if (to <= from)
		return memcpy(to, from, size);
	while (size--)
		((volatile char *)to)[size] = ((const char *)from)[size];
	return to;
}

void *memset(void *to, int value, u size)
{
	for (u n = 0; n < size; n++)
		((volatile char *)to)[n] = (char)value;
	return to;
}

void system_exit(u status) __attribute__((noreturn));
void system_write(int file, const char *text, u size);

u __stack_chk_guard = 0x1122334455667788;
void __stack_chk_fail(void) { system_exit(9); }

static void print(int file, u x)
{
	char text[17];

	for (int n = 0; n < 16; n++)
		text[n] = "0123456789abcdef"[x >> (60 - 4 * n) & 15];
	text[16] = '\n';
	system_write(file, text, 17);
}

u main_loop(void)
{
	u sites = 0;

	for (u n = 0; n < entry_count; n++)
		for (u round = 0; round < ROUNDS; round++) {
			fuel = FUEL;
			poison();
			print(1, entries[n](n * 7 + round * 0x1234567) ^ mix(n));
		}
	print(1, sum_a());
	print(1, sum_b());
	print(1, hash);
	for (int n = 0; n < 0x10000; n++)
		sites += (u)reached[n];
	print(2, sites);
	return 0;
}

"""C and C++ programs whose static calls go through their own trampolines."""

from __future__ import annotations

TRAMPOLINE = """
asm(".pushsection .text\\n"
    ".balign 16\\n"
    ".globl __SCT__{name}\\n"
    ".type __SCT__{name}, @function\\n"
    "__SCT__{name}: b {target}\\n"
    ".size __SCT__{name}, 4\\n"
    ".popsection\\n");
"""
"""As in the kernel: one branch, without an entry that sets up r2."""

CALLER = """
extern long __SCT__add(long, long);
extern double __SCT__half(double);
extern long __SCT__many(void *, long, long, long, long, long, long, long, long, long);
extern long indirect(long (*)(long), long);
static long counter;
long twice(long x) { counter++; return __SCT__add(x, x); }
long sum(long n) {
        long total = 0;
        for (long i = 1; i <= n; i++)
                total = __SCT__add(total, i) + counter * 0;
        return total;
}
long mixed(long (*f)(long), long x) {
        long y = f(x);
        y = __SCT__add(y, f(y));
        if (y & 1)
                y += f(__SCT__add(y, 1));
        return y + indirect(f, __SCT__add(x, y));
}
double halves(double x) { return __SCT__half(x) + __SCT__half(x / 2) + counter * 0; }
long stack(long x) { return __SCT__many(&counter, x, 2, 3, 4, 5, 6, 7, 8, 9) + counter * 0; }
long calls(void) { return counter; }
"""

TARGETS = """
long add(long a, long b) { return a + b; }
double half(double x) { return x / 2; }
long many(void *p, long a, long b, long c, long d, long e, long f, long g, long h, long i) {
        return (p != 0) * 1000000 + a * 2 + b + c + d + e + f + g * 10 + h * 100 + i * 1000;
}
long indirect(long (*f)(long), long x) { return f(x) + 1; }
"""
for _name in ("add", "half", "many"):
    TARGETS += TRAMPOLINE.format(name=_name, target=_name)

MAIN = """
#include <stdio.h>
extern long twice(long), sum(long), mixed(long (*)(long), long), stack(long), calls(void);
extern double halves(double);
static long three(long x) { return 3 * x; }
int main(void) {
        printf("%ld %ld %ld %.2f %ld ", twice(21), sum(100), mixed(three, 7), halves(8), stack(1));
        printf("%ld\\n", calls());
        return 0;
}
"""
PRINTED = "42 5050 358 6.00 1009892 1\n"

THROWING = """
#include <cstdio>
#include <stdexcept>
#include <string>
extern "C" long __SCT__risky(long);
struct Guard {
        static int live;
        Guard() { live++; }
        ~Guard() { live--; }
};
int Guard::live;
static long middle(long x) { Guard guard; return __SCT__risky(x) + Guard::live; }
extern "C" long risky(long x) {
        if (x > 2)
                throw std::runtime_error("risky " + std::to_string(x));
        return 10 * x;
}
int main() {
        for (long i = 1; i < 5; i++) {
                try {
                        Guard guard;
                        std::printf("%ld ", middle(i));
                } catch (const std::exception &error) {
                        std::printf("%s (%d) ", error.what(), Guard::live);
                }
        }
        std::printf("%d\\n", Guard::live);
}
"""
THROWING += TRAMPOLINE.format(name="risky", target="risky")
THROWN = "12 22 risky 3 (0) risky 4 (0) 0\n"

INLINE = """
extern long __SCT__add(long, long);
__attribute__((noinline)) inline long shared(long x) { return __SCT__add(x, 1); }
long %s(long x) { return shared(x) + __SCT__add(x, 2); }
"""
"""With -x c++, `shared` is in a COMDAT group of every object that has it."""

/* SPDX-License-Identifier: MIT */
/*
 * exit.c - a test's child that leaves by _exit() writes its branch counts first. In every
 * program of a coverage build, where the linker puts this in place of _exit().
 */
#include <unistd.h>

void __gcov_dump(void);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}

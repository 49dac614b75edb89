/* SPDX-License-Identifier: MIT */
/* memory.c - the linker puts these in place of the library's calls; see opening_memory.h. */
#include "opening_memory.h"

#include <sys/mman.h>

void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *memory);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *memory, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    void *table = opening_take_table(count, size);

    return table != NULL ? table : __real_calloc(count, size);
}

void __wrap_free(void *memory)
{
    if (!opening_give_table(memory))
        __real_free(memory);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *pages = fd == -1 ? opening_take_pages(size) : NULL;

    return pages != NULL ? pages : __real_mmap(at, size, protection, flags, fd, offset);
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *memory, size_t size)
{
    return opening_give_pages(memory) ? 0 : __real_munmap(memory, size);
}

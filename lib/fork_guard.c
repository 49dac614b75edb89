/* SPDX-License-Identifier: MIT */
#include "fork_guard.h"

#include <stddef.h>
#include <sys/mman.h>

#define PAGE_SIZE 4096u

const uint32_t *tkv_fork_guard_new(void)
{
    void *page =
        mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, PAGE_SIZE, MADV_WIPEONFORK) != 0) {
        (void)munmap(page, PAGE_SIZE);
        return NULL;
    }
    *(uint32_t *)page = 1;
    return page;
}

void tkv_fork_guard_free(const uint32_t *guard)
{
    if (guard != NULL)
        (void)munmap((void *)(uintptr_t)guard, PAGE_SIZE);
}

/* SPDX-License-Identifier: MIT */
#include "scratch.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool scratch_make(char *ret_path, size_t size)
{
    const char *parent = getenv("TMPDIR");

    if (parent == NULL || parent[0] == '\0')
        parent = "/tmp";
    if (snprintf(ret_path, size, "%s/tinykv-XXXXXX", parent) >= (int)size) {
        errno = ENAMETOOLONG;
        return false;
    }
    return mkdtemp(ret_path) != NULL;
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    (void)remove(path);
    return 0;
}

void scratch_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

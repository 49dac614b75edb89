/* SPDX-License-Identifier: MIT */
/* tree.h - the regular files below some directories, as records: path -> content. */
#ifndef TINYKV_TREE_H
#define TINYKV_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct tree_file {
    char *path;
    uint64_t size;
    struct timespec changed; /* when its content changed last */
};

struct tree {
    struct tree_file *files;
    size_t count;
    uint64_t bytes;     /* of all files */
    uint64_t bytes_max; /* files beyond it are left out */
};

/* Add the readable files below `root`, symbolic links not followed. False without memory; a
 * root that is missing adds nothing. */
bool tree_add(struct tree *tree, const char *root);
void tree_release(struct tree *tree);

/* Read the whole file to `buffer`, which holds file->size bytes. False when it is not, or no
 * longer, the file that was added. */
bool tree_read(const struct tree_file *file, uint8_t *buffer);

#endif

/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct tree *visited; /* nftw() passes no context */

/* Paths are keys, so their length is limited; so is what is worth reading. */
static bool is_wanted(const char *path, const struct stat *info)
{
    return S_ISREG(info->st_mode) && strlen(path) <= 4096 && info->st_size >= 0 &&
           (uint64_t)info->st_size <= visited->bytes_max - visited->bytes &&
           access(path, R_OK) == 0;
}

static bool add(struct tree *tree, const char *path, const struct stat *info)
{
    struct tree_file *files = tree->files;
    char *copy = strdup(path);

    if ((tree->count & (tree->count - 1)) == 0)
        files = realloc(files, (tree->count == 0 ? 1 : 2 * tree->count) * sizeof *files);
    if (files != NULL)
        tree->files = files;
    if (files == NULL || copy == NULL) {
        free(copy);
        return false;
    }
    files[tree->count++] = (struct tree_file){copy, (uint64_t)info->st_size, info->st_mtim};
    tree->bytes += (uint64_t)info->st_size;
    return true;
}

static int visit(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F || !is_wanted(path, info))
        return 0;
    return add(visited, path, info) ? 0 : -1;
}

bool tree_add(struct tree *tree, const char *root)
{
    int result;

    visited = tree;
    errno = 0;
    result = nftw(root, visit, 32, FTW_PHYS);
    visited = NULL;
    return result == 0 || errno != ENOMEM;
}

void tree_release(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        free(tree->files[i].path);
    free(tree->files);
    *tree = (struct tree){0};
}

static bool is_same(int fd, const struct tree_file *file)
{
    struct stat info;

    return fstat(fd, &info) == 0 && (uint64_t)info.st_size == file->size &&
           info.st_mtim.tv_sec == file->changed.tv_sec &&
           info.st_mtim.tv_nsec == file->changed.tv_nsec;
}

bool tree_read(const struct tree_file *file, uint8_t *buffer)
{
    const int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    uint64_t done = 0;
    bool good;

    if (fd < 0)
        return false;
    good = is_same(fd, file);
    while (good && done < file->size) {
        const ssize_t got = read(fd, buffer + done, (size_t)(file->size - done));

        good = got > 0;
        done += good ? (uint64_t)got : 0;
    }
    (void)close(fd);
    return good;
}

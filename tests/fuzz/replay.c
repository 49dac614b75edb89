/* SPDX-License-Identifier: MIT */
/*
 * replay.c - a fuzz target without a fuzzer: run every file that is named, or that lies in a
 * directory that is named, once.
 *
 *     fuzz_replay_NAME [-q] FILE|DIRECTORY...
 *
 * The name of each is printed before it runs, so that the last line names the one that broke
 * something; -q prints the sum only.
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static bool is_quiet;
static unsigned long passed;

static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    struct stat about;
    size_t size;

    if (file == NULL || fstat(fileno(file), &about) != 0) {
        perror(path);
        return false;
    }
    size = (size_t)about.st_size;
    bytes = malloc(size + 1);
    if (bytes == NULL || fread(bytes, 1, size, file) != size) {
        perror(path);
        return false;
    }
    (void)fclose(file);
    if (!is_quiet)
        printf("%s\n", path);
    (void)fflush(stdout);
    bytes = realloc(bytes, size == 0 ? 1 : size); /* exactly, for the address sanitizer */
    (void)LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    passed++;
    return true;
}

static bool replay_directory(const char *path)
{
    struct dirent **entries;
    const int count = scandir(path, &entries, NULL, alphasort);
    bool good = count >= 0;
    char name[4096];

    if (!good)
        perror(path);
    for (int i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            good = replay_file(name) && good;
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return good;
}

int main(int argc, char **argv)
{
    struct stat about;
    bool good = true;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-q") == 0) {
            is_quiet = true;
            continue;
        }
        if (stat(argv[i], &about) != 0) {
            perror(argv[i]);
            return 2;
        }
        good = (S_ISDIR(about.st_mode) ? replay_directory : replay_file)(argv[i]) && good;
    }
    printf("%lu passed, %d failed\n", passed, good ? 0 : 1);
    return good && passed > 0 ? 0 : 1;
}

/* SPDX-License-Identifier: MIT */
/*
 * sample.h - a small store on the simulated disk that has every kind of file, record and group
 * there is, together with what it must contain and with its own earlier states.
 *
 *     struct sample *sample = sample_new("always-killed", TKV_DURABILITY_ALWAYS, false, seed);
 *     ... damage a clone of sample->disk, open it, compare with sample->oracle ...
 *     sample_free(sample);
 *
 * Everything follows from the seed.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "oracle.h"
#include "parts.h"
#include "simdisk.h"

#define SAMPLE_MOMENTS_MAX 6u
#define SAMPLE_FILES_MAX   48u
#define SAMPLE_FOREIGN     "notes.txt" /* not the store's; must never be touched */

struct sample_file {
    char name[2 * (SIMDISK_NAME_SIZE_MAX + 1)];
    uint8_t *bytes;
    size_t size;
    struct parts parts; /* of the final state's files only */
};

/* All files of a disk, by name. */
struct sample_image {
    struct sample_file files[SAMPLE_FILES_MAX];
    size_t count;
};

struct sample {
    const char *name;
    struct tkv_options options; /* to open it with */
    struct simdisk *disk;       /* nothing pending, nobody has it open */
    struct sample_image image;  /* the same, file by file */
    struct sample_image moments[SAMPLE_MOMENTS_MAX]; /* earlier, in order of age */
    size_t moment_count;
    struct oracle *oracle;
    uint64_t *op_seqs; /* the newest sequence number once each write was done */
    size_t op_capacity;
};

struct sample *sample_new(const char *name, enum tkv_durability durability, bool is_closed,
                          uint64_t seed);
void sample_free(struct sample *sample);

/* NULL when there is none. */
const struct sample_file *sample_find(const struct sample_image *image, const char *name);
size_t sample_bytes(const struct sample *sample);

/* How many of the first writes have a sequence number up to `seq`. */
size_t sample_ops_up_to(const struct sample *sample, uint64_t seq);

static inline uint64_t sample_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

#endif

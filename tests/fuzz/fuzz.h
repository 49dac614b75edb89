/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets share. Each target_NAME.c defines LLVMFuzzerTestOneInput(),
 * which takes any bytes, does something with the engine or the tools, and stops the program
 * when a promise is broken. The same file is linked with libFuzzer, with AFL++ and with
 * replay.c, which runs the seed corpora in every ordinary build.
 *
 * A target keeps nothing between two inputs that could change what the next one does.
 */
#ifndef TKV_FUZZ_H
#define TKV_FUZZ_H

#include "bytes.h"
#include "tinykv.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define FUZZ_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_HAS_ASAN 1
#endif
#endif

#if defined(FUZZ_HAS_ASAN)
#include <sanitizer/asan_interface.h>
#define FUZZ_FORBID(address, size) __asan_poison_memory_region((address), (size))
#define FUZZ_ALLOW(address, size)  __asan_unpoison_memory_region((address), (size))
#else
#define FUZZ_FORBID(address, size) ((void)(address), (void)(size))
#define FUZZ_ALLOW(address, size)  ((void)(address), (void)(size))
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- Promises -------------------------------------------------------------------- */

static inline void fuzz_fail(const char *file, int line, const char *promise,
                             const char *detail)
{
    fprintf(stderr, "%s:%d: not true: %s%s%s\n", file, line, promise,
            detail[0] == 0 ? "" : ": ", detail);
    fflush(NULL);
    abort();
}

#define FUZZ_CHECK(condition)                              \
    do {                                                   \
        if (!(condition))                                  \
            fuzz_fail(__FILE__, __LINE__, #condition, ""); \
    } while (0)

/* The same, with a text that says more. */
#define FUZZ_CHECK_SAYING(condition, detail)                   \
    do {                                                       \
        if (!(condition))                                      \
            fuzz_fail(__FILE__, __LINE__, #condition, detail); \
    } while (0)

/* ---- The input, read from its beginning; zeros when it has ended ------------------- */

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

/* Up to `size` bytes of the input where they lie; fewer when it ends. */
static inline struct tkv_slice fuzz_take(struct fuzz_input *in, size_t size)
{
    struct tkv_slice taken;

    if (size > in->left)
        size = in->left;
    taken = tkv_bytes(in->at, size);
    in->at += size;
    in->left -= size;
    return taken;
}

static inline uint64_t fuzz_number(struct fuzz_input *in, size_t size)
{
    uint8_t bytes[8] = {0};
    const struct tkv_slice taken = fuzz_take(in, size);

    if (taken.size > 0)
        memcpy(bytes, taken.data, taken.size);
    return tkv_get_le64(bytes);
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
    return (uint8_t)fuzz_number(in, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
    return (uint16_t)fuzz_number(in, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
    return (uint32_t)fuzz_number(in, 4);
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
    return fuzz_number(in, 8);
}

static inline bool fuzz_same(struct tkv_slice left, struct tkv_slice right)
{
    return left.size == right.size &&
           (left.size == 0 || memcmp(left.data, right.data, left.size) == 0);
}

#endif

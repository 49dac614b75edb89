/* SPDX-License-Identifier: MIT */
/*
 * test_chunks - pages are aligned and never overlap, memory is got ready only for who grows,
 * numbers are right, and it all goes back to the system. The linker wraps malloc, mmap and
 * munmap, so that any of them can fail and mappings can be counted.
 */
#include "chunks.h"
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/types.h>

TEST_MAIN

#define MIB   ((size_t)1024 * 1024)
#define PAGES 400u /* 25 MiB */

static unsigned failing_mallocs, failing_mmaps, failing_munmaps; /* the next so many */
static size_t mapped;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);

static bool fails_now(unsigned *failing)
{
    if (*failing == 0)
        return false;
    (*failing)--;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails_now(&failing_mallocs) ? NULL : __real_malloc(size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails_now(&failing_mmaps)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    mapped += size;
    return __real_mmap(at, size, protection, flags, fd, offset);
}

/* What glibc makes of it with offsets of 64 bits. */
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t size)
{
    if (fails_now(&failing_munmaps)) {
        errno = ENOMEM;
        return -1;
    }
    mapped -= size;
    return __real_munmap(at, size);
}

static struct tkv_chunks chunks;
static uint8_t *pages[PAGES];
static struct tkv_chunk *homes[PAGES];

static void begin(void)
{
    failing_mallocs = failing_mmaps = failing_munmaps = 0;
    mapped = 0;
    tkv_chunks_init(&chunks);
}

static void end(void)
{
    failing_munmaps = 0;
    tkv_chunks_release(&chunks);
    CHECK_EQ(mapped, 0);
    CHECK_EQ(chunks.bytes, 0);
}

static void take(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        pages[i] = tkv_chunks_take(&chunks, 1, &homes[i]);
        CHECK(pages[i] != NULL);
        CHECK_EQ((uintptr_t)pages[i] % TKV_PAGE_BYTES, 0);
        memset(pages[i], (int)(i % 251), TKV_PAGE_BYTES);
    }
}

static void give(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        CHECK_EQ(pages[i][0], i % 251);
        CHECK_EQ(pages[i][TKV_PAGE_BYTES - 1], i % 251);
        tkv_chunks_give(&chunks, homes[i], pages[i], 1);
    }
}

TEST(pages_are_aligned_and_do_not_overlap_and_all_memory_comes_back_but_one_chunk)
{
    begin();
    take(0, PAGES);
    CHECK(chunks.bytes >= mapped && chunks.bytes < mapped + MIB);
    CHECK(mapped >= PAGES * TKV_PAGE_BYTES);
    CHECK(mapped <= PAGES * TKV_PAGE_BYTES + 2 * MIB);
    give(0, PAGES / 2);
    take(0, PAGES / 2);
    give(0, PAGES);
    CHECK(mapped <= 2 * MIB);
    CHECK_EQ(chunks.free_pages, 0);
    end();
}

TEST(without_memory_for_a_large_chunk_there_is_a_small_one_or_none)
{
    begin();
    take(0, 100);
    while (chunks.free_pages > 0)
        take(100, 101);
    failing_mmaps = 2;
    CHECK(tkv_chunks_take(&chunks, 1, &homes[0]) == NULL);
    failing_mallocs = 2;
    CHECK(tkv_chunks_take(&chunks, 1, &homes[0]) == NULL);
    failing_mallocs = 1;
    CHECK(tkv_chunk_new() == NULL);
    failing_mmaps = 1;
    take(0, 1);
    CHECK_EQ(chunks.free_pages, 0);
    take(0, 1);
    CHECK(chunks.free_pages > 0);
    end();
}

/* ---- Runs ----------------------------------------------------------------------------- */

static unsigned counts[PAGES];

static void take_run(unsigned i, unsigned count)
{
    counts[i] = count;
    pages[i] = tkv_chunks_take(&chunks, count, &homes[i]);
    CHECK(pages[i] != NULL);
    CHECK_EQ((uintptr_t)pages[i] % TKV_PAGE_BYTES, 0);
    for (unsigned page = 0; page < count; page++)
        memset(pages[i] + page * TKV_PAGE_BYTES, (int)(i % 251), 1000);
}

static void give_run(unsigned i)
{
    for (unsigned page = 0; page < counts[i]; page++) {
        CHECK_EQ(pages[i][page * TKV_PAGE_BYTES], i % 251);
        CHECK_EQ(pages[i][page * TKV_PAGE_BYTES + 999], i % 251);
    }
    tkv_chunks_give(&chunks, homes[i], pages[i], counts[i]);
}

TEST(runs_do_not_overlap_and_all_memory_comes_back_but_one_chunk)
{
    begin();
    for (unsigned i = 0; i < PAGES; i++)
        take_run(i, 1u << i * 7 % 6);
    for (unsigned i = 0; i < PAGES; i += 3)
        give_run(i);
    for (unsigned i = 0; i < PAGES; i += 3)
        take_run(i, 1u << i * 5 % 6);
    for (unsigned i = 0; i < PAGES; i++)
        give_run(i * 7 % PAGES);
    CHECK(mapped <= 2 * MIB);
    CHECK_EQ(chunks.free_pages, 0);
    end();
}

TEST(small_runs_leave_room_for_long_ones_and_use_up_what_is_left_of_a_chunk)
{
    static const unsigned lengths[] = {1, 16, 2, 8, 4, 1};

    begin();
    tkv_chunks_add(&chunks, tkv_chunk_new());
    failing_mmaps = UINT_MAX;
    for (unsigned i = 0; i < 6; i++)
        take_run(i, lengths[i]);
    CHECK_EQ(chunks.free_pages, 0);
    CHECK(tkv_chunks_take(&chunks, 1, &homes[6]) == NULL);
    give_run(3);
    take_run(3, 8);
    give_run(0);
    CHECK(tkv_chunks_take(&chunks, 2, &homes[6]) == NULL);
    take_run(0, 1);
    end();
}

TEST(a_chunk_that_is_too_small_for_a_run_is_left_for_others)
{
    begin();
    take_run(0, 1); /* a chunk of one page, then the spare one */
    give_run(0);
    take_run(1, 32);
    CHECK(chunks.spare != NULL);
    take_run(2, 1); /* one more, which a run cannot use */
    take_run(3, 2);
    take_run(4, 2);
    CHECK(homes[2] != homes[3]);
    for (unsigned i = 1; i < 5; i++)
        give_run(i);
    end();
}

TEST(without_memory_for_a_large_chunk_a_run_has_one_of_its_own)
{
    begin();
    for (unsigned i = 0; i < 3; i++)
        take_run(i, 32);
    failing_mmaps = 1;
    take_run(3, 4);
    CHECK_EQ(chunks.free_pages, 0); /* no more than the run */
    failing_mmaps = 2;
    CHECK(tkv_chunks_take(&chunks, 4, &homes[4]) == NULL);
    take_run(4, 4);
    CHECK_EQ(chunks.free_pages, 28);
    end();
}

/* ---- Memory ahead ---------------------------------------------------------------------- */

#define AHEAD 20u /* pages: with fewer left, more is wanted */

/* Until `left` pages are left of what is mapped, after at least one. */
static void use_up_to(unsigned *at, size_t left)
{
    do {
        take(*at, *at + 1);
        (*at)++;
    } while (chunks.free_pages != left);
}

static void use_up(unsigned *at)
{
    use_up_to(at, AHEAD - 1);
}

TEST(more_is_wanted_by_who_grows_has_little_left_and_is_large)
{
    unsigned at = 0;

    begin();
    CHECK(!tkv_chunks_want_more(&chunks));
    use_up_to(&at, 0);
    CHECK(!tkv_chunks_want_more(&chunks)); /* small */
    take(at, 200);
    at = 200;
    use_up_to(&at, AHEAD);
    CHECK(!tkv_chunks_want_more(&chunks)); /* enough is left */
    use_up(&at);
    CHECK(tkv_chunks_want_more(&chunks));
    CHECK(!tkv_chunks_want_more(&chunks)); /* nothing was taken since */
    end();
}

TEST(a_chunk_made_ahead_is_used_next_or_goes_back_when_the_growth_is_over)
{
    struct tkv_chunk *chunk;
    unsigned at = 200;
    size_t before;

    begin();
    take(0, at);
    use_up(&at);
    CHECK(tkv_chunks_want_more(&chunks));
    before = chunks.bytes;
    chunk = tkv_chunk_new();
    CHECK(chunk != NULL);
    tkv_chunks_add(&chunks, chunk);
    CHECK(chunks.bytes >= before + 2 * MIB);
    take(at, at + 1);
    at++;
    CHECK(!tkv_chunks_want_more(&chunks)); /* there is one */
    failing_mmaps = UINT_MAX;
    take(at, at + 30); /* without asking the system */
    at += 30;
    failing_mmaps = 0;
    use_up(&at);
    CHECK(tkv_chunks_want_more(&chunks));
    before = chunks.bytes;
    tkv_chunks_add(&chunks, tkv_chunk_new());
    tkv_chunks_add(&chunks, tkv_chunk_new()); /* one is enough */
    CHECK(chunks.bytes < before + 3 * MIB);
    CHECK(!tkv_chunks_want_more(&chunks));
    CHECK(chunks.bytes > before); /* a pause in the growth is no reason */
    tkv_chunks_trim(&chunks);
    CHECK_EQ(chunks.bytes, before);
    tkv_chunks_trim(&chunks);
    CHECK_EQ(chunks.bytes, before);
    end();
}

TEST(a_chunk_that_cannot_be_unmapped_is_used)
{
    struct tkv_chunk *chunk;

    begin();
    take(0, 1);
    chunk = tkv_chunk_new();
    CHECK(chunk != NULL);
    tkv_chunks_add(&chunks, chunk);
    failing_munmaps = 1;
    tkv_chunks_trim(&chunks);
    CHECK(chunks.spare == NULL);
    CHECK_EQ(chunks.free_pages, 2 * MIB / TKV_PAGE_BYTES);
    failing_mmaps = UINT_MAX;
    take(1, 33);
    end();
}

TEST(an_object_and_its_number_lead_to_each_other)
{
    begin();
    take(0, PAGES);
    for (unsigned i = 0; i < PAGES; i++) {
        for (size_t at = 64; at < TKV_PAGE_BYTES; at += 21672) {
            const uint32_t number = tkv_chunk_number(homes[i], pages[i] + at);

            CHECK(number != 0);
            CHECK(tkv_chunks_object(&chunks, number) == pages[i] + at);
        }
    }
    give(0, PAGES);
    end();
}

TEST(the_number_of_a_chunk_that_is_gone_is_used_again)
{
    begin();
    take(0, PAGES);
    give(0, PAGES);
    take(0, PAGES);
    for (unsigned i = 0; i < PAGES; i++)
        CHECK(tkv_chunk_number(homes[i], pages[i]) >> TKV_NUMBER_OFFSET_BITS < PAGES);
    give(0, PAGES);
    end();
    for (unsigned i = 0; i < TKV_NUMBERED_CHUNKS; i++)
        CHECK(chunks.bases[i] == NULL);
}

TEST(what_lies_beyond_the_numbered_chunks_has_none)
{
    begin();
    for (unsigned i = 0; i < TKV_NUMBERED_CHUNKS - 1; i++)
        chunks.bases[i] = pages[0]; /* as if they were in use */
    take(0, 2);                     /* two chunks of one page */
    CHECK(homes[0] != homes[1]);
    CHECK(tkv_chunks_object(&chunks, tkv_chunk_number(homes[0], pages[0] + 8)) ==
          pages[0] + 8);
    CHECK_EQ(tkv_chunk_number(homes[1], pages[1] + 8), 0);
    give(0, 2);
    memset(chunks.bases, 0, (TKV_NUMBERED_CHUNKS - 1) * sizeof *chunks.bases);
    end();
    CHECK(chunks.bases[TKV_NUMBERED_CHUNKS - 1] == NULL);
}

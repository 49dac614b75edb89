/* SPDX-License-Identifier: MIT */
/* plan.c - the writers' steps, keys and values. */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_KEYS 4u /* the first keys of a thread hold the values beside the log */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

/* ---- Steps --------------------------------------------------------------------------- */

static enum lab_kind kind_of(uint64_t r)
{
    const unsigned lot = (unsigned)(r % 1000);

    if (lot < 100)
        return LAB_DELETE;
    if (lot < 220)
        return LAB_BATCH;
    if (lot < 230)
        return LAB_SYNC;
    if (lot < 234)
        return LAB_CHECKPOINT;
    if (lot < 235)
        return LAB_COMPACT;
    return LAB_PUT;
}

static struct lab_item put_of(uint64_t r)
{
    const uint32_t stamp_size = (uint32_t)sizeof(struct lab_stamp);

    if (r % 200 == 0) /* too large for the log */
        return (struct lab_item){(unsigned)(r >> 8) % LARGE_KEYS, false,
                                 33 * 1024 + (uint32_t)(r >> 24) % (60 * 1024)};
    return (struct lab_item){(unsigned)(r >> 8) % LAB_KEYS, false,
                             stamp_size + (uint32_t)(r >> 24) % 1400};
}

struct lab_step lab_step_of(uint64_t seed, uint32_t life, unsigned thread, uint64_t step)
{
    uint64_t r = mix(mix(seed * 64 + life) + step * LAB_THREADS + thread);
    struct lab_step s = {.kind = kind_of(r)};

    if (s.kind == LAB_PUT || s.kind == LAB_DELETE)
        s.count = 1;
    else if (s.kind == LAB_BATCH)
        s.count = 2 + (size_t)(r >> 32) % (LAB_ITEMS_MAX - 1);
    for (size_t i = 0; i < s.count; i++) {
        r = mix(r + i + 1);
        s.items[i] = put_of(r);
        if (s.kind == LAB_BATCH && s.items[i].size > 8 * 1024)
            s.items[i].size = 8 * 1024; /* a batch has to fit into the smallest log */
        s.items[i].is_delete =
            s.kind == LAB_DELETE || (s.kind == LAB_BATCH && (r >> 56) % 8 == 0);
    }
    return s;
}

/* ---- Keys and values ----------------------------------------------------------------- */

struct tkv_slice lab_key_of(unsigned thread, unsigned key, struct lab_key *ret_key)
{
    snprintf(ret_key->text, sizeof ret_key->text, "thread %u key %u", thread, key);
    return tkv_text(ret_key->text);
}

bool lab_key_parse(struct tkv_slice text, unsigned *ret_thread, unsigned *ret_key)
{
    char copy[32], *end;
    struct lab_key same;
    struct tkv_slice again;
    unsigned long thread, key;

    if (text.size < 8 || text.size >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    thread = strtoul(copy + 7, &end, 10);
    key = strncmp(end, " key ", 5) == 0 ? strtoul(end + 5, NULL, 10) : LAB_KEYS;
    if (thread >= LAB_THREADS || key >= LAB_KEYS)
        return false;
    again = lab_key_of((unsigned)thread, (unsigned)key, &same);
    if (again.size != text.size || memcmp(again.data, text.data, text.size) != 0)
        return false;
    *ret_thread = (unsigned)thread;
    *ret_key = (unsigned)key;
    return true;
}

struct tkv_slice lab_value_of(struct lab_stamp stamp, uint32_t size, uint8_t *bytes)
{
    uint64_t r = mix(stamp.step + ((uint64_t)stamp.life << 32)) + stamp.thread * 16u;

    r += stamp.item;
    memcpy(bytes, &stamp, sizeof stamp);
    for (size_t at = sizeof stamp; at < size; at++) {
        if (at % 8 == 0)
            r = mix(r + 1);
        bytes[at] = (uint8_t)(r >> at % 8 * 8);
    }
    return tkv_bytes(bytes, size);
}

bool lab_value_parse(uint64_t seed, unsigned thread, unsigned key, struct tkv_slice value,
                     struct lab_stamp *ret_stamp)
{
    static uint8_t bytes[LAB_SIZE_MAX];
    struct lab_stamp stamp;
    struct lab_step step;

    if (value.size < sizeof stamp)
        return false;
    memcpy(&stamp, value.data, sizeof stamp);
    if (stamp.thread != thread || stamp.life == 0)
        return false;
    step = lab_step_of(seed, stamp.life, thread, stamp.step);
    if (stamp.item >= step.count || step.items[stamp.item].is_delete ||
        step.items[stamp.item].key != key || step.items[stamp.item].size != value.size)
        return false;
    (void)lab_value_of(stamp, (uint32_t)value.size, bytes);
    if (memcmp(bytes, value.data, value.size) != 0)
        return false;
    *ret_stamp = stamp;
    return true;
}

/* ---- Options ------------------------------------------------------------------------- */

struct tkv_options lab_options_of(uint64_t seed, uint32_t life,
                                  enum tkv_durability durability)
{
    const uint64_t r = mix(seed + life * 1000u);
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = durability;
    options.interval_ms = 20;
    options.wal_size_max = (r & 1) != 0 ? 128 * 1024 : 512 * 1024;
    options.data_file_size_min = (r & 2) != 0 ? 64 * 1024 : 256 * 1024;
    options.compact_size_min = 256 * 1024;
    options.compress_level = (r & 12) == 0 ? 1 : 0;
    options.read_mode = (r & 16) != 0 ? TKV_READ_PREAD : TKV_READ_MMAP;
    return options;
}

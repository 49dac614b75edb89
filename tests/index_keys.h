/* SPDX-License-Identifier: MIT */
/*
 * index_keys.h - keys and locations that are made from their numbers, for programs that test the
 * index with memory that fails.
 */
#ifndef TKV_INDEX_KEYS_H
#define TKV_INDEX_KEYS_H

#include "failing_memory.h"
#include "index.h"
#include "test.h"

#define MIB ((size_t)1024 * 1024)

#define KEY_BUFFER 6000u

struct key {
    struct tkv_slice slice;
    uint64_t hash;
    uint8_t bytes[KEY_BUFFER];
};

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline void make_key(const struct tkv_index *index, uint64_t number, size_t size,
                            struct key *key)
{
    memset(key->bytes, (int)(number & 0xff), size);
    memcpy(key->bytes, &number, size < sizeof number ? size : sizeof number);
    key->slice = tkv_bytes(size == 0 ? NULL : key->bytes, size);
    key->hash = tkv_index_hash(index, key->slice);
}

/* Number 0 is the empty key, some keys are too large for pages, the others short. */
static inline void varied_key(const struct tkv_index *index, uint64_t number,
                              struct key *key)
{
    make_key(index, number,
             number == 0         ? 0
             : number % 101 == 0 ? 4000 + number % 2000
                                 : 8 + number % 40,
             key);
}

static inline void short_key(const struct tkv_index *index, uint64_t number,
                             struct key *key)
{
    make_key(index, number, 16, key);
}

static inline struct tkv_index *new_index(void)
{
    struct tkv_index *index;
    struct tkv_error err;

    CHECK_OK(tkv_index_new(7, 0, &index, &err));
    return index;
}

static inline struct tkv_location location(uint64_t number, uint64_t expires_at_ms)
{
    return (struct tkv_location){
        .place = tkv_place((uint32_t)(number % 1000), number, number & TKV_PLACE_LARGE),
        .size = (uint32_t)number + 1,
        .seq_low = (uint32_t)(number * 31),
        .expires_at_ms = expires_at_ms,
    };
}

static inline void check_same(const struct tkv_location *left,
                              const struct tkv_location *right)
{
    CHECK_EQ(left->place, right->place);
    CHECK_EQ(left->size, right->size);
    CHECK_EQ(left->seq_low, right->seq_low);
    CHECK_EQ(left->expires_at_ms, right->expires_at_ms);
}

static inline bool put(struct tkv_index *index, const struct key *key,
                       struct tkv_location to, struct tkv_location *ret_old)
{
    struct tkv_error err;

    CHECK_OK(tkv_index_reserve(index, key->slice, key->hash, to.expires_at_ms != 0, &err));
    return tkv_index_put(index, key->slice, key->hash, &to, ret_old);
}

static inline void put_short(struct tkv_index *index, uint64_t number)
{
    struct tkv_location old;
    struct key key;

    short_key(index, number, &key);
    (void)put(index, &key, location(number, 0), &old);
}

static inline bool remove_short(struct tkv_index *index, uint64_t number)
{
    struct tkv_location old;
    struct key key;

    short_key(index, number, &key);
    return tkv_index_remove(index, key.slice, key.hash, &old);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * plan.h - what the writers of a power-cut run do: step by step, thread by thread, each a
 * function of the seed, the life of the store and the step's number alone, so that a checker
 * in another process knows every write without having been told of it.
 *
 * A life is what happens between two cuts that the store has to live with. Every thread has
 * keys of its own. A value begins with the stamp of the write that made it and goes on with
 * bytes that follow from that stamp: no value passes for another.
 */
#ifndef LAB_PLAN_H
#define LAB_PLAN_H

#include "tinykv.h"

#define LAB_THREADS   4u
#define LAB_KEYS      150u /* of each thread */
#define LAB_ITEMS_MAX 6u
#define LAB_SIZE_MAX  (96u * 1024)

enum lab_kind { LAB_PUT, LAB_DELETE, LAB_BATCH, LAB_SYNC, LAB_CHECKPOINT, LAB_COMPACT };

struct lab_item {
    unsigned key;
    bool is_delete;
    uint32_t size;
};

struct lab_step {
    enum lab_kind kind;
    size_t count; /* items; 0 for the kinds that change no key */
    struct lab_item items[LAB_ITEMS_MAX];
};

/* Which write made a value. Life 0 never happens: it stands for an absent key. */
struct lab_stamp {
    uint32_t life;
    uint16_t thread, item;
    uint64_t step; /* from 1 */
};

struct lab_key {
    char text[32];
};

struct lab_step lab_step_of(uint64_t seed, uint32_t life, unsigned thread, uint64_t step);
struct tkv_slice lab_key_of(unsigned thread, unsigned key, struct lab_key *ret_key);
/* False: no key of any plan. */
bool lab_key_parse(struct tkv_slice text, unsigned *ret_thread, unsigned *ret_key);
/* `bytes` has room for LAB_SIZE_MAX. */
struct tkv_slice lab_value_of(struct lab_stamp stamp, uint32_t size, uint8_t *bytes);
/* False: not the bytes of any write of this plan to this key. */
bool lab_value_parse(uint64_t seed, unsigned thread, unsigned key, struct tkv_slice value,
                     struct lab_stamp *ret_stamp);

/* Small files and a small log, so that everything happens often; they differ by life. */
struct tkv_options lab_options_of(uint64_t seed, uint32_t life,
                                  enum tkv_durability durability);

#endif

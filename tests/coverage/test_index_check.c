/* SPDX-License-Identifier: MIT */
/*
 * The check of the index sees every way in which one could be wrong: each field that it relies
 * on is changed in an index of a few thousand keys, seen, and changed back.
 */
#include "index_line.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

TEST_MAIN

#define KEYS 3000u

static struct tkv_error err;

static struct tkv_index *make_index(void)
{
    struct tkv_index *index;

    CHECK_OK(tkv_index_new(7, 0, &index, &err));
    for (unsigned i = 0; i < KEYS; i++) {
        char text[16];
        const struct tkv_location location = {.place = tkv_place(1, i * 64, 0),
                                              .size = 64,
                                              .seq_low = i,
                                              .expires_at_ms = i % 3 == 0 ? 1000 + i : 0};
        struct tkv_location old;
        struct tkv_slice key;
        uint64_t hash;

        snprintf(text, sizeof text, "key %u", i);
        key = tkv_text(text);
        hash = tkv_index_hash(index, key);
        CHECK_OK(tkv_index_reserve(index, key, hash, i % 3 == 0, &err));
        CHECK(!tkv_index_put(index, key, hash, &location, &old));
    }
    CHECK(tkv_index_check(index));
    return index;
}

/* ---- Keys that collide ------------------------------------------------------------------ */

#define HOSTILE_KEYS 1024u
#define HOSTILE_SEED 7u

/* All in one shard, and in a 32nd of its lines, with the seed that they were made for. */
static void make_hostile(struct tkv_index *index, char keys[HOSTILE_KEYS][16])
{
    unsigned found = 0;

    for (unsigned i = 0; found < HOSTILE_KEYS; i++) {
        uint64_t hash;

        snprintf(keys[found], 16, "h%u", i);
        hash = tkv_index_hash(index, tkv_text(keys[found]));
        found += hash >> 56 == 0 && (hash & 127) == 0;
    }
}

static struct tkv_index *make_hostile_index(uint64_t seed, char keys[HOSTILE_KEYS][16])
{
    struct tkv_index *index;

    CHECK_OK(tkv_index_new(seed, 0, &index, &err));
    if (keys[0][0] == 0)
        make_hostile(index, keys);
    for (unsigned i = 0; i < HOSTILE_KEYS; i++) {
        const struct tkv_slice key = tkv_text(keys[i]);
        const uint64_t hash = tkv_index_hash(index, key);
        struct tkv_location location = {.place = tkv_place(1, i * 64, 0), .size = 64}, old;

        CHECK_OK(tkv_index_reserve(index, key, hash, false, &err));
        CHECK(!tkv_index_put(index, key, hash, &location, &old));
    }
    return index;
}

static unsigned line_length(const struct tkv_index *index, const struct line *line)
{
    struct line_walk walk = {0};
    unsigned length = 0;

    while (next_entry(index, line, &walk) != NULL)
        length++;
    return length;
}

/* Of all the index's. */
static struct line *longest_line(struct tkv_index *index)
{
    struct line *longest = line_at(index->shards[0].table.buckets, 0);

    for (unsigned s = 0; s < SHARD_COUNT; s++) {
        const UT_hash_table *table = &index->shards[s].table;

        for (unsigned b = 0; b < table->num_buckets; b += LINE_BUCKETS) {
            struct line *line = line_at(table->buckets, b);

            if (line_length(index, line) > line_length(index, longest))
                longest = line;
        }
    }
    return longest;
}

static unsigned longest_length(uint64_t seed, char keys[HOSTILE_KEYS][16])
{
    struct tkv_index *index = make_hostile_index(seed, keys);
    const unsigned length = line_length(index, longest_line(index));

    tkv_index_free(index);
    return length;
}

TEST(keys_that_collide_with_one_seed_do_not_with_another)
{
    static char keys[HOSTILE_KEYS][16];

    CHECK(longest_length(HOSTILE_SEED, keys) > 50); /* they are hostile */
    for (uint64_t seed = HOSTILE_SEED + 1; seed < HOSTILE_SEED + 50; seed++)
        CHECK(longest_length(seed, keys) <= 12);
}

TEST(every_opening_draws_a_seed_of_its_own)
{
    struct simdisk *disk = simdisk_new(1);
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    uint64_t seeds[3];

    options.background = false;
    for (unsigned i = 0; i < 3; i++) {
        struct tkv_store *store;

        CHECK_OK(tkv_open_on(&disk->os, "", &options, &store, NULL, &err));
        seeds[i] = store->index->seed;
        CHECK_OK(tkv_close(store, &err));
    }
    CHECK(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2]);
    simdisk_free(disk);
}

/* ---- Tags ------------------------------------------------------------------------------- */

static void check_tagged(uint64_t word, unsigned tag)
{
    struct line line = {0};
    uint64_t tagged;

    set_word(&line, word);
    for (unsigned slot = SLOT_COUNT; slot < 6; slot++)
        set_tag(&line, slot, 0); /* there is none: it looks free */
    tagged = slots_tagged(&line, tag);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        const bool has_it = (word >> (TAGS_AT + slot * 8) & TAG_MAX) == tag;

        CHECK_EQ(tagged != 0 && first_slot(tagged) == slot, has_it);
        if (has_it)
            tagged &= tagged - 1;
    }
    CHECK(tagged == 0 || (tag == 0 && first_slot(tagged) == SLOT_COUNT));
}

/* Two neighbours of a slot that differ from its tag by one bit, or are free, are the ones that
 * cheaper ways to compare all tags at once get wrong. */
TEST(the_slots_with_a_tag_are_found_and_no_others)
{
    static const uint64_t neighbours[] = {0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xfe, 0xff};
    const unsigned count = sizeof neighbours / sizeof *neighbours;

    for (unsigned a = 0; a < count; a++)
        for (unsigned b = 0; b < count; b++)
            for (unsigned c = 0; c < count; c++)
                for (unsigned tag = 0; tag < 256; tag++)
                    for (unsigned at = 0; at < 6; at++) {
                        const uint64_t three =
                            neighbours[a] | neighbours[b] << 8 | neighbours[c] << 16;

                        check_tagged(three << 8 * at | 0x0101, tag);
                        check_tagged(~(three << 8 * at), tag);
                    }
}

/* ---- The check -------------------------------------------------------------------------- */

/* With `field` other than it is, the index is wrong; as it was, it is right again. */
#define CHECK_SEEN(index, field, other)        \
    do {                                       \
        const __typeof__(field) was = (field); \
        (field) = (other);                     \
        CHECK(!tkv_index_check(index));        \
        (field) = was;                         \
        CHECK(tkv_index_check(index));         \
    } while (0)

/* The first of the shard that does, or does not, expire. */
static struct entry *entry_of(const struct tkv_index *index, const struct shard *shard,
                              bool expires)
{
    for (unsigned i = 0; i < shard->table.num_buckets; i += LINE_BUCKETS) {
        struct line_walk walk = {0};
        struct entry *entry;

        while ((entry = next_entry(index, line_at(shard->table.buckets, i), &walk)) != NULL)
            if (entry_expires(entry) == expires)
                return entry;
    }
    CHECK(false);
    return NULL;
}

static struct shard *shard_with_two_that_expire(struct tkv_index *index)
{
    unsigned i = 0;

    while (i < SHARD_COUNT && index->shards[i].due_count < 2)
        i++;
    CHECK(i < SHARD_COUNT);
    return &index->shards[i];
}

TEST(an_entry_that_belongs_elsewhere_is_seen)
{
    struct tkv_index *index = make_index();
    struct shard *shard = shard_with_two_that_expire(index);
    struct entry *entry = entry_of(index, shard, false);
    char *key = (char *)entry->hh.key;

    CHECK_SEEN(index, entry->hh.hashv, entry->hh.hashv ^ 1u << 31);
    CHECK_SEEN(index, key[0], 'K'); /* another hash, most likely of another shard */
    tkv_index_free(index);
}

/* Under another seed the key's hash has the same low bits as far as the line can tell, and
 * another shard; searched for, one of a few hundred. */
TEST(an_entry_of_another_shard_is_seen_though_its_line_fits)
{
    const struct tkv_slice key = tkv_text("key");
    struct tkv_index *index;
    struct tkv_location old, location = {.place = tkv_place(1, 64, 0), .size = 64};
    struct entry *entry;
    struct shard *shard;
    uint64_t hash, other;

    CHECK_OK(tkv_index_new(7, 0, &index, &err));
    hash = tkv_index_hash(index, key);
    CHECK_OK(tkv_index_reserve(index, key, hash, false, &err));
    CHECK(!tkv_index_put(index, key, hash, &location, &old));
    shard = &index->shards[hash >> 56];
    entry = entry_of(index, shard, false);
    do {
        index->seed++;
        other = tkv_index_hash(index, key);
    } while (other >> 56 == hash >> 56 ||
             tag_of(hashv_of(other)) != tag_of(hashv_of(hash)));
    CHECK(!tkv_index_check(index));
    entry->hh.hashv = hashv_of(other);
    CHECK(!tkv_index_check(index));
    tkv_index_free(index);
}

TEST(sizing_an_index_twice_or_when_it_is_full_changes_nothing_that_matters)
{
    struct tkv_index *index = make_index();

    tkv_index_presize(index, 100000);
    CHECK(tkv_index_check(index));
    tkv_index_presize(index, 100000);
    tkv_index_presize(index, 5000); /* smaller than it is, and well filled */
    CHECK(tkv_index_check(index));
    CHECK_EQ(tkv_index_count(index), KEYS);
    tkv_index_free(index);
}

TEST(an_expiry_that_the_heap_does_not_know_is_seen)
{
    struct tkv_index *index = make_index();
    struct shard *shard = shard_with_two_that_expire(index);
    struct entry *entry = entry_of(index, shard, true);
    struct expiry *expiry = expiry_of(entry);
    struct due *due = &shard->due[expiry->slot];

    CHECK_SEEN(index, expiry->slot, shard->due_count);
    CHECK_SEEN(index, expiry->slot, (expiry->slot + 1) % shard->due_count);
    CHECK_SEEN(index, expiry->expires_at_ms, expiry->expires_at_ms + 1);
    CHECK_SEEN(index, due->entry, NULL);
    CHECK_SEEN(index, shard->due[1].expires_at_ms, 1); /* before its parent */
    CHECK_SEEN(index, shard->earliest, 1);
    CHECK_SEEN(index, shard->due_reserved, shard->due_capacity);
    tkv_index_free(index);
}

TEST(an_expiry_at_zero_is_seen_though_the_heap_agrees)
{
    struct tkv_index *index = make_index();
    struct shard *shard = shard_with_two_that_expire(index);
    struct expiry *expiry = expiry_of(shard->due[0].entry);
    const uint64_t was = expiry->expires_at_ms;

    expiry->expires_at_ms = shard->due[0].expires_at_ms = 0;
    atomic_store(&shard->earliest, 0);
    CHECK(!tkv_index_check(index));
    expiry->expires_at_ms = shard->due[0].expires_at_ms = was;
    atomic_store(&shard->earliest, was);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

TEST(a_chain_that_is_wrong_is_seen)
{
    static char keys[HOSTILE_KEYS][16];
    struct tkv_index *index = make_hostile_index(HOSTILE_SEED, keys);
    struct line *line = longest_line(index);
    UT_hash_handle *first = line->bucket.hh_head;
    const struct slot slot = line->slots[0];

    CHECK_SEEN(index, first->hh_next->hh_prev, NULL);
    CHECK_SEEN(index, first->hashv, first->hashv ^ LINE_BUCKETS); /* of the next line */
    CHECK_SEEN(index, line->bucket.hh_head, first->hh_next);
    CHECK_SEEN(index, line->bucket.hh_head, NULL); /* the filter knows better */
    CHECK_SEEN(index, line->bucket.count, line->bucket.count & ~FILTER_MAX);
    line->slots[0].node = number_of_entry(entry_at(first)); /* in both */
    line->slots[0].guess = guess_of(entry_at(first)->place);
    CHECK(!tkv_index_check(index));
    line->slots[0] = slot;
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

static struct line *line_with_two(const struct shard *shard)
{
    for (unsigned i = 0; i < shard->table.num_buckets; i += LINE_BUCKETS) {
        struct line *line = line_at(shard->table.buckets, i);

        if (!slot_is_free(line, 0) && !slot_is_free(line, 1))
            return line;
    }
    CHECK(false);
    return NULL;
}

TEST(a_slot_that_is_wrong_is_seen)
{
    struct tkv_index *index = make_index();
    struct line *line = line_with_two(shard_with_two_that_expire(index));
    const uint64_t word = word_of(line);

    CHECK_SEEN(index, line->slots[0].guess, line->slots[0].guess + 1);
    CHECK_SEEN(index, line->slots[0].node, line->slots[1].node);
    CHECK_SEEN(index, line->bucket.count, line->bucket.count ^ 1);
    set_tag(line, 0, 0);
    CHECK(!tkv_index_check(index));
    set_word(line, word);
    set_tag(line, 0, tag_of(~entry_in(index, &line->slots[0])->hh.hashv));
    CHECK(!tkv_index_check(index));
    set_word(line, word);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

TEST(a_filter_without_a_chain_is_seen)
{
    struct tkv_index *index;

    CHECK_OK(tkv_index_new(7, 0, &index, &err));
    CHECK_SEEN(index, index->shards[9].first[0].count, 1);
    CHECK_SEEN(index, index->shards[9].first[0].count, FILTER_MAX);
    tkv_index_free(index);
}

TEST(a_table_whose_sums_are_wrong_is_seen)
{
    struct tkv_index *index = make_index();
    struct shard *shard = shard_with_two_that_expire(index);
    UT_hash_table *table = &shard->table;
    static UT_hash_bucket others[4];

    CHECK_SEEN(index, table->num_items, table->num_items + 1);
    CHECK_SEEN(index, table->log2_num_buckets, table->log2_num_buckets + 1);
    CHECK_SEEN(index, shard->bucket_count, 1);
    {
        UT_hash_bucket *const was = atomic_load(&shard->buckets);

        atomic_store(&shard->buckets, others);
        CHECK(!tkv_index_check(index));
        atomic_store(&shard->buckets, was);
    }
    tkv_index_free(index);
}

TEST(an_entry_that_claims_to_expire_is_seen_where_the_heap_knows_nothing_of_it)
{
    struct tkv_index *index = make_index();
    struct shard *shard = shard_with_two_that_expire(index);
    struct entry *entry = entry_of(index, shard, false);

    CHECK_SEEN(index, entry->place, entry->place | TKV_PLACE_EXPIRES);
    tkv_index_free(index);
}

TEST(sums_of_all_shards_that_are_wrong_are_seen)
{
    struct tkv_index *index = make_index();

    CHECK_SEEN(index, index->count, KEYS + 1);
    CHECK_SEEN(index, index->shards[9].bytes, index->shards[9].bytes + 1);
    CHECK_SEEN(index, index->arena_bytes, 1);
    tkv_index_free(index);
}

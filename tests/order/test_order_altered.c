/* SPDX-License-Identifier: MIT */
/* The order verifier sees groups, headers and manifests that say more than is true. */
#include "order_fixture.h"

/* ---- Groups that were altered ------------------------------------------------------------ */

static struct tkv_group last_group(struct order_fixture *f)
{
    struct tkv_group g;

    CHECK(f->group_size > 0);
    CHECK(tkv_group_decode_header(f->group, tkv_group_seed(f->store->uuid, f->group_offset),
                                  &g));
    return g;
}

/* As the engine would write it next, were it not for what `g` says. */
static void write_group(struct order_fixture *f, const struct tkv_group *g, uint64_t offset)
{
    (void)tkv_group_encode(g, tkv_group_seed(f->store->uuid, offset), f->group);
    (void)f->os->write(f->os, f->log_fd, f->group, f->group_size, offset);
}

static struct tkv_group next_group(struct order_fixture *f)
{
    struct tkv_group g = last_group(f);

    g.position += f->group_size;
    g.seq += g.count;
    return g;
}

TEST(a_group_over_one_that_is_still_needed_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);
    struct tkv_group g;

    put(f, "a", 10);
    g = next_group(f);
    write_group(f, &g, f->group_offset);
    end_broken(f, "overwrites groups that no durable checkpoint has released");
}

TEST(a_position_or_a_sequence_number_that_comes_again_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);
    struct tkv_group g;

    put(f, "a", 10);
    g = last_group(f);
    write_group(f, &g, f->group_offset + f->group_size);
    expect_broken(f, "position");
    g.position += 2 * f->group_size;
    write_group(f, &g, f->group_offset + 2 * f->group_size);
    end_broken(f, "sequence number 1 was used before");
}

TEST(a_watermark_that_claims_too_much_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_NONE);
    struct tkv_group g;

    put(f, "a", 10);
    g = next_group(f);
    g.position = tkv_round_up(g.position, TKV_BLOCK_SIZE);
    g.durable = g.position;
    write_group(f, &g, tkv_round_up(f->group_offset + 1, TKV_BLOCK_SIZE));
    end_broken(f, "is durable, which it is not");
}

TEST(a_group_in_a_block_that_was_durable_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_NONE);
    struct tkv_group g;

    put(f, "a", 10);
    CHECK_EQ(tkv_sync(f->store, NULL), TKV_OK);
    g = next_group(f);
    g.durable = g.position;
    write_group(f, &g, f->group_offset + f->group_size);
    end_broken(f, "begins in a block of bytes that were durable before");
}

TEST(a_group_beyond_what_was_synced_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);
    struct tkv_group g;

    put(f, "a", 10);
    g = next_group(f);
    write_group(f, &g, 64 * 1024);
    end_broken(f, "a group lies beyond the log's synced size 65536");
}

TEST(bytes_that_are_no_group_are_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    (void)f->os->write(f->os, f->log_fd, "something", 9, 16384);
    end_broken(f, "these bytes are no group");
}

/* ---- Headers that were altered ----------------------------------------------------------- */

static struct order_fixture *with_header(enum tkv_durability durability,
                                         struct tkv_wal_header *ret_next)
{
    struct order_fixture *f = open_fixture(durability);

    put(f, "a", 10);
    checkpoint(f);
    put(f, "b", 10);
    CHECK_EQ(tkv_wal_header_decode(f->header, 0, ret_next, NULL), TKV_OK);
    ret_next->checkpoint.generation++;
    return f;
}

static void write_header(struct order_fixture *f, const struct tkv_wal_header *header)
{
    tkv_wal_header_encode(header, f->header);
    (void)f->os->write(f->os, f->log_fd, f->header, sizeof f->header,
                       header->checkpoint.generation % 2 * TKV_BLOCK_SIZE);
}

TEST(a_header_in_the_block_of_the_newest_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.checkpoint.generation++;
    write_header(f, &h);
    end_broken(f, "the newest header is overwritten");
}

TEST(a_header_that_is_not_newer_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.checkpoint.generation -= 2;
    write_header(f, &h);
    end_broken(f, "is not newer than what is there");
}

TEST(a_header_of_the_other_block_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    tkv_wal_header_encode(&h, f->header);
    (void)f->os->write(f->os, f->log_fd, f->header, sizeof f->header,
                       (h.checkpoint.generation + 1) % 2 * TKV_BLOCK_SIZE);
    end_broken(f, "goes to the wrong block");
}

TEST(a_header_that_is_none_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    memset(f->header, 7, sizeof f->header);
    (void)f->os->write(f->os, f->log_fd, f->header, sizeof f->header, 0);
    end_broken(f, "these bytes are no log header");
}

TEST(a_header_of_another_manifest_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.manifest_epoch++;
    write_header(f, &h);
    end_broken(f, "it builds upon manifest 3, which is not durable");
}

TEST(a_header_whose_ring_ends_too_late_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.ring_end += TKV_BLOCK_SIZE;
    write_header(f, &h);
    end_broken(f, "the ring is said to end at");
}

TEST(a_mark_that_claims_too_much_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_NONE, &h);

    h.durable_mark = UINT64_MAX;
    write_header(f, &h);
    end_broken(f, "is durable, which it is not");
}

TEST(a_checkpoint_beyond_what_the_data_files_have_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.checkpoint.position += TKV_BLOCK_SIZE;
    write_header(f, &h);
    end_broken(f, "beyond sequence numbers 2 to 2, which are not in durable bytes");
}

TEST(a_checkpoint_that_goes_back_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.checkpoint.position -= TKV_BLOCK_SIZE;
    write_header(f, &h);
    end_broken(f, "lies before the last one");
}

TEST(a_durable_size_that_is_too_large_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.file_count = 1;
    h.files[0] = (struct tkv_wal_header_file){1, 1024 * 1024, false, 0};
    write_header(f, &h);
    end_broken(f, "0000000001.data is said to be durable up to 1048576");
}

TEST(a_durable_size_that_shrinks_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.file_count = 1;
    h.files[0] = (struct tkv_wal_header_file){1, 64, false, 0};
    write_header(f, &h);
    end_broken(f, "was durable up to 4096, and is said to be up to 64");
}

TEST(a_header_with_a_file_that_the_manifest_does_not_list_is_seen)
{
    struct tkv_wal_header h;
    struct order_fixture *f = with_header(TKV_DURABILITY_ALWAYS, &h);

    h.file_count = 1;
    h.files[0] = (struct tkv_wal_header_file){9, 64, false, 0};
    write_header(f, &h);
    end_broken(f, "it names data file 9, which manifest 2 does not list");
}

/* ---- Manifests that were altered --------------------------------------------------------- */

static struct order_fixture *with_manifest(struct tkv_manifest *ret_next)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);
    struct tkv_error err;

    put(f, "a", 10);
    checkpoint(f);
    CHECK_OK(tkv_manifest_read(f->os, f->dir, ret_next, &err));
    CHECK_EQ(ret_next->file_count, 1);
    ret_next->epoch++;
    return f;
}

static void end_with_manifest(struct order_fixture *f, struct tkv_manifest *m,
                              const char *rule)
{
    struct tkv_error err;
    bool unknown;

    CHECK_OK(tkv_manifest_write(f->os, f->dir, m, &unknown, &err));
    tkv_manifest_release(m);
    end_broken(f, rule);
}

TEST(a_manifest_out_of_turn_is_seen)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);

    m.epoch++;
    end_with_manifest(f, &m, "epoch 4 follows 2");
}

TEST(a_manifest_that_knows_a_header_of_the_future_is_seen)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);

    m.checkpoint.generation += 2;
    end_with_manifest(f, &m, "which is not durable");
}

TEST(a_manifest_that_lists_more_than_there_is_is_seen)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);

    m.files[0].durable_size += 1;
    end_with_manifest(f, &m,
                      "is said to be durable up to 4097, but is not synced that far");
}

TEST(a_manifest_that_lists_a_file_that_does_not_exist_is_seen)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);

    m.files[0].number = 7;
    m.next_number = 8;
    end_with_manifest(f, &m, "data file 7 does not exist");
}

TEST(a_manifest_that_may_come_and_go_is_seen_when_a_header_refers_to_it)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);
    struct tkv_wal_header h;
    struct tkv_error err;
    bool unknown;

    f->loses_directory_syncs = true;
    CHECK_OK(tkv_manifest_write(f->os, f->dir, &m, &unknown, &err));
    tkv_manifest_release(&m);
    CHECK_STR(f->message, "");
    CHECK_EQ(tkv_wal_header_decode(f->header, 0, &h, NULL), TKV_OK);
    h.checkpoint.generation++;
    h.manifest_epoch++;
    write_header(f, &h);
    end_broken(f, "it builds upon manifest 3, which is not durable");
}

TEST(a_checkpoint_in_a_manifest_beyond_the_data_files_is_seen)
{
    struct tkv_manifest m;
    struct order_fixture *f = with_manifest(&m);

    put(f, "b", 10);
    m.checkpoint.position = UINT64_MAX / 8 * 8 - 4096;
    end_with_manifest(f, &m, "beyond sequence numbers 2 to 2");
}

TEST_MAIN

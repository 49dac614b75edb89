/* SPDX-License-Identifier: MIT */
/* The model that judges power cuts tells every kind of wrong state from the right ones. */
#include "model.h"

#include "test.h"

TEST_MAIN

#define SEED 7u
#define LIFE 3u
#define LAST 200u /* steps issued */

static struct lab_stamp put_by(uint32_t life, unsigned thread, uint64_t step, unsigned item)
{
    return (struct lab_stamp){life, (uint16_t)thread, (uint16_t)item, step};
}

static void apply(struct lab_state *state, unsigned thread, uint64_t step)
{
    const struct lab_step s = lab_step_of(SEED, LIFE, thread, step);

    for (unsigned i = 0; i < s.count; i++)
        state->keys[thread][s.items[i].key] =
            s.items[i].is_delete ? (struct lab_stamp){0} : put_by(LIFE, thread, step, i);
}

static struct lab_state state_after(unsigned thread, uint64_t steps)
{
    struct lab_state state = {0};

    for (uint64_t step = 1; step <= steps; step++)
        apply(&state, thread, step);
    return state;
}

static bool matches(const struct lab_state *found, struct lab_range *ret_range)
{
    static const struct lab_state empty;
    struct lab_report why;

    return lab_model_match(SEED, LIFE, 0, &empty, found, LAST, ret_range, &why);
}

/* The first step from `from` on that is of this kind. */
static uint64_t find(enum lab_kind kind, uint64_t from)
{
    while (lab_step_of(SEED, LIFE, 0, from).kind != kind)
        from++;
    CHECK(from < LAST);
    return from;
}

TEST(each_state_that_a_thread_went_through_is_recognised)
{
    struct lab_range range;

    for (uint64_t steps = 0; steps <= LAST; steps++) {
        const struct lab_state found = state_after(0, steps);

        CHECK(matches(&found, &range));
        CHECK(range.least <= steps && steps <= range.most);
    }
}

TEST(steps_that_had_to_survive_and_did_not_are_counted)
{
    const uint64_t put = find(LAB_PUT, 50);
    const struct lab_state found = state_after(0, put);
    struct lab_range range;

    CHECK(matches(&found, &range));
    CHECK_EQ(lab_model_lost(&range, put), 0);
    CHECK_EQ(lab_model_lost(&range, range.most), 0);
    CHECK_EQ(lab_model_lost(&range, range.most + 3), 3);
}

TEST(a_missing_step_between_surviving_ones_is_no_state)
{
    const uint64_t put = find(LAB_PUT, 50);
    const unsigned key = lab_step_of(SEED, LIFE, 0, put).items[0].key;
    struct lab_state found = state_after(0, put + 2);
    struct lab_range range;

    CHECK_EQ(found.keys[0][key].step, put);
    found.keys[0][key] = state_after(0, put - 1).keys[0][key];
    CHECK(!matches(&found, &range));
}

TEST(half_a_batch_is_no_state)
{
    const uint64_t batch = find(LAB_BATCH, 50);
    const struct lab_state before = state_after(0, batch - 1);
    const struct lab_step s = lab_step_of(SEED, LIFE, 0, batch);
    struct lab_state found = state_after(0, batch);
    struct lab_range range;

    CHECK(s.items[0].key != s.items[1].key && !s.items[0].is_delete);
    found.keys[0][s.items[0].key] = before.keys[0][s.items[0].key];
    CHECK(!matches(&found, &range));
}

TEST(a_value_of_an_earlier_life_or_a_deleted_key_come_back_is_no_state)
{
    struct lab_state found = state_after(0, LAST);
    struct lab_range range;

    CHECK(found.keys[0][lab_step_of(SEED, LIFE, 0, LAST).items[0].key].step <= LAST);
    for (unsigned key = 0; key < LAB_KEYS; key++) {
        const struct lab_stamp right = found.keys[0][key];

        found.keys[0][key] = put_by(LIFE - 1, 0, 5, 0);
        CHECK(!matches(&found, &range));
        found.keys[0][key] = right;
    }
}

TEST(a_step_that_outlives_what_was_acknowledged_before_it_is_a_hole)
{
    struct lab_board *board = calloc(1, sizeof *board);
    const uint64_t issued[LAB_THREADS] = {9, 9, 0, 0};
    const struct lab_range whole[LAB_THREADS] = {
        {9, 9},
        {8, 8},
        {0, 0},
        {0, 0}
    };
    const struct lab_tickets(*tickets)[LAB_STEPS_MAX + 1] =
        (const struct lab_tickets(*)[LAB_STEPS_MAX + 1]) board->tickets;
    struct lab_report why;

    CHECK(board != NULL);
    board->tickets[1][9].ack = 40;   /* gone, acknowledged ... */
    board->tickets[0][9].issue = 41; /* ... before this one began, which is there */
    CHECK(lab_model_has_hole(tickets, whole, issued, &why));
    board->tickets[0][9].issue = 39;
    CHECK(!lab_model_has_hole(tickets, whole, issued, &why));
    board->tickets[1][9].ack = 0;
    CHECK(!lab_model_has_hole(tickets, whole, issued, &why));
    free(board);
}

TEST(bytes_that_no_write_made_are_no_value)
{
    static uint8_t bytes[LAB_SIZE_MAX];
    const uint64_t put = find(LAB_PUT, 20);
    const struct lab_item item = lab_step_of(SEED, LIFE, 0, put).items[0];
    const struct tkv_slice value = lab_value_of(put_by(LIFE, 0, put, 0), item.size, bytes);
    struct lab_stamp stamp;

    CHECK(lab_value_parse(SEED, 0, item.key, value, &stamp));
    CHECK_EQ(stamp.step, put);
    CHECK(!lab_value_parse(SEED, 1, item.key, value, &stamp));
    CHECK(!lab_value_parse(SEED, 0, item.key + 1, value, &stamp));
    for (uint32_t at = 0; at < item.size; at++) {
        bytes[at] ^= 1;
        CHECK(!lab_value_parse(SEED, 0, item.key, value, &stamp));
        bytes[at] ^= 1;
    }
    CHECK(!lab_value_parse(SEED, 0, item.key, tkv_bytes(bytes, item.size - 1), &stamp));
}

/* SPDX-License-Identifier: MIT */
/* run_match.c - is a store one of those that the contract allows after a failure? */
#include "run.h"

#define UNKNOWN_MAX 10u /* of the newest ones every combination is tried */

/* The writes of unknown outcome, newest first. */
static size_t list_unknown(const struct run *run, size_t ops[UNKNOWN_MAX])
{
    size_t count = 0;

    for (size_t op = run->oracle->issued; op-- > 0 && count < UNKNOWN_MAX;) {
        if (run->unknown[op])
            ops[count++] = op;
    }
    return count;
}

bool run_match(struct run *run, const struct oracle_found *found, size_t least, bool settle,
               struct oracle_report *why)
{
    struct oracle *oracle = run->oracle;
    size_t ops[UNKNOWN_MAX], prefix;
    const size_t count = list_unknown(run, ops);
    bool matches = false;

    for (size_t op = 0; op < oracle->issued; op++)
        oracle->ops[op].is_out |= run->unknown[op];
    for (uint32_t mask = 0; mask < 1u << count && !matches; mask++) {
        for (size_t i = 0; i < count; i++)
            oracle->ops[ops[i]].is_out = (mask >> i & 1) == 0;
        matches = oracle_match(oracle, found, least, oracle->issued, run->disk->wall_ms,
                               &prefix, why);
    }
    for (size_t i = 0; i < count; i++) {
        if (settle)
            run->unknown[ops[i]] = false;
        else
            oracle->ops[ops[i]].is_out = false;
    }
    return matches;
}

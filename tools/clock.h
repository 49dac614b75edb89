/* SPDX-License-Identifier: MIT */
/* clock.h - what time it is, and how much of it is left. */
#ifndef TINYKV_CLOCK_H
#define TINYKV_CLOCK_H

#include <stdint.h>
#include <time.h>

#define TTL_MS_MAX (UINT64_C(1) << 53) /* what every JSON reader takes; 285,000 years */

static inline uint64_t clock_read_ms(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Since 1970-01-01 UTC. */
static inline uint64_t clock_wall_ms(void)
{
    return clock_read_ms(CLOCK_REALTIME);
}

/* Since some moment in the past: for intervals. */
static inline uint64_t clock_steady_ms(void)
{
    return clock_read_ms(CLOCK_MONOTONIC);
}

/* What is left until `expires_at_ms`, from 1 to TTL_MS_MAX; 0 for what never expires. */
static inline uint64_t clock_ttl_ms(uint64_t expires_at_ms)
{
    const uint64_t now_ms = clock_wall_ms();

    if (expires_at_ms == 0)
        return 0;
    if (expires_at_ms <= now_ms)
        return 1;
    return expires_at_ms - now_ms < TTL_MS_MAX ? expires_at_ms - now_ms : TTL_MS_MAX;
}

#endif

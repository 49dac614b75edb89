/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as options: 16 fields, each of the bytes given or left at its default.
 *
 *     which u16 | for each bit that is set: u64
 *
 * What is accepted is within the ranges that tinykv.h states.
 */
#include "fuzz.h"
#include "memory.h"
#include "store.h"

static struct tkv_options take_options(struct fuzz_input *in)
{
    struct tkv_options o = TKV_OPTIONS_DEFAULT;
    const unsigned which = fuzz_u16(in);
    uint64_t bits;

#define TAKE(bit, field, type)      \
    if ((which & 1u << (bit)) != 0) \
    o.field = (type)fuzz_u64(in)
    TAKE(0, size, size_t);
    TAKE(1, durability, enum tkv_durability);
    TAKE(2, interval_ms, uint32_t);
    TAKE(3, read_mode, enum tkv_read_mode);
    TAKE(4, compress_level, unsigned);
    TAKE(5, compress_size_min, uint32_t);
    TAKE(6, data_file_size_min, uint64_t);
    TAKE(7, data_file_size_max, uint64_t);
    TAKE(8, compact_size_min, uint64_t);
    TAKE(9, wal_size_max, uint64_t);
    TAKE(10, expected_keys, uint64_t);
    TAKE(12, idle_poll_us, uint64_t);
#undef TAKE
    if ((which & 1u << 11) != 0) {
        bits = fuzz_u64(in);
        memcpy(&o.space_factor, &bits, sizeof o.space_factor);
    }
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const struct tkv_options o = take_options(&in);
    struct tkv_error err = {.message = ""};
    const enum tkv_status status = tkv_options_check(&o, &err);

    if (status != TKV_OK) {
        FUZZ_CHECK(status == TKV_INVALID && err.message[0] != 0);
        return 0;
    }
    FUZZ_CHECK(o.size == sizeof o && (unsigned)o.durability <= TKV_DURABILITY_NONE);
    FUZZ_CHECK((unsigned)o.read_mode <= TKV_READ_PREAD && o.compress_level <= 9);
    FUZZ_CHECK(o.interval_ms >= 1 && o.interval_ms <= 3600u * 1000);
    FUZZ_CHECK(o.data_file_size_min >= 65536 &&
               o.data_file_size_min <= o.data_file_size_max);
    FUZZ_CHECK(o.data_file_size_max <= 512u * 1024 * 1024);
    FUZZ_CHECK(o.wal_size_max >= 65536 && o.wal_size_max <= UINT64_C(16) << 30);
    FUZZ_CHECK(o.idle_poll_us <= 10000);
    FUZZ_CHECK(o.space_factor >= 1.05 && o.space_factor <= 10);
    return 0;
}

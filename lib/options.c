/* SPDX-License-Identifier: MIT */
/* options.c - every option has a range, and a value outside is refused with both. */
#include "store.h"

static enum tkv_status check_range(const char *name, uint64_t value, uint64_t least,
                                   uint64_t most, struct tkv_error *err)
{
    if (value >= least && value <= most)
        return TKV_OK;
    return tkv_fail(err, TKV_INVALID, "option %s is %llu, not in [%llu, %llu]", name,
                    (unsigned long long)value, (unsigned long long)least,
                    (unsigned long long)most);
}

/* An opening reads the log into memory. */
#define WAL_SIZE_MAX (SIZE_MAX < UINT64_MAX ? UINT64_C(512) << 20 : UINT64_C(16) << 30)

static enum tkv_status check_ranges(const struct tkv_options *options,
                                    struct tkv_error *err)
{
    const struct range {
        const char *name;
        uint64_t value, least, most;
    } ranges[] = {
        {"durability",         options->durability,         TKV_DURABILITY_ALWAYS,       TKV_DURABILITY_NONE},
        {"interval_ms",        options->interval_ms,        1,                           3600u * 1000       },
        {"read_mode",          options->read_mode,          TKV_READ_MMAP,               TKV_READ_PREAD     },
        {"damage",             options->damage,             TKV_DAMAGE_REFUSE,           TKV_DAMAGE_NEWEST  },
        {"compress_level",     options->compress_level,     0,                           9                  },
        {"compress_size_min",  options->compress_size_min,  0,                           TKV_VALUE_SIZE_MAX },
        {"data_file_size_min", options->data_file_size_min, TKV_FILE_SIZE_MIN,
         512u * 1024 * 1024                                                                                 },
        {"data_file_size_max", options->data_file_size_max, options->data_file_size_min,
         512u * 1024 * 1024                                                                                 },
        {"compact_size_min",   options->compact_size_min,   0,                           INT64_MAX          },
        {"wal_size_max",       options->wal_size_max,       64u * 1024,                  WAL_SIZE_MAX       },
        {"idle_poll_us",       options->idle_poll_us,       0,                           10000              },
        {"expected_keys",      options->expected_keys,      0,                           UINT64_C(1) << 40  },
    };

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const struct range *r = &ranges[i];
        const enum tkv_status status =
            check_range(r->name, r->value, r->least, r->most, err);

        if (status != TKV_OK)
            return status;
    }
    return TKV_OK;
}

enum tkv_status tkv_options_check(const struct tkv_options *options, struct tkv_error *err)
{
    enum tkv_status status;

    if (options->size != sizeof *options) /* then there may be nothing behind it */
        return tkv_fail(err, TKV_INVALID,
                        "option size is %zu, not %zu: start from TKV_OPTIONS_DEFAULT",
                        options->size, sizeof *options);
    status = check_ranges(options, err);
    if (status != TKV_OK)
        return status;
    if (options->damage != TKV_DAMAGE_REFUSE && !options->read_only)
        return tkv_fail(err, TKV_INVALID, "option damage is %d, which needs read_only",
                        (int)options->damage);
    if (!(options->space_factor >= 1.05 && options->space_factor <= 10))
        return tkv_fail(err, TKV_INVALID, "option space_factor is %g, not in [1.05, 10]",
                        options->space_factor);
    return TKV_OK;
}

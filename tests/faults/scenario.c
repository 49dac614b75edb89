/* SPDX-License-Identifier: MIT */
#include "scenario.h"

static struct {
    const struct scenario *first;
    const size_t *count;
} tables[] = {
    {scenarios_of_opening, &scenarios_of_opening_count},
    {scenarios_of_writing, &scenarios_of_writing_count},
    {scenarios_of_upkeep,  &scenarios_of_upkeep_count },
    {scenarios_of_reading, &scenarios_of_reading_count},
};

#define TABLES (sizeof tables / sizeof *tables)

size_t scenario_count(void)
{
    size_t count = 0;

    for (size_t i = 0; i < TABLES; i++)
        count += *tables[i].count;
    return count;
}

const struct scenario *scenario_at(size_t number)
{
    for (size_t i = 0; i < TABLES; i++) {
        if (number < *tables[i].count)
            return &tables[i].first[number];
        number -= *tables[i].count;
    }
    return NULL;
}

const struct scenario *scenario_find(const char *name)
{
    for (size_t i = 0; i < scenario_count(); i++) {
        if (strcmp(scenario_at(i)->name, name) == 0)
            return scenario_at(i);
    }
    return NULL;
}

/* Small: a log that wraps, and data files that rotate, within a few writes. */
struct tkv_options scenario_options(const struct scenario *scenario)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.auto_compact = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = options.data_file_size_max = 64 * 1024;
    options.compact_size_min = 0;
    if (scenario->set_options != NULL)
        scenario->set_options(&options);
    return options;
}

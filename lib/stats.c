/* SPDX-License-Identifier: MIT */
/* stats.c - counters, gathered from those who keep them. */
#include "store.h"

static void sum_gets(struct tkv_store *store, struct tkv_stats *stats)
{
    for (unsigned i = 0; i < TKV_EPOCH_STRIPES; i++) {
        stats->gets += atomic_load(&store->epoch.stripes[i].gets);
        stats->gets_missing += atomic_load(&store->epoch.stripes[i].gets_missing);
    }
}

static void describe_data(struct tkv_store *store, struct tkv_stats *stats)
{
    stats->keys = tkv_index_count(store->index);
    stats->live_bytes = tkv_usage_get(&store->live_bytes);
    stats->disk_bytes = tkv_files_disk_bytes(store);
    stats->dead_bytes =
        stats->disk_bytes > stats->live_bytes ? stats->disk_bytes - stats->live_bytes : 0;
    stats->data_files = tkv_usage_get(&store->file_count);
    stats->index_bytes = tkv_index_bytes(store->index);
    if (stats->keys > 0)
        stats->index_bytes_per_key = (double)stats->index_bytes / (double)stats->keys;
    stats->seq_last = atomic_load(&store->seq_last);
}

static void describe_log(struct tkv_store *store, struct tkv_stats *stats)
{
    struct tkv_wal_state state;

    if (store->wal.os == NULL) { /* read-only */
        stats->wal_bytes = store->log_bytes;
        return;
    }
    tkv_wal_state(&store->wal, &state);
    stats->wal_bytes = state.end;
    stats->wal_used_bytes = state.used;
    stats->wal_bytes_written = state.counters.bytes_written;
    stats->fsyncs = state.counters.syncs;
    stats->groups = state.counters.groups;
    stats->group_records = state.counters.records;
    stats->group_records_max = state.counters.records_max;
}

static void describe_work(struct tkv_store *store, struct tkv_stats *stats)
{
    struct tkv_counters *c = &store->counters;

    stats->puts = tkv_usage_get(&c->puts);
    stats->deletes = tkv_usage_get(&c->deletes);
    stats->user_bytes_written = tkv_usage_get(&c->user_bytes_written);
    stats->data_bytes_written = tkv_usage_get(&c->data_bytes_written);
    stats->fsyncs += tkv_usage_get(&c->data_syncs);
    stats->checkpoints = tkv_usage_get(&c->checkpoints);
    stats->compactions = tkv_usage_get(&c->compactions);
    stats->compaction_bytes_read = tkv_usage_get(&c->compaction_bytes_read);
    stats->compaction_bytes_written = tkv_usage_get(&c->compaction_bytes_written);
    stats->compaction_bytes_reclaimed = tkv_usage_get(&c->compaction_bytes_reclaimed);
    stats->last_compaction_at_ms = tkv_usage_get(&c->last_compaction_at_ms);
    stats->last_compaction_micros = tkv_usage_get(&c->last_compaction_micros);
}

enum tkv_status TKV_COLD tkv_stats(struct tkv_store *store, struct tkv_stats *ret_stats,
                                   struct tkv_error *err)
{
    struct tkv_stats stats;
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK)
        return status;
    memset(&stats, 0, sizeof stats);
    tkv_upkeep_expire(store); /* so that expired keys are not counted */
    describe_data(store, &stats);
    describe_log(store, &stats);
    describe_work(store, &stats);
    sum_gets(store, &stats);
    stats.poisoned = (enum tkv_status)atomic_load(&store->poisoned);
    stats.disk_full = atomic_load(&store->disk_full);
    *ret_stats = stats;
    return TKV_OK;
}

static struct tkv_file_stats describe_file(struct tkv_datafile *file)
{
    return (struct tkv_file_stats){
        .number = file->number,
        .size = atomic_load(&file->size),
        .live_bytes = tkv_usage_get(&file->usage.live_bytes),
        .tombstone_bytes = tkv_usage_get(&file->usage.tombstone_bytes),
        .live_records = tkv_usage_get(&file->usage.live_records),
        .records = tkv_usage_get(&file->usage.records),
        .seq_min = file->seq_min,
        .seq_max = file->seq_max,
        .sealed = atomic_load(&file->sealed),
        .compacted = file->file_class == TKV_FILE_COMPACTED,
        .large_value = file->file_class == TKV_FILE_LARGE,
    };
}

enum tkv_status tkv_file_stats(struct tkv_store *store, struct tkv_file_stats *files,
                               size_t capacity, size_t *ret_count, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check(store, err);
    struct tkv_datafile *file;
    size_t count = 0;
    uint32_t slot = 0;

    if (status != TKV_OK)
        return status;
    tkv_mutex_lock(&store->apply); /* who appends changes the sequence numbers */
    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (count < capacity)
            files[count] = describe_file(file);
        count++;
    }
    tkv_mutex_unlock(&store->apply);
    *ret_count = count;
    return TKV_OK;
}

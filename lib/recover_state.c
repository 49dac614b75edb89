/* SPDX-License-Identifier: MIT */
/*
 * recover_state.c - what MANIFEST and the log's header say together. Each was written when the
 * other was as it was then: whatever they cannot both have said is damage.
 *
 * Nothing is changed here, so nothing is left behind when it fails.
 */
#include "recovery.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LOG_SIZE_MAX (UINT64_C(16) << 30) /* the most that option wal_size_max allows */

/* ---- Manifest and log header ----------------------------------------------------- */

static struct tkv_manifest_file *listed(struct tkv_recovery *r, uint64_t number)
{
    for (size_t i = 0; i < r->manifest.file_count; i++) {
        if (r->manifest.files[i].number == number)
            return &r->manifest.files[i];
    }
    return NULL;
}

/* The header's files are news about those of the manifest that it names. */
static enum tkv_status merge_header(struct tkv_recovery *r, struct tkv_error *err)
{
    const struct tkv_wal_header *h = &r->header;

    if (h->manifest_epoch > r->manifest.epoch)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is number %llu, but %s knows number %llu",
                                (unsigned long long)r->manifest.epoch, TKV_WAL_NAME,
                                (unsigned long long)h->manifest_epoch);
    /* One unreadable block may have been the newest header; with both readable there was none
     * newer. */
    if (h->checkpoint.generation + h->is_next_best < r->manifest.checkpoint.generation)
        return tkv_fail_corrupt(
            err, TKV_WAL_NAME, 0, 0, "its header is number %llu, but %s knows number %llu",
            (unsigned long long)h->checkpoint.generation, TKV_MANIFEST_NAME,
            (unsigned long long)r->manifest.checkpoint.generation);
    r->from = r->manifest.checkpoint;
    if (h->manifest_epoch < r->manifest.epoch)
        return TKV_OK;
    /* It was written after the manifest, and nothing is ever counted down. */
    if (h->checkpoint.position < r->manifest.checkpoint.position ||
        h->checkpoint.seq_next < r->manifest.checkpoint.seq_next)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0,
                                "its checkpoint lies before that of %s", TKV_MANIFEST_NAME);
    r->from = h->checkpoint;
    for (uint32_t i = 0; i < h->file_count; i++) {
        struct tkv_manifest_file *file = listed(r, h->files[i].number);

        if (file == NULL)
            return tkv_fail_corrupt(
                err, TKV_WAL_NAME, 0, 0, "its header has data file %llu, %s does not",
                (unsigned long long)h->files[i].number, TKV_MANIFEST_NAME);
        file->durable_size = h->files[i].durable_size;
        file->record_sum = h->files[i].record_sum;
        file->sealed = h->files[i].sealed;
    }
    return TKV_OK;
}

#define HUGE_PAGE ((size_t)2 * 1024 * 1024)

/* The log of a busy store has 64 MiB or more: in huge pages the system hands them out and clears
 * them in a tenth of the time. */
static uint8_t *new_buffer(uint64_t size)
{
    const uint64_t pages = tkv_round_up(size, HUGE_PAGE);
    uint8_t *bytes;

    if (size < HUGE_PAGE)
        return malloc((size_t)size);
    if (pages > SIZE_MAX)
        return NULL;
    bytes = aligned_alloc(HUGE_PAGE, (size_t)pages);
#ifdef MADV_HUGEPAGE
    if (bytes != NULL)
        (void)madvise(bytes, (size_t)size, MADV_HUGEPAGE); /* only a wish */
#endif
    return bytes;
}

static enum tkv_status read_log(struct tkv_recovery *r, int fd, struct tkv_error *err)
{
    struct tkv_os *os = r->store->os;
    enum tkv_status status;
    int result;

    /* After a failed sync the cache may hold what the disk does not, the size included. */
    (void)os->advise(os, fd, TKV_OS_DROP_CACHE);
    result = os->file_size(os, fd, &r->log_size);
    if (result < 0)
        return tkv_fail_os(err, result, TKV_WAL_NAME, "size of %s", TKV_WAL_NAME);
    if (r->log_size < TKV_WAL_RING_START)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, r->log_size, 0,
                                "the file ends in its header");
    status = tkv_wal_read_header(os, fd, &r->header, err);
    if (status != TKV_OK)
        return status;
    r->store->log_bytes = r->log_size;
    atomic_store(&r->store->flush_kept, r->log_size); /* of it, most may go to data files */
    if (r->log_size > LOG_SIZE_MAX)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, LOG_SIZE_MAX, 0,
                                "the file has %llu bytes, more than any log",
                                (unsigned long long)r->log_size);
    if (r->log_size < r->header.ring_end)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, r->log_size, 0,
                                "the file had %llu bytes",
                                (unsigned long long)r->header.ring_end);
    r->log = new_buffer(r->log_size);
    if (r->log == NULL)
        return tkv_fail_memory(err, r->log_size, "the log");
    result = tkv_os_read_all(os, fd, r->log, (size_t)r->log_size, 0);
    if (result < 0)
        return tkv_fail_os(err, result, TKV_WAL_NAME, "read %s", TKV_WAL_NAME);
    return TKV_OK;
}

/* Counters begin at 1 and are counted up one by one, or byte by byte: none comes near this
 * end, from which a recovered store could count on for ever all the same. */
#define COUNTER_END (UINT64_C(1) << 62)

static enum tkv_status check_counters(const struct tkv_recovery *r, struct tkv_error *err)
{
    const struct {
        const char *file, *name;
        uint64_t value;
    } counters[] = {
        {TKV_MANIFEST_NAME, "epoch",       r->manifest.epoch                },
        {TKV_MANIFEST_NAME, "next number", r->manifest.next_number          },
        {TKV_MANIFEST_NAME, "generation",  r->manifest.checkpoint.generation},
        {TKV_WAL_NAME,      "generation",  r->header.checkpoint.generation  },
        {TKV_WAL_NAME,      "position",    r->from.position                 },
        {TKV_WAL_NAME,      "seq next",    r->from.seq_next                 },
    };

    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        if (counters[i].value >= COUNTER_END)
            return tkv_fail_corrupt(err, counters[i].file, 0, 0, "its %s is %llu",
                                    counters[i].name,
                                    (unsigned long long)counters[i].value);
    }
    return TKV_OK;
}

static enum tkv_status open_log(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_os *os = r->store->os;
    const int fd = os->open(os, r->store->dir, TKV_WAL_NAME, TKV_OS_READ);
    enum tkv_status status;

    if (fd == -ENOENT)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0, "the file is missing");
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    status = read_log(r, fd, err);
    (void)os->close(os, fd);
    return status;
}

/* The header is believed when it could be read; else the manifest's checkpoint stands alone. */
static void do_without_log(struct tkv_recovery *r)
{
    free(r->log);
    r->log = NULL;
    if (memcmp(r->header.uuid, r->store->uuid, sizeof r->header.uuid) != 0 ||
        merge_header(r, NULL) != TKV_OK) {
        memset(&r->header, 0, sizeof r->header);
        r->from = r->manifest.checkpoint;
    }
    tkv_gaps_note_log(r->store, r->report, 0, r->log_size);
    r->log_size = 0;
}

enum tkv_status tkv_recovery_read_state(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = tkv_manifest_read(store->os, store->dir, &r->manifest, err);

    if (status != TKV_OK)
        return status;
    memcpy(store->uuid, r->manifest.uuid, sizeof store->uuid);
    status = open_log(r, err);
    if (tkv_gaps_accept(store, status)) {
        do_without_log(r);
        return check_counters(r, err);
    }
    if (status != TKV_OK)
        return status;
    if (memcmp(r->header.uuid, store->uuid, sizeof store->uuid) != 0)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 16, 0,
                                "it belongs to another store than %s", TKV_MANIFEST_NAME);
    status = merge_header(r, err);
    return status == TKV_OK ? check_counters(r, err) : status;
}
